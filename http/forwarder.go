package httpapi

import (
	"errors"
	"net/http"
)

// ErrNotSent is wrapped by a RoundTripper's error when not a byte of the request reached the other host, so that it
// is safe to send it again. Failures to dial are recognised without it.
var ErrNotSent = errors.New("request was not sent")

// Target is the host that should run a request.
type Target struct {
	// Host is its name; empty when nobody has the role now.
	Host string
	// Epoch tells two terms of the same host apart: the SPM epoch, or the Raft term.
	Epoch uint64
	// Self is true when this host has the role and serves now, or when the request belongs here anyway because the
	// cluster has no pool yet.
	Self bool
}

// Forwarder knows where the roles are and how to get there. What to do with that knowledge (waiting, one retry, one
// hop) is decided in this package.
type Forwarder interface {
	// SPM is the host that serves as SPM; Host is empty while the role starts, stops or moves.
	SPM() Target
	// Leader is the host that leads the cluster.
	Leader() Target
	// Changed returns a channel that is closed when SPM or Leader may answer differently. It is asked for before
	// SPM and Leader, so that no change is missed.
	Changed() <-chan struct{}
	// RoundTripper reaches the API of another member over the cluster's own TLS; there it arrives at a handler made
	// with Handler.For(Peers()).
	RoundTripper(host string) http.RoundTripper
}
