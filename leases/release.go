package leases

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Lease is a resource held exclusively. It satisfies blockdev.Guard within the process that renews the lockspace;
// other processes use package keeper's guard.
type Lease struct {
	r       *resource
	version uint64
}

// Epoch is the version of the lease.
func (l *Lease) Epoch() uint64 { return l.version }

// Check returns nil while the lease is held for longer than need.
func (l *Lease) Check(need time.Duration) error {
	l.r.mu.Lock()
	held := l.r.state == stateHeld && l.r.leader.Lver == l.version
	l.r.mu.Unlock()
	if !held {
		return fmt.Errorf("resource %s version %d: %w", l.r.spec.Name, l.version, ErrNotHeld)
	}
	return l.r.ls.Check(need)
}

// Release gives the resource up. All writes under the lease must have come back before. After an error that wraps
// blockdev.ErrOutcomeUnknown the lease is not usable any more, and Settle frees it on disk. When the lockspace is lost
// nothing is written.
func (l *Lease) Release(ctx context.Context) error {
	r := l.r
	if _, err := r.begin(stateHeld); err != nil {
		return err
	}
	if err := r.ls.Check(0); err != nil {
		r.end(r.unusable(stateIdle))
		return err
	}
	if err := r.writeLVB(ctx); err != nil {
		return r.lose(ctx, fmt.Errorf("releasing resource %s: %w", r.spec.Name, err))
	}
	// Our own block first: should the leader be rewritten by a slower host that commits us, this flag tells.
	// If the storage forgets it in a crash that is a failed first step, which the protocol bears: no flush of its own.
	buf := r.ls.getBuffer(r.geo.SectorSize)
	defer r.ls.putBuffer(buf)
	err := r.putBlock(ctx, r.releasedBlock(), blockdev.ReadStep(buf, r.spec.Offset))
	if err != nil && r.unsettled {
		r.end(stateDoubt)
		return fmt.Errorf("releasing resource %s: %w", r.spec.Name, err)
	}
	now, err := r.leaderAfter(ctx, buf, err)
	switch {
	case r.replaced(&now, err):
		err = r.takeBack(ctx)
	case err == nil:
		err = r.freeLeader(ctx, now)
	}
	if err != nil && !errors.Is(err, ErrChanged) {
		r.end(stateDoubt)
		return fmt.Errorf("releasing resource %s: %w", r.spec.Name, err)
	}
	r.end(stateIdle)
	return err
}

// releasedBlock is our block with the values it has and the released flag. Its mode comes with the write.
func (r *resource) releasedBlock() DBlock {
	b := r.block
	b.Flags = flagReleased
	return b
}

// leaderAfter is the leader as read after the write of our block, in buf unless that failed before anything was sent:
// such a failure is tolerated.
func (r *resource) leaderAfter(ctx context.Context, buf []byte, err error) (Leader, error) {
	if err != nil {
		return r.readLeader(ctx)
	}
	return r.decodeLeader(buf)
}

// replaced says whether another lease lies here since, which nobody has taken yet, with our block above all that can be
// decided there: the area was cleared, or initialised anew for this resource or another one.
func (r *resource) replaced(now *Leader, err error) bool {
	return r.block.Lver > now.Lver+1 && (errors.Is(err, ErrNoLease) || err == nil && now.WriteID == 0)
}

// takeBack empties our block in an area that holds another lease now. It would abort every ballot of every host for ever.
func (r *resource) takeBack(ctx context.Context) error {
	if err := r.writeBlock(ctx, DBlock{}); err != nil {
		return err
	}
	return fmt.Errorf("releasing resource %s: %w: another lease was initialised in its place", r.spec.Name, ErrChanged)
}

// freeLeader writes timestamp 0 into a leader that is still exactly the one we committed. A leader that another host
// wrote for us is left alone: the released flag speaks for it.
func (r *resource) freeLeader(ctx context.Context, now Leader) error {
	if now.WriteID != uint64(r.ls.cfg.HostID) {
		return nil
	}
	if now != r.leader {
		return fmt.Errorf("releasing resource %s: %w: version %d of host %d, ours was version %d", r.spec.Name, ErrChanged,
			now.Lver, now.OwnerID, r.leader.Lver)
	}
	return r.writeFreed(ctx, now)
}

// writeFreed writes l as free, by us.
func (r *resource) writeFreed(ctx context.Context, l Leader) error {
	l.Timestamp, l.Flags = 0, l.Flags&^flagShortHold
	l.WriteID, l.WriteGeneration, l.WriteTimestamp = uint64(r.ls.cfg.HostID), r.ls.generation, stamp(r.ls.now())
	return r.writeLeader(ctx, &l)
}

// retract undoes an acquire or a release that may have left us as owner. It first waits for our writes that are still
// on their way.
func (r *resource) retract(ctx context.Context) error {
	for r.settled() != nil {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("resource %s: %w: %w", r.spec.Name, ErrBusy, err)
		}
	}
	if err := r.writeBlock(ctx, r.releasedBlock()); err != nil {
		return err
	}
	now, err := r.readLeader(ctx)
	if r.replaced(&now, err) {
		err = r.takeBack(ctx)
	}
	if errors.Is(err, ErrChanged) || errors.Is(err, ErrNoLease) {
		return nil // what there was to undo is gone
	}
	if err != nil {
		return err
	}
	us := uint64(r.ls.cfg.HostID)
	if now.WriteID != us || now.OwnerID != us || now.OwnerGeneration != r.ls.generation || now.Timestamp == 0 {
		return nil
	}
	return r.writeFreed(ctx, now)
}
