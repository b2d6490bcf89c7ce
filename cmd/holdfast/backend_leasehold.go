package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// AcquireLease takes a lease on this host.
func (b leaseBackend) AcquireLease(ctx context.Context, domain, id string, who api.LeaseFor) (api.LeaseHeld, error) {
	if _, err := b.state(); err != nil {
		return api.LeaseHeld{}, err
	}
	if err := b.refuseNew(domain); err != nil {
		return api.LeaseHeld{}, err
	}
	version, err := b.host.AcquireLease(ctx, domain, id, holderOf(who))
	if err != nil {
		return api.LeaseHeld{}, b.heldError(id, err)
	}
	return api.LeaseHeld{ID: id, Domain: domain, Host: b.host.Name(), Version: version, LeaseFor: who}, nil
}

// ReleaseLease gives a lease of this host back.
func (b leaseBackend) ReleaseLease(ctx context.Context, domain, id string, who api.LeaseFor) (api.LeaseReleased, error) {
	if _, err := b.state(); err != nil {
		return api.LeaseReleased{}, err
	}
	if err := b.host.ReleaseLease(ctx, domain, id, holderOf(who)); err != nil {
		return api.LeaseReleased{}, b.heldError(id, err)
	}
	return api.LeaseReleased{ID: id, Domain: domain, Host: b.host.Name()}, nil
}

// holderOf is who a lease is for, as the keeper sees it; nil for whoever has it.
func holderOf(who api.LeaseFor) *keeper.Holder {
	if who.VM == "" && len(who.Processes) == 0 {
		return nil
	}
	h := &keeper.Holder{Name: who.VM, Kill: true}
	for _, p := range who.Processes {
		h.Processes = append(h.Processes, keeper.Process{PID: p.PID, StartTime: p.StartTime})
	}
	return h
}

// heldError says who has a lease and when it could be had.
func (b leaseBackend) heldError(id string, err error) error {
	var held *leases.HeldError
	switch {
	case errors.As(err, &held):
		e := api.Errorf(api.CodeBusy, "wait with --wait, or have it released where it is held", "lease %s %s", id, heldBy(held))
		if st, serr := b.state(); serr == nil {
			e.Holder = hostNameOf(st, held.HostID)
		}
		e.RetryAfter = held.Free
		return e
	case errors.Is(err, leases.ErrHeldHere):
		e := api.Errorf(api.CodeBusy, "holdfast lease release there, or wait with --wait", "%v", err)
		e.Holder = b.host.Name()
		return e
	case errors.Is(err, keeper.ErrGone): // it may have written the record before it died
		return api.Errorf(api.CodeOutcomeUnknown, "holdfast lease show says who has it; what the keeper that died had is free once this host has a new one, or is proven dead",
			"the lease keeper of this host died while it worked on lease %s", id)
	case errors.Is(err, leases.ErrNotHeld):
		return api.Errorf(api.CodeLeaseLost, "holdfast lease show says who has it", "lease %s is not held on this host (any more)", id)
	}
	return apiError(err)
}

// heldBy says how a lease is held elsewhere, and until when at least.
func heldBy(h *leases.HeldError) string {
	switch {
	case h.Free > 0:
		return fmt.Sprintf("belongs to host id %d, which is %s: it can be had in %v if that stays silent", h.HostID, h.State, h.Free)
	case h.State == leases.HostLive:
		return fmt.Sprintf("belongs to host id %d, which is alive and keeps it for as long as it likes", h.HostID)
	}
	return fmt.Sprintf("belongs to host id %d, which is %s", h.HostID, h.State)
}
