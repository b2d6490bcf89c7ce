package main

import (
	"context"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/http/api"
)

// ConfirmRebooted takes a person's word about a host; it runs on the leader.
func (b *backend) ConfirmRebooted(ctx context.Context, name string, req api.HostConfirm, by string) (api.HostConfirmed, error) {
	if _, _, err := b.pool(); err != nil {
		return api.HostConfirmed{}, err
	}
	mgr := b.host.Manager()
	if mgr == nil {
		return api.HostConfirmed{}, apiError(manager.ErrNotLeading)
	}
	done, err := mgr.ConfirmRebooted(ctx, manager.Confirmation{Host: name, Reason: req.Reason, By: by, Force: req.Force})
	if err != nil {
		return api.HostConfirmed{}, apiError(err)
	}
	p := done.Proof
	out := api.HostConfirmed{Host: p.Host, HostID: p.HostID, Generation: p.Generation, Reason: p.Evidence, By: p.By, Forced: req.Force,
		Lockspaces: []api.SpaceOutcome{}}
	for _, f := range done.Freed {
		out.Lockspaces = append(out.Lockspaces, spaceOutcome(f))
	}
	slices.SortFunc(out.Lockspaces, func(a, b api.SpaceOutcome) int { return strings.Compare(a.Domain, b.Domain) })
	return out, nil
}

func spaceOutcome(f manager.FreeOutcome) api.SpaceOutcome {
	o := api.SpaceOutcome{Domain: f.Lockspace, Result: api.SpaceFreed}
	switch {
	case f.Err != nil:
		o.Result, o.Message = api.SpaceFailed, f.Err.Error()
	case f.Verdict == manager.VerdictDone:
		o.Result = api.SpaceAlready
	case f.Verdict == manager.VerdictVoid || f.Verdict == manager.VerdictOther:
		o.Result, o.Message = api.SpaceChanged, "the record changed since; its leases are waited for"
	}
	return o
}
