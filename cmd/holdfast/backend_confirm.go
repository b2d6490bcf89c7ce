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
	return api.HostConfirmed{Host: p.Host, HostID: p.HostID, Generation: p.Generation, Reason: p.Evidence, By: p.By, Forced: req.Force,
		Lockspaces: spaceOutcomes(done.Freed)}, nil
}

// RemoveHost takes a dead host out of the cluster; it runs on the leader.
func (b *backend) RemoveHost(ctx context.Context, name string, req api.HostRemove, by string) (api.HostRemoved, error) {
	if _, _, err := b.pool(); err != nil {
		return api.HostRemoved{}, err
	}
	mgr := b.host.Manager()
	if mgr == nil {
		return api.HostRemoved{}, apiError(manager.ErrNotLeading)
	}
	done, err := mgr.RemoveHost(ctx, manager.Removal{Host: name, By: by, Force: req.Force, Reason: req.Reason})
	if err != nil {
		return api.HostRemoved{}, apiError(err)
	}
	p := done.Proof
	return api.HostRemoved{Host: p.Host, HostID: p.HostID, Generation: p.Generation, Evidence: p.Evidence, By: by, Forced: req.Force,
		Lockspaces: spaceOutcomes(done.Freed)}, nil
}

// spaceOutcomes are sorted by domain.
func spaceOutcomes(freed []manager.FreeOutcome) []api.SpaceOutcome {
	out := []api.SpaceOutcome{}
	for _, f := range freed {
		out = append(out, spaceOutcome(f))
	}
	slices.SortFunc(out, func(a, b api.SpaceOutcome) int { return strings.Compare(a.Domain, b.Domain) })
	return out
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
