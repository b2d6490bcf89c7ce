package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

var (
	// ErrUnreachable means that the request surely never reached the other host.
	ErrUnreachable error = &codedError{"unreachable", "host is not reachable"}
	// ErrOutcomeUnknown means that the request was sent and no answer came: it may have been carried out.
	ErrOutcomeUnknown error = &codedError{"outcome_unknown", "no answer came: it is not known whether the request was carried out"}
	// ErrNoMethod means that the other host does not know the method; it may run an older release.
	ErrNoMethod error = &codedError{"no_method", "the host does not know this method"}
	// ErrIsolated means that this host cut its own raft connections on purpose.
	ErrIsolated error = &codedError{"isolated", "raft connections of this host are cut"}
)

type codedError struct{ code, text string }

func (e *codedError) Error() string     { return e.text }
func (e *codedError) ErrorCode() string { return e.code }

// Coded is an error with a code that keeps its meaning between hosts and releases.
type Coded interface {
	error
	ErrorCode() string
}

// Detailed is an error with facts that should travel along, as JSON.
type Detailed interface {
	error
	ErrorDetail() any
}

// RemoteError is an error that another host answered with. errors.Is holds for a target with the same code.
type RemoteError struct {
	Host    string          `json:"-"`
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// Error is the other host's message.
func (e *RemoteError) Error() string { return fmt.Sprintf("host %s: %s", e.Host, e.Message) }

// ErrorCode is the other host's code.
func (e *RemoteError) ErrorCode() string { return e.Code }

// ErrorDetail passes the other host's facts on.
func (e *RemoteError) ErrorDetail() any { return e.Detail }

// Is compares codes.
func (e *RemoteError) Is(target error) bool {
	c, ok := target.(interface{ ErrorCode() string })
	return ok && e.Code != "" && c.ErrorCode() == e.Code
}

// ErrorCode finds the code of an error; "internal" when it has none.
func ErrorCode(err error) string {
	var c Coded
	switch {
	case errors.As(err, &c) && c.ErrorCode() != "":
		return c.ErrorCode()
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "internal"
}

// statusFailed marks an answer whose body is a RemoteError, so that it is not taken for an error of HTTP itself.
const statusFailed = http.StatusUnprocessableEntity

// WriteError answers a request with an error that ReadError understands.
func WriteError(w http.ResponseWriter, err error) {
	out := RemoteError{Code: ErrorCode(err), Message: err.Error()}
	var d Detailed
	if errors.As(err, &d) {
		out.Detail, _ = json.Marshal(d.ErrorDetail()) // facts that do not encode are left out; the message stays
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusFailed)
	_ = json.NewEncoder(w).Encode(out) // the peer is gone when this fails
}

// ReadAnswer turns an HTTP answer into out or an error. A broken answer leaves the outcome unknown.
func ReadAnswer(host string, resp *http.Response, out any) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxBody))
	switch resp.StatusCode {
	case http.StatusOK:
		if out == nil {
			return nil
		}
		if err := dec.Decode(out); err != nil {
			return fmt.Errorf("reading answer of %s: %w (%w)", host, ErrOutcomeUnknown, err)
		}
		return nil
	case statusFailed:
		remote := &RemoteError{Host: host}
		if err := dec.Decode(remote); err != nil {
			return fmt.Errorf("reading answer of %s: %w (%w)", host, ErrOutcomeUnknown, err)
		}
		return remote
	}
	return fmt.Errorf("host %s: %w: HTTP status %s", host, ErrOutcomeUnknown, resp.Status)
}
