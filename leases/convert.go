package leases

import (
	"context"
	"errors"
	"fmt"
)

// ToShared turns an exclusive lease into a shared one, with no moment in between when the resource could be lost. The
// exclusive lease is over from the call on; all writes under it must have come back before.
//
// When the end of the exclusive lease did not reach the disk in time, the shared lease is held all the same: other hosts
// are kept out by what is on disk, and Settle lets them in.
func (l *Lease) ToShared(ctx context.Context) (*SharedLease, error) {
	r := l.r
	if err := l.Check(0); err != nil {
		return nil, err
	}
	if _, err := r.begin(stateHeld); err != nil {
		return nil, err
	}
	if err := r.writeLVB(ctx); err != nil {
		r.end(stateHeld)
		return nil, fmt.Errorf("sharing resource %s: %w", r.spec.Name, err)
	}
	before := r.block
	r.shared = true
	began, err := r.share(ctx)
	switch {
	case err == nil:
		return r.join(stateShared), nil
	case errors.Is(err, ErrChanged):
		r.shared = false
		return nil, r.lose(ctx, err)
	case r.ls.Check(0) != nil:
		r.shared = false
		r.end(r.unusable(stateIdle))
		return nil, r.ls.Check(0)
	case !began:
		r.shared, r.block = false, before
		r.end(stateHeld)
		return nil, fmt.Errorf("sharing resource %s, which is still held exclusively: %w", r.spec.Name, err)
	}
	r.ls.cfg.Log.Warn("resource is shared by us, but not open to others yet", "resource", r.spec.Name, "error", err)
	return r.join(stateSharedDoubt), nil
}

// ToExclusive turns a shared lease into an exclusive one. It fails with ErrHeld, and the shared lease stays, while other
// hosts share the resource or are about to. Sharers that are dead are cleared.
//
// The shared lease is usable until the call succeeds, and not after it.
func (s *SharedLease) ToExclusive(ctx context.Context) (*Lease, error) {
	r := s.r
	if err := s.Check(0); err != nil {
		return nil, err
	}
	was, err := s.begin()
	if err != nil {
		return nil, err
	}
	if was == stateSharedDoubt {
		if err := r.retract(ctx); err != nil {
			r.end(stateSharedDoubt)
			return nil, err
		}
	}
	// Every block of the ballot goes on saying SHARED, see writeBlock.
	if st, err := r.win(ctx, false); err != nil {
		r.end(st)
		return nil, err
	}
	if err := r.readLVB(ctx); err != nil {
		return nil, r.lose(ctx, err)
	}
	r.shared = false
	if err := r.writeBlock(ctx, r.block); err != nil {
		r.shared = true
		return nil, r.lose(ctx, fmt.Errorf("converting resource %s: %w", r.spec.Name, err))
	}
	return r.own()
}
