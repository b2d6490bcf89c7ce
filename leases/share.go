package leases

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// SharedLease is a resource held together with others that share it. While any host does, nobody can have it
// exclusively. It satisfies blockdev.Guard; what may be written under it is for the sharers to agree on.
type SharedLease struct {
	r       *resource
	version uint64
}

// sharedRetries is how often a shared acquire gives way to others that are doing the same.
const sharedRetries = 8

// Epoch is the version at which the lease was taken. It does not order sharers.
func (s *SharedLease) Epoch() uint64 { return s.version }

// Check returns nil while the lease is held for longer than need. It is held all through a conversion to exclusive.
func (s *SharedLease) Check(need time.Duration) error {
	s.r.mu.Lock()
	held := s.r.sharedAt == s.version
	s.r.mu.Unlock()
	if !held {
		return fmt.Errorf("shared resource %s version %d: %w", s.r.spec.Name, s.version, ErrNotHeld)
	}
	return s.r.ls.Check(need)
}

// AcquireShared takes a resource together with others: it fails with ErrHeld where another host has it exclusively, and
// waits for a silent owner as Acquire does. The lease is held exclusively for a moment, so hosts that share at the same
// time get in each other's way; that is tried again a few times.
func (ls *Lockspace) AcquireShared(ctx context.Context, spec ResourceSpec) (*SharedLease, error) {
	r, err := ls.enter(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := r.winToShare(ctx); err != nil {
		return nil, err
	}
	if err := r.readLVB(ctx); err != nil {
		return nil, r.lose(ctx, err)
	}
	r.shared = true
	if _, err := r.share(ctx); err != nil {
		r.shared = false
		return nil, r.lose(ctx, fmt.Errorf("sharing resource %s: %w", r.spec.Name, err))
	}
	return r.join(stateShared), nil
}

// winToShare wins the lease for a moment, and tries again when another host had it for a moment too.
func (r *resource) winToShare(ctx context.Context) error {
	backoff := 10 * time.Millisecond
	for try := 0; ; try++ {
		r.tried = 0
		s, err := r.win(ctx, true)
		if err == nil {
			return nil
		}
		var held *HeldError
		passing := errors.As(err, &held) && (held.ShortHold || held.fleeting || r.tried != 0) && s == stateIdle
		if passing && try < sharedRetries {
			if perr := pause(ctx, r.ls.jitter(backoff)); perr == nil {
				backoff = min(2*backoff, 700*time.Millisecond)
				continue
			}
		}
		r.end(s)
		return err
	}
}

// share turns the exclusive lease on disk into a shared one. Our block says SHARED durably before the leader is freed:
// at no moment does the disk say that we have neither. From then on others may win to share too, so the leader that is read next
// may be theirs. False with an error: surely nothing was written.
func (r *resource) share(ctx context.Context) (bool, error) {
	buf := r.ls.getBuffer(r.geo.SectorSize)
	defer r.ls.putBuffer(buf)
	if err := r.putBlock(ctx, r.releasedBlock(), blockdev.FlushStep(), blockdev.ReadStep(buf, r.spec.Offset)); err != nil {
		return r.unsettled, err
	}
	now, err := r.decodeLeader(buf)
	if err != nil {
		return true, err
	}
	return true, r.freeLeader(ctx, now)
}

// join makes the shared lease usable.
func (r *resource) join(s resourceState) *SharedLease {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.sharedAt = s, r.leader.Lver
	return &SharedLease{r: r, version: r.sharedAt}
}

// Release gives the shared lease up: one write. All I/O under it must have come back before. After an error that wraps
// blockdev.ErrOutcomeUnknown the lease is not usable any more, and Settle takes it off the disk.
func (s *SharedLease) Release(ctx context.Context) error {
	r := s.r
	was, err := s.begin()
	if err != nil {
		return err
	}
	r.shared = false
	r.withdraw()
	if err := r.ls.Check(0); err != nil {
		r.end(r.unusable(stateIdle))
		return err
	}
	if was == stateSharedDoubt {
		err = r.retract(ctx)
	} else {
		err = r.writeBlock(ctx, r.releasedBlock())
	}
	if err != nil {
		r.end(stateDoubt)
		return fmt.Errorf("releasing shared resource %s: %w: %w", r.spec.Name, blockdev.ErrOutcomeUnknown, err)
	}
	r.end(stateIdle)
	return nil
}

// begin makes the resource busy, if it is still this lease that is held.
func (s *SharedLease) begin() (resourceState, error) {
	was, err := s.r.begin(stateShared, stateSharedDoubt)
	if err != nil {
		return was, err
	}
	s.r.mu.Lock()
	current := s.r.sharedAt
	s.r.mu.Unlock()
	if current != s.version {
		s.r.end(was)
		return was, fmt.Errorf("shared resource %s version %d: %w", s.r.spec.Name, s.version, ErrNotHeld)
	}
	return was, nil
}

// withdraw makes a shared lease unusable before its first write of a release.
func (r *resource) withdraw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sharedAt = 0
}
