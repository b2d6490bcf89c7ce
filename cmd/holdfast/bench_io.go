package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

const (
	// ioHosts are the hosts known in the lockspace whose renewals are counted; the last one is counted.
	ioHosts = 20
	// ioRenewals covers one look at all hosts, which our renewals make every 32nd time.
	ioRenewals = 32
	// peerRenewals are enough for a daemon that does the same each time.
	peerRenewals = 4
	// ioRounds are the rounds of each other operation.
	ioRounds = 10
)

// ioCount is what one operation sends to the device, on average.
type ioCount struct {
	reads, writes, flushes float64
	readBytes, writeBytes  float64
}

func (c ioCount) ios() float64   { return c.reads + c.writes }
func (c ioCount) bytes() float64 { return c.readBytes + c.writeBytes }

// per divides the totals by the number of operations.
func (c ioCount) per(n int) ioCount {
	f := float64(n)
	return ioCount{c.reads / f, c.writes / f, c.flushes / f, c.readBytes / f, c.writeBytes / f}
}

// ioCosts are the operations that are counted.
type ioCosts struct {
	join, renewal, exclusive, shared, leave ioCount
}

// ioRun counts in the background, because renewals take their time.
type ioRun struct {
	wg           sync.WaitGroup
	ours, theirs ioCosts
	err, peerErr error
}

// startCounting begins to count I/O, in lockspaces of its own.
func (b *bench) startCounting(ctx context.Context) error {
	b.io.wg.Go(func() { b.io.ours, b.io.err = countOurs(ctx, filepath.Join(b.o.dir, "io")) })
	b.io.wg.Go(func() { b.io.theirs, b.io.peerErr = countSanlock(ctx, filepath.Join(b.o.dir, "io-sanlock")) })
	return nil
}

// reportCounts waits for the counts.
func (b *bench) reportCounts(context.Context) error {
	b.io.wg.Wait()
	if b.io.err != nil {
		return b.io.err
	}
	theirs := b.io.theirs
	if errors.Is(b.io.peerErr, errNoJudge) {
		b.report.leftOut("I/O of sanlock", b.io.peerErr)
	} else if b.io.peerErr != nil {
		return fmt.Errorf("counting sanlock's I/O: %w", b.io.peerErr)
	}
	ours := b.io.ours
	b.report.io(fmt.Sprintf("I/O per renewal, %d known hosts", ioHosts), ours.renewal, theirs.renewal, 1.0/10)
	b.report.io("I/O to join a lockspace, renewed once", ours.join, theirs.join, 0)
	b.report.io("I/O to leave it", ours.leave, theirs.leave, 1)
	b.report.io("I/O to acquire and release, 249 hosts", ours.exclusive, theirs.exclusive, 1)
	b.report.io("I/O to acquire and release shared", ours.shared, theirs.shared, 1)
	return nil
}

// countOurs counts with a device that counts between the lockspace and its file.
func countOurs(ctx context.Context, dir string) (c ioCosts, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	file := filepath.Join(dir, "leases.img")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return c, err
	}
	if err := initLeaseFile(ctx, file); err != nil {
		return c, err
	}
	dev, err := blockdev.Open(ctx, file, blockdev.Options{})
	if err != nil {
		return c, err
	}
	defer dev.Close()
	if err := joinOthers(ctx, dev); err != nil {
		return c, err
	}
	return countLockspace(ctx, &countingDevice{Device: dev})
}

// joinOthers makes the other hosts known.
func joinOthers(ctx context.Context, dev blockdev.Device) error {
	var wg sync.WaitGroup
	errs := make([]error, ioHosts-1)
	for i := range errs {
		wg.Go(func() { _, errs[i] = leases.Join(ctx, ioConfig(dev, 1+i, nil)) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ioProfile has renewals as often as they can be.
var ioProfile = leases.Profile{Name: "bench", IOTimeout: time.Second, Watchdog: time.Minute}

func ioConfig(dev blockdev.Device, id int, renewed func(time.Duration)) leases.LockspaceConfig {
	return leases.LockspaceConfig{Device: dev, Name: benchLockspace, HostID: id, HostName: fmt.Sprint("bench-", id),
		Profile: ioProfile, Log: slog.New(slog.DiscardHandler), OnRenew: renewed}
}

// countLockspace joins, renews, takes leases and leaves, counting each.
func countLockspace(ctx context.Context, rec *countingDevice) (c ioCosts, err error) {
	var renewals atomic.Int64
	ls, err := leases.Join(ctx, ioConfig(rec, ioHosts, func(time.Duration) { renewals.Add(1) }))
	if err != nil {
		return c, err
	}
	c.join = rec.taken(1)
	renewals.Store(0)
	run, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- ls.Run(run) }()
	err = poll(ctx, "renewals are counted", func() error {
		if n := renewals.Load(); n < ioRenewals {
			return fmt.Errorf("%d of %d", n, ioRenewals)
		}
		return nil
	})
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return c, err
	}
	c.renewal = rec.taken(int(renewals.Load()))
	return c, errors.Join(c.countRounds(ctx, ls, rec), c.countLeave(ctx, ls, rec))
}

// countRounds counts acquires with their releases.
func (c *ioCosts) countRounds(ctx context.Context, ls *leases.Lockspace, rec *countingDevice) error {
	spec := leases.ResourceSpec{Name: benchResource + "0", Device: rec, Offset: leaseArea(1)}
	for range ioRounds {
		l, err := ls.Acquire(ctx, spec)
		if err != nil {
			return err
		}
		if err := l.Release(ctx); err != nil {
			return err
		}
	}
	c.exclusive = rec.taken(ioRounds)
	for range ioRounds {
		l, err := ls.AcquireShared(ctx, spec)
		if err != nil {
			return err
		}
		if err := l.Release(ctx); err != nil {
			return err
		}
	}
	c.shared = rec.taken(ioRounds)
	return nil
}

func (c *ioCosts) countLeave(ctx context.Context, ls *leases.Lockspace, rec *countingDevice) error {
	if err := ls.Leave(ctx); err != nil {
		return err
	}
	c.leave = rec.taken(1)
	return nil
}
