package main

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/leases"
)

// freeGoal is how long the lease of an agent that was killed may stay taken.
const freeGoal = 300 * time.Millisecond

// freePoll is how often the LUN is looked at.
const freePoll = time.Millisecond

// spmLease is the SPM lease as it is on the LUN.
type spmLease struct {
	dev    blockdev.Device
	off    int64
	domain string
}

// openSPMLease finds the master domain's SPM lease on a LUN.
func openSPMLease(ctx context.Context, lun, id string) (*spmLease, error) {
	dev, err := blockdev.Open(ctx, lun, blockdev.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	d, err := domain.Open(ctx, []blockdev.Device{dev}, domain.Options{})
	if err == nil {
		l := &spmLease{domain: id}
		if l.dev, l.off, err = d.SPMResource(); err == nil {
			return l, nil
		}
	}
	_ = dev.Close() // it was only read
	return nil, fmt.Errorf("finding the SPM lease on %s: %w", lun, err)
}

// version says under which version it is held; taken is false when it is free.
func (l *spmLease) version(ctx context.Context) (version uint64, taken bool, err error) {
	info, err := leases.ReadLeader(ctx, l.dev, l.off, l.domain, "SDM")
	return info.Version, info.Timestamp != 0, err
}

// free waits until a version is given up.
func (l *spmLease) free(ctx context.Context, version uint64) error {
	tick := time.NewTicker(freePoll)
	defer tick.Stop()
	for {
		now, taken, err := l.version(ctx)
		if err != nil || !taken || now != version {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the lease of the killed agent is not given up: %w", ctx.Err())
		}
	}
}

// killFree times from SIGKILL of the SPM's agent to the moment at which its lease is free on the LUN.
func (b *bench) killFree(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	f := b.pool.file()
	l, err := openSPMLease(ctx, f.LUN, f.Domain)
	if err != nil {
		return err
	}
	defer l.dev.Close()
	var all samples
	for range b.o.runs {
		if err := b.pool.awaitUp(ctx); err != nil {
			return err
		}
		spm, err := b.pool.spm(ctx)
		if err != nil {
			return err
		}
		version, _, err := l.version(ctx)
		if err != nil {
			return err
		}
		t, err := sample(1, func() error {
			if err := b.pool.killAgent(spm.Host); err != nil {
				return err
			}
			return l.free(ctx, version)
		})
		if err != nil {
			return err
		}
		all = append(all, t...)
	}
	b.report.times("SIGKILL of the SPM's agent to its lease free", all, freeGoal)
	return nil
}
