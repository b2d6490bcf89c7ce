package leases

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// slowWrites is a device whose writes take their time, the first one at an offset much more.
type slowWrites struct {
	*blockdev.Mem
	takes, first time.Duration
	at           int64 // -1: no more
	pending      int   // calls are made one after the other
}

func (d *slowWrites) Pending() int { return d.pending }

func (d *slowWrites) WriteAt(ctx context.Context, p []byte, off int64) error {
	takes := d.takes
	if off == d.at {
		takes, d.at = d.first, -1
	}
	if pause(ctx, takes) == nil {
		d.SetBytes(off, p)
		return nil
	}
	return blockdev.ErrOutcomeUnknown
}

func (d *slowWrites) Flush(context.Context) error { return nil }

// TestSettle_phase: writes that are slow but come back in time are enough to settle a resource, whenever Settle is called.
func TestSettle_phase(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		n := Fast.IOTimeout
		ls := b.join(1, "a", 2*n)
		b.run(ls)
		spec := b.spec()
		spec.Device = &slowWrites{Mem: b.mem, takes: n / 2, first: 2 * n, at: mib}
		if _, err := ls.Acquire(b.ctx(time.Hour), spec); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Fatalf("%v", err)
		}
		time.Sleep(n / 5)
		for range 5 {
			next := time.Now().Add(n)
			ctx, cancel := context.WithTimeout(context.Background(), n)
			err := ls.Settle(ctx)
			cancel()
			if err == nil {
				return
			}
			t.Log(err)
			time.Sleep(time.Until(next))
		}
		t.Error("never settled")
	})
}

// TestRelease_inMargin: a release that comes when the lease has just run out, but not for good, is made up for.
func TestRelease_inMargin(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		ls := b.join(1, "a", 2*Fast.IOTimeout)
		l, err := ls.Acquire(b.ctx(time.Hour), b.spec())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(Fast.Expiry() - Fast.Margin())
		if err := l.Release(b.ctx(time.Minute)); !errors.Is(err, ErrLost) {
			t.Errorf("released under a lease that ran out: %v", err)
		}
		if err := ls.renew(b.ctx(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := ls.Settle(b.ctx(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if info, err := ls.ReadResource(b.ctx(time.Minute), b.spec()); err != nil || info.State != ResourceFree {
			t.Errorf("%+v, %v", info, err)
		}
	})
}
