package leases

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Join takes our host id. It lasts 2N when the id is free or was ours before, 8N + W + 2N when another host had it,
// N being the one in the record found. On ErrHostIDBusy somebody else has the id and nothing is held. After any other
// error the record may or may not have been written; joining again with the same host name is right.
//
// The caller must start Run at once.
func Join(ctx context.Context, cfg LockspaceConfig) (*Lockspace, error) {
	ls, err := newLockspace(ctx, cfg)
	if err != nil {
		return nil, err
	}
	found, err := ls.readRecord(ctx, cfg.HostID)
	if err != nil {
		return nil, err
	}
	otherN := ls.ioTimeoutOf(&found)
	if found, err = ls.waitForHost(ctx, found, otherN); err != nil {
		return nil, err
	}
	if err := ls.take(ctx, found, otherN); err != nil {
		return nil, err
	}
	// The timestamp is already 2N old and nobody has been looked at yet: the first renewal is due.
	if err := ls.renew(ctx); err != nil {
		return nil, fmt.Errorf("first renewal in lockspace %s: %w", cfg.Name, err)
	}
	cfg.Log.Info("joined lockspace", "lockspace", cfg.Name, "host_id", cfg.HostID, "generation", ls.own.OwnerGeneration)
	return ls, nil
}

// ioTimeoutOf is the N of the record's writer, ours if it says nothing.
func (ls *Lockspace) ioTimeoutOf(l *Leader) time.Duration {
	if n := l.IOTimeout & 0xff; n != 0 {
		return time.Duration(n) * time.Second
	}
	return ls.cfg.Profile.IOTimeout
}

// waitForHost returns the record to build ours on, once nobody can be using the host id.
func (ls *Lockspace) waitForHost(ctx context.Context, found Leader, otherN time.Duration) (Leader, error) {
	if found.Timestamp == 0 {
		return found, nil
	}
	if found.Resource.equal(ls.host) {
		return found, pause(ctx, ls.cfg.Settle)
	}
	wait := surely(8*otherN + ls.cfg.Profile.Watchdog)
	if ls.cfg.Bugs.JoinEarly {
		wait = 8 * otherN
	}
	ls.cfg.Log.Info("host id is another host's, waiting whether it is alive", "lockspace", ls.cfg.Name,
		"host_id", ls.cfg.HostID, "owner", found.Resource.String(), "wait", wait)
	again, err := ls.waitFreed(ctx, found, wait)
	if err != nil {
		return found, err
	}
	if again != found && again.Timestamp != 0 {
		return found, fmt.Errorf("%w: lockspace %s, host id %d, host %s, generation %d", ErrHostIDBusy, ls.cfg.Name,
			ls.cfg.HostID, again.Resource, again.OwnerGeneration)
	}
	return again, nil
}

// waitFreed waits and returns our record as it is then. It ends early when somebody frees the record, as is done on proof
// that its host can write no more. Any other change counts at the end only.
func (ls *Lockspace) waitFreed(ctx context.Context, found Leader, wait time.Duration) (Leader, error) {
	for end := ls.now() + wait; ; {
		left := end - ls.now()
		if err := ls.waitBoot(ctx, min(left, ls.cfg.Profile.IOTimeout)); err != nil {
			return found, err
		}
		now, err := ls.readRecord(ctx, ls.cfg.HostID)
		freed := err == nil && now.Timestamp == 0
		if freed || left <= ls.cfg.Profile.IOTimeout {
			return now, err
		}
	}
}

// waitBoot waits until d has passed on the boot clock. A suspend in between only makes the timer late.
func (ls *Lockspace) waitBoot(ctx context.Context, d time.Duration) error {
	for end := ls.now() + d; ; {
		left := end - ls.now()
		if left <= 0 {
			return nil
		}
		if err := pause(ctx, left); err != nil {
			return err
		}
	}
}

// take writes our record over the one found, waits for others who may be doing the same, and looks who won.
func (ls *Lockspace) take(ctx context.Context, found Leader, otherN time.Duration) error {
	start := ls.now()
	l := found
	l.Timestamp, l.IOTimeout = stamp(start), ls.cfg.Profile.seconds()
	l.OwnerID, l.OwnerGeneration, l.Resource = uint64(ls.cfg.HostID), found.OwnerGeneration+1, ls.host
	if ls.cfg.Bugs.ForgetGeneration {
		l.OwnerGeneration = max(1, found.OwnerGeneration)
	}
	clear(ls.sector)
	l.Encode(ls.sector)
	wctx, cancel := context.WithTimeout(ctx, ls.cfg.Profile.HostDead())
	defer cancel()
	if err := writeSync(wctx, ls.cfg.Device, ls.sector, ls.recordOffset(ls.cfg.HostID)); err != nil {
		return fmt.Errorf("taking host id %d in lockspace %s: %w", ls.cfg.HostID, ls.cfg.Name, err)
	}
	if !ls.cfg.Bugs.SkipJoinReread {
		if err := ls.confirm(ctx, &l, 2*otherN); err != nil {
			return err
		}
	}
	ls.own, ls.generation, ls.lastOK, ls.lastRenew = l, l.OwnerGeneration, true, start
	return nil
}

// confirm waits and looks whether the record is still the one that we wrote.
func (ls *Lockspace) confirm(ctx context.Context, l *Leader, wait time.Duration) error {
	if err := ls.waitBoot(ctx, wait); err != nil {
		return err
	}
	now, err := ls.readRecord(ctx, ls.cfg.HostID)
	if err != nil {
		return err
	}
	if now != *l {
		return fmt.Errorf("%w: lockspace %s, host id %d: host %s took it at the same time", ErrHostIDBusy, ls.cfg.Name,
			ls.cfg.HostID, now.Resource)
	}
	return nil
}

// Leave gives the host id up, so that others need not wait. Run must have ended or be about to. After a renewal that
// failed, or while a write to a resource may still land, nothing is written, and the others have to wait: a host id that
// is free says that nothing of ours lands any more.
func (ls *Lockspace) Leave(ctx context.Context) error {
	ls.dropRequests(ctx)
	ls.settleDoubts(ctx)
	if err := ls.only(ctx); err != nil {
		return err
	}
	defer func() { <-ls.renewing }()
	if err := ls.markLeft(); err != nil {
		return err
	}
	if !ls.lastOK || ls.cfg.Device.Pending() > 0 {
		return fmt.Errorf("leaving lockspace %s: %w: the last renewal did not come back, others have to wait", ls.cfg.Name, ErrLost)
	}
	if n := len(ls.undecided()); n > 0 && !ls.cfg.Bugs.IgnoreLateWrite {
		return fmt.Errorf("leaving lockspace %s: %w: writes to %d resources may still land, others have to wait", ls.cfg.Name, ErrLost, n)
	}
	l := ls.own
	l.Timestamp = 0
	clear(ls.sector)
	l.Encode(ls.sector)
	wctx, cancel := context.WithTimeout(ctx, ls.cfg.Profile.IOTimeout)
	defer cancel()
	if err := writeSync(wctx, ls.cfg.Device, ls.sector, ls.recordOffset(ls.cfg.HostID)); err != nil {
		return fmt.Errorf("leaving lockspace %s: %w", ls.cfg.Name, err)
	}
	ls.own = l
	ls.cfg.Log.Info("left lockspace", "lockspace", ls.cfg.Name, "host_id", ls.cfg.HostID)
	return nil
}

// Left says that Leave was called and nothing is renewed any more, whether the record could be freed or not.
func (ls *Lockspace) Left() bool { return ls.gone() }

// markLeft makes the lockspace unusable, unless its leases are held.
func (ls *Lockspace) markLeft() error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.lost != nil {
		return ls.lost
	}
	for _, r := range ls.leases {
		if r.inUse() {
			return fmt.Errorf("leaving lockspace %s: %w", ls.cfg.Name, ErrLeasesHeld)
		}
	}
	if ls.left {
		return errors.New("lockspace was left already")
	}
	ls.left = true
	return nil
}
