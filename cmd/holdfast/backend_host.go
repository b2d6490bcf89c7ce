package main

import (
	"context"
	"time"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
)

// managing is this host's manager, while it leads.
func (b *backend) managing() (*manager.Manager, error) {
	if _, _, err := b.pool(); err != nil {
		return nil, err
	}
	mgr := b.host.Manager()
	if mgr == nil {
		return nil, apiError(manager.ErrNotLeading)
	}
	return mgr, nil
}

// SetHost changes settings of a host; it runs on the leader.
func (b *backend) SetHost(ctx context.Context, name string, req api.HostSet, by string) (api.Host, error) {
	mgr, err := b.managing()
	if err != nil {
		return api.Host{}, err
	}
	h, err := mgr.SetPriority(ctx, name, *req.Priority, by)
	return b.shownHost(h, err)
}

// MaintainHost wants a host out of use; it runs on the leader.
func (b *backend) MaintainHost(ctx context.Context, name string, req api.HostMaintain, by string) (api.Host, error) {
	mgr, err := b.managing()
	if err != nil {
		return api.Host{}, err
	}
	h, err := mgr.Maintain(ctx, manager.MaintenanceRequest{Host: name, By: by, Reason: req.Reason, Force: req.Force,
		Wait: time.Duration(req.WaitSeconds) * time.Second})
	return b.shownHost(h, err)
}

// ActivateHost takes a host back into use; it runs on the leader.
func (b *backend) ActivateHost(ctx context.Context, name string, req api.HostActivate, by string) (api.Host, error) {
	mgr, err := b.managing()
	if err != nil {
		return api.Host{}, err
	}
	h, err := mgr.Activate(ctx, manager.ActivateRequest{Host: name, By: by, Reason: req.Reason, Wait: time.Duration(req.WaitSeconds) * time.Second})
	return b.shownHost(h, err)
}

// shownHost is a host as the API shows it.
func (b *backend) shownHost(h fsm.Host, err error) (api.Host, error) {
	if err != nil {
		return api.Host{}, apiError(err)
	}
	n, err := b.node()
	if err != nil {
		return api.Host{}, err
	}
	pool, _ := n.View().Pool()
	leader, _ := n.Leader()
	return apiHost(h, pool, leader, n.Alive(h.Name)), nil
}

// apiWitnesses are a host's witnesses as the API shows them.
func apiWitnesses(l []fsm.Witness) []api.Witness {
	out := make([]api.Witness, 0, len(l))
	for _, w := range l {
		out = append(out, api.Witness{Kind: w.Kind, Subject: w.Subject, State: w.State, Since: unixTime(w.Since)})
	}
	return out
}

// apiWish is what somebody wants of a host; nil: nothing.
func apiWish(w fsm.Wish) *api.HostWish {
	if w.Want == "" {
		return nil
	}
	return &api.HostWish{Want: w.Want, By: w.By, Reason: w.Reason, Time: unixTime(w.Time)}
}

// apiDeadline is a deadline as the API shows it; nil: there is none.
func apiDeadline(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	return new(unixTime(ns))
}
