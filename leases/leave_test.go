package leases

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// lateWrite is a device on which the next write to one offset lands late, whether its caller waits or not.
type lateWrite struct {
	*blockdev.Mem
	at      int64
	lands   time.Duration
	armed   atomic.Bool
	pending atomic.Int64
}

func (d *lateWrite) Pending() int { return int(d.pending.Load()) }

func (d *lateWrite) WriteAt(ctx context.Context, p []byte, off int64) error {
	if off != d.at || !d.armed.CompareAndSwap(true, false) {
		return d.Mem.WriteAt(ctx, p, off)
	}
	own := append([]byte(nil), p...)
	d.pending.Add(1)
	time.AfterFunc(d.lands, func() {
		d.SetBytes(off, own)
		d.pending.Add(-1)
	})
	<-ctx.Done()
	return blockdev.ErrOutcomeUnknown
}

// TestLeave_lateRelease: a host id is given up only when no write of its host can land any more, and that includes a release
// whose caller has stopped waiting. Otherwise the write would land over the next owner's.
func TestLeave_lateRelease(t *testing.T) {
	for name, lands := range map[string]time.Duration{"soon": Fast.IOTimeout, "too late to wait for": 5 * Fast.IOTimeout} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				ls := b.join(1, "a", 2*Fast.IOTimeout)
				b.run(ls)
				spec, late := b.spec(), &lateWrite{Mem: b.mem, at: mib, lands: lands}
				spec.Device = late
				l, err := ls.Acquire(b.ctx(time.Hour), spec)
				if err != nil {
					t.Fatal(err)
				}
				late.armed.Store(true)
				if err := l.Release(b.ctx(time.Millisecond)); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
					t.Fatalf("released: %v", err)
				}
				err = ls.Leave(b.ctx(time.Minute))
				free := b.leaderOf(1).Timestamp == 0
				if free != (err == nil) {
					t.Errorf("left: %v, and the record says %v", err, free)
				}
				if free && late.Pending() > 0 {
					t.Error("the host id is free and a write may still land")
				}
				if soon := lands < 2*Fast.IOTimeout; soon != free {
					t.Errorf("left %v with a write that lands %v late", free, lands)
				}
				time.Sleep(2 * lands)
			})
		})
	}
}
