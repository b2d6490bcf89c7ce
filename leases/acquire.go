package leases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Acquire takes a resource exclusively. It returns at once when the resource is free, ErrHeld when its owner is alive,
// and waits for an owner that is silent until that one counts as dead (or the context ends, or NoWait is set).
//
// After an error that wraps blockdev.ErrOutcomeUnknown the disk may say that we hold it; nobody does, and Settle or
// the next Acquire sets that right.
func (ls *Lockspace) Acquire(ctx context.Context, spec ResourceSpec) (*Lease, error) {
	if err := ls.Check(0); err != nil {
		return nil, err
	}
	r, err := ls.resource(spec)
	if err != nil {
		return nil, err
	}
	was, err := r.begin(stateIdle, stateDoubt)
	if err != nil {
		return nil, err
	}
	r.spec = spec
	if was == stateDoubt {
		if err := r.retract(ctx); err != nil {
			r.end(stateDoubt)
			return nil, err
		}
	}
	return r.acquire(ctx)
}

// acquire runs attempts until one gives a result, and undoes what a failed one may have left.
func (r *resource) acquire(ctx context.Context) (*Lease, error) {
	for accepted := false; ; {
		a := &attempt{resource: r, accepted: accepted}
		done, err := a.run(ctx)
		accepted = a.accepted
		switch {
		case err != nil:
			return nil, r.undo(ctx, a, err)
		case !done:
			continue
		}
		if err := r.ls.Check(0); err != nil {
			r.end(stateIdle) // nothing is released on disk when the lockspace is gone
			return nil, err
		}
		r.end(stateHeld)
		return &Lease{r: r, version: r.leader.Lver}, nil
	}
}

// undo ends a failed acquire. If the ballot got as far as phase 2 another host may commit us as owner.
func (r *resource) undo(ctx context.Context, a *attempt, err error) error {
	if !a.accepted && !r.unsettled {
		r.end(stateIdle)
		return err
	}
	uctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.ls.cfg.Profile.IOTimeout)
	defer cancel()
	if rerr := r.retract(uctx); rerr != nil {
		r.end(stateDoubt)
		return fmt.Errorf("%w; %w: retracting failed: %w", err, blockdev.ErrOutcomeUnknown, rerr)
	}
	r.end(stateIdle)
	return err
}

// attempt is one pass over the steps of an acquire.
type attempt struct {
	*resource
	found    Leader // what step 1 read
	maxMbal  uint64
	looked   bool // another owner was judged, so time has passed since step 1
	accepted bool // phase 2 was begun: we may become owner
	sharers  []sharer
}

type sharer struct {
	host       int
	generation uint64
}

// run makes the attempt; false without an error means start over.
func (a *attempt) run(ctx context.Context) (bool, error) {
	if err := a.readAll(ctx); err != nil {
		return false, err
	}
	free, err := a.mayGo(ctx)
	if err != nil || !free {
		return false, err
	}
	won, err := a.ballots(ctx)
	if err != nil || !won {
		return false, err
	}
	return true, a.clearSharers(ctx)
}

// readAll is step 1: the leader, and the highest ballot number of all hosts.
func (a *attempt) readAll(ctx context.Context) error {
	buf, l, err := a.readArea(ctx)
	if err != nil {
		return err
	}
	defer a.ls.putBuffer(buf)
	a.found = l
	for h := 1; h <= int(l.NumHosts); h++ {
		var d DBlock
		if err := d.Decode(buf[a.geo.sector(h+1):]); err != nil {
			return err
		}
		if !d.Valid() {
			return fmt.Errorf("resource %s: %w: block of host %d at %d on %s", a.spec.Name, ErrCorrupt, h,
				a.spec.Offset+a.geo.sector(h+1), a.spec.Device.Name())
		}
		a.maxMbal = max(a.maxMbal, d.Mbal)
	}
	return nil
}

// mayGo is step 2: whether the resource is free, ours, or its owner is dead. False without an error: start over.
func (a *attempt) mayGo(ctx context.Context) (bool, error) {
	l := &a.found
	if l.Timestamp == 0 || l.OwnerID == uint64(a.ls.cfg.HostID) && l.OwnerGeneration <= a.ls.generation {
		return true, nil
	}
	a.looked = true
	return a.judgeOwner(ctx)
}

// judgeOwner watches the owner's host id until it is known to be gone, alive or dead.
func (a *attempt) judgeOwner(ctx context.Context) (bool, error) {
	w, err := a.newWatch()
	if err != nil {
		return false, err
	}
	for {
		verdict, err := w.step(ctx)
		if err != nil || verdict == ownerGone {
			return verdict == ownerGone, err
		}
		if verdict == ownerAlive {
			return a.releasedUnderneath(ctx)
		}
		if a.spec.NoWait {
			return false, a.held(&a.found)
		}
		if err := pause(ctx, time.Second); err != nil {
			return false, fmt.Errorf("%w: %w", err, a.held(&a.found))
		}
		now, err := a.readLeader(ctx)
		if err != nil || now != a.found {
			return false, err
		}
	}
}

// releasedUnderneath looks for a release that another host's late commit overwrote: the leader names an owner that
// did not write it, and that owner's own block says released.
func (a *attempt) releasedUnderneath(ctx context.Context) (bool, error) {
	l := &a.found
	if l.WriteID != l.OwnerID && l.OwnerID <= l.NumHosts {
		d, err := a.readBlock(ctx, int(l.OwnerID))
		if err != nil {
			return false, err
		}
		if d.Released() {
			return true, nil
		}
	}
	return false, a.held(l)
}

// held is the refusal that names the owner in l.
func (r *resource) held(l *Leader) error {
	e := &HeldError{Resource: r.spec.Name, HostID: int(l.OwnerID), Generation: l.OwnerGeneration, Version: l.Lver}
	if l.OwnerID <= uint64(r.ls.geo.MaxHosts()) {
		s := r.ls.HostStatus(int(l.OwnerID))
		e.HostName, e.State = s.Name, s.State
		if s.State != HostLive {
			e.Free = s.DeadIn
		}
	}
	return e
}

// Settle undoes what calls with unknown outcome may have left on disk. It returns nil when nothing is left to undo.
func (ls *Lockspace) Settle(ctx context.Context) error {
	ls.mu.Lock()
	var all []*resource
	for _, r := range ls.leases {
		all = append(all, r)
	}
	ls.mu.Unlock()
	slices.SortFunc(all, func(a, b *resource) int { return cmp.Compare(a.spec.Offset, b.spec.Offset) })
	var errs []error
	for _, r := range all {
		if _, err := r.begin(stateDoubt); err != nil {
			continue
		}
		if err := r.retract(ctx); err != nil {
			r.end(stateDoubt)
			errs = append(errs, err)
			continue
		}
		r.end(stateIdle)
	}
	return errors.Join(errs...)
}
