package leases

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	r, err := ls.enter(ctx, spec)
	if err != nil {
		return nil, err
	}
	return r.acquire(ctx)
}

// enter makes the resource busy for an acquire, once nothing of an earlier one is left to undo.
func (ls *Lockspace) enter(ctx context.Context, spec ResourceSpec) (*resource, error) {
	if err := ls.Check(0); err != nil {
		return nil, err
	}
	r, err := ls.resource(spec)
	if err != nil {
		return nil, err
	}
	if spec.LVB && !r.geo.hasLVB() {
		return nil, fmt.Errorf("resource %s: %w: %+v", spec.Name, ErrLVB, r.geo)
	}
	was, err := r.begin(stateIdle, stateDoubt)
	if err != nil {
		return nil, err
	}
	r.spec, r.shared = spec, false
	if was == stateDoubt {
		if err := r.retract(ctx); err != nil {
			r.end(stateDoubt)
			return nil, err
		}
	}
	return r, nil
}

// acquire takes the resource exclusively.
func (r *resource) acquire(ctx context.Context) (*Lease, error) {
	if s, err := r.win(ctx, false); err != nil {
		r.end(s)
		return nil, err
	}
	if err := r.raise(ctx); err != nil {
		return nil, r.lose(ctx, err)
	}
	if err := r.readLVB(ctx); err != nil {
		return nil, r.lose(ctx, err)
	}
	return r.own()
}

// own makes the exclusive lease that was won usable.
func (r *resource) own() (*Lease, error) {
	if err := r.ls.Check(0); err != nil {
		r.end(r.unusable(r.resting()))
		return nil, err
	}
	l := &Lease{r: r, version: r.leader.Lver}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.sharedAt = stateHeld, 0
	return l, nil
}

// win runs attempts until one gives a result, and undoes what a failed one may have left. With an error comes the state
// that the resource is in.
func (r *resource) win(ctx context.Context, short bool) (resourceState, error) {
	for accepted := false; ; {
		a := &attempt{resource: r, accepted: accepted, short: short}
		done, err := a.run(ctx)
		accepted = a.accepted
		if err != nil {
			return r.undo(ctx, accepted, err)
		}
		if done {
			return stateBusy, nil
		}
	}
}

// undo follows a failed acquire or conversion. If the ballot got as far as phase 2 another host may commit us as owner;
// if a conversion got anywhere our block must say again that its ballot is over.
func (r *resource) undo(ctx context.Context, accepted bool, err error) (resourceState, error) {
	if !accepted && !r.unsettled && (!r.shared || r.block.Released()) {
		return r.resting(), err
	}
	if busy := r.settled(); busy != nil {
		return r.doubt(), fmt.Errorf("%w; %w: Settle will retract it: %w", err, blockdev.ErrOutcomeUnknown, busy)
	}
	uctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.ls.cfg.Profile.IOTimeout)
	defer cancel()
	if rerr := r.retract(uctx); rerr != nil {
		return r.doubt(), fmt.Errorf("%w; %w: retracting failed: %w", err, blockdev.ErrOutcomeUnknown, rerr)
	}
	return r.resting(), err
}

// lose gives up what was won, because of err.
func (r *resource) lose(ctx context.Context, err error) error {
	s, err := r.undo(ctx, true, err)
	r.end(s)
	return err
}

// attempt is one pass over the steps of an acquire.
type attempt struct {
	*resource
	found    Leader // what step 1 read
	maxMbal  uint64
	looked   bool // another owner was judged, so time has passed since step 1
	accepted bool // phase 2 was begun: we may become owner
	short    bool // the lease is wanted only to become a sharer: other sharers do not matter
	sharers  []sharer
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
	if err := a.refuseShared(ctx); err != nil {
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
		b := buf[a.geo.sector(h+1):a.geo.sector(h+2)]
		if emptyBlock(b) {
			continue
		}
		var d DBlock
		if err := d.Decode(b); err != nil {
			return err
		}
		if !d.Valid() {
			return fmt.Errorf("resource %s: %w: block of host %d at %d on %s", a.spec.Name, ErrCorrupt, h,
				a.spec.Offset+a.geo.sector(h+1), a.spec.Device.Name())
		}
		a.maxMbal = max(a.maxMbal, d.Mbal)
		a.noteSharer(h, &d)
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
	if a.ls.alone {
		return false, fmt.Errorf("%w: %w", ErrNoLockspace, a.held(&a.found))
	}
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
// did not write it, and that owner's own block says that it has given it up.
func (a *attempt) releasedUnderneath(ctx context.Context) (bool, error) {
	l := &a.found
	if l.WriteID != l.OwnerID && l.OwnerID <= l.NumHosts {
		d, err := a.readBlock(ctx, int(l.OwnerID))
		if err != nil {
			return false, err
		}
		if d.gaveUp(l) {
			return true, nil
		}
	}
	return false, a.held(l)
}

// held is the refusal that names the owner in l.
func (r *resource) held(l *Leader) error {
	e := &HeldError{Resource: r.spec.Name, HostID: int(l.OwnerID), Generation: l.OwnerGeneration, Version: l.Lver,
		ShortHold: l.Flags&flagShortHold != 0, fleeting: l.WriteID != l.OwnerID || l.Timestamp == 0}
	if l.OwnerID <= uint64(r.ls.geo.MaxHosts()) {
		s := r.ls.HostStatus(int(l.OwnerID))
		e.HostName, e.State = s.Name, s.State
		if s.State != HostLive {
			e.Free = s.DeadIn
		}
	}
	return e
}

// Settle undoes what calls with unknown outcome may have left on disk, and clears requests of ours that are over. It
// returns nil when nothing is left to undo.
func (ls *Lockspace) Settle(ctx context.Context) error {
	ls.mu.Lock()
	var all []*resource
	for _, key := range slices.Sorted(maps.Keys(ls.leases)) {
		all = append(all, ls.leases[key])
	}
	ls.mu.Unlock()
	var errs []error
	for _, r := range all {
		if _, err := r.begin(stateDoubt, stateSharedDoubt); err != nil {
			continue
		}
		// Not before our last write is over: a retract that spends its time on that has none left for its own write,
		// which then times out too, and so for ever.
		err := r.settled()
		if err == nil {
			err = r.retract(ctx)
		}
		if err != nil {
			r.end(r.doubt())
			errs = append(errs, err)
			continue
		}
		r.end(r.resting())
	}
	return errors.Join(errors.Join(errs...), ls.settleRequests(ctx))
}
