package httpapi

import (
	"context"
	"net/http"

	"github.com/holdfast-io/holdfast/http/api"
)

// MaxHostWait bounds how long a request about a host waits for it, in seconds.
const MaxHostWait = 45

// changeHost decodes and checks a request about a host and runs it.
func changeHost[Req any](b *Backend, r *http.Request, check func(Req) error, run func(ctx context.Context, name string, req Req, by string) (api.Host, error)) (reply, error) {
	name, err := pathVar(r, "name")
	if err != nil {
		return reply{}, err
	}
	if err := checkHostRef(name); err != nil {
		return reply{}, err
	}
	var req Req
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := check(req); err != nil {
		return reply{}, err
	}
	if b.Hosts == nil {
		return reply{}, notMember()
	}
	h, err := run(r.Context(), name, req, identityOf(r.Context()).Name)
	if err != nil {
		return reply{}, err
	}
	h.Witnesses = noNil(h.Witnesses)
	return reply{body: h}, nil
}

// checkWait looks at what every wish for a host has.
func checkWait(reason string, seconds int) error {
	if err := checkText("reason", reason, maxReason); err != nil {
		return err
	}
	if seconds < 0 || seconds > MaxHostWait {
		return invalid("ask again later instead: what is wanted stays", "wait_seconds is %d, it must be between 0 and %d", seconds, MaxHostWait)
	}
	return nil
}

func maintainHost(b *Backend, r *http.Request) (reply, error) {
	check := func(req api.HostMaintain) error { return checkWait(req.Reason, req.WaitSeconds) }
	return changeHost(b, r, check, func(ctx context.Context, name string, req api.HostMaintain, by string) (api.Host, error) {
		return b.Hosts.MaintainHost(ctx, name, req, by)
	})
}

func activateHost(b *Backend, r *http.Request) (reply, error) {
	check := func(req api.HostActivate) error { return checkWait(req.Reason, req.WaitSeconds) }
	return changeHost(b, r, check, func(ctx context.Context, name string, req api.HostActivate, by string) (api.Host, error) {
		return b.Hosts.ActivateHost(ctx, name, req, by)
	})
}

// Bounds of an SPM priority.
const (
	minPriority = -1
	maxPriority = 10
)

func checkHostSet(req api.HostSet) error {
	switch p := req.Priority; {
	case p == nil:
		return invalid("give priority", "nothing to set")
	case *p < minPriority || *p > maxPriority:
		return invalid("-1 is never, 10 comes first", "priority is %d, it must be between %d and %d", *p, minPriority, maxPriority)
	}
	return nil
}

func setHost(b *Backend, r *http.Request) (reply, error) {
	return changeHost(b, r, checkHostSet, func(ctx context.Context, name string, req api.HostSet, by string) (api.Host, error) {
		return b.Hosts.SetHost(ctx, name, req, by)
	})
}
