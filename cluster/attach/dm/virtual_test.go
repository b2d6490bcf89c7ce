package dm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	kernel "github.com/holdfast-io/holdfast/blockdev/mapper/dm"
	"github.com/holdfast-io/holdfast/cluster/attach"
)

// hungKernel is one device in memory, whose ioctls may take long: like the real mapper it gives up at the deadline, goes on no further
// than the ioctl it is in, and does nothing else to the device meanwhile.
type hungKernel struct {
	turn chan struct{}

	mu      sync.Mutex // guards what follows
	d       simDevice
	takes   map[string]time.Duration // of the next ioctl of an operation
	refuses int                      // so many freezes fail
}

func newHungKernel() *hungKernel {
	return &hungKernel{turn: make(chan struct{}, 1), takes: map[string]time.Duration{}}
}

func (k *hungKernel) op(ctx context.Context, name string, ioctl func(d *simDevice) error) error {
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return blockdev.ErrOutcomeUnknown
	}
	if ctx.Err() != nil {
		<-k.turn
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	k.mu.Lock()
	takes := k.takes[name]
	delete(k.takes, name)
	k.mu.Unlock()
	go func() {
		defer func() { <-k.turn }()
		time.Sleep(takes)
		k.mu.Lock()
		defer k.mu.Unlock()
		done <- ioctl(&k.d)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return blockdev.ErrOutcomeUnknown
	}
}

func (k *hungKernel) Activate(ctx context.Context, v kernel.Source) (kernel.Device, error) {
	return kernel.Device{}, k.op(ctx, "activate", func(d *simDevice) error { *d = simDevice{Bytes: total(v.(kernel.Extents)), Open: 1}; return nil })
}

func (k *hungKernel) Refresh(ctx context.Context, v kernel.Source) (kernel.Device, error) {
	return kernel.Device{}, k.op(ctx, "refresh", func(d *simDevice) error { d.Bytes, d.Frozen = total(v.(kernel.Extents)), false; return nil })
}

func (k *hungKernel) Deactivate(ctx context.Context, _ kernel.Identity) error {
	return k.op(ctx, "deactivate", func(d *simDevice) error { return kernel.ErrOpen })
}

func (k *hungKernel) Look(context.Context, string) (kernel.Device, error) {
	return kernel.Device{}, nil
}

func (k *hungKernel) Freeze(ctx context.Context, _ kernel.Identity) error {
	return k.op(ctx, "freeze", func(d *simDevice) error {
		if k.refuses > 0 {
			k.refuses--
			return errors.New("the kernel refuses")
		}
		d.Frozen = !d.Fails
		return nil
	})
}

func (k *hungKernel) Fail(ctx context.Context, _ kernel.Identity) error {
	return k.op(ctx, "fail", func(d *simDevice) error { d.Fails, d.Frozen = true, false; return nil })
}

func (k *hungKernel) passes() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.d.passes()
}

// until is a guard that is good up to a moment.
type until time.Time

func (until) Epoch() uint64 { return 1 }
func (u until) Check(need time.Duration) error {
	if left := time.Until(time.Time(u)); left <= need {
		return fmt.Errorf("%w: good for %v", blockdev.ErrLeaseLost, left)
	}
	return nil
}

// silence is a listener that nobody connects to.
type silence struct{ closed chan struct{} }

func (s silence) Accept() (net.Conn, error) { <-s.closed; return nil, net.ErrClosed }
func (s silence) Close() error              { close(s.closed); return nil }
func (s silence) Addr() net.Addr            { return nil }

// TestHolder_virtualTime: whatever hangs or fails, the holder does not end, so that its lease is not freed, before nothing passes
// through the device any more; and if nothing hangs, that is before the guard's time is over.
func TestHolder_virtualTime(t *testing.T) {
	const good = 15 * time.Second // of the guard
	segs := []attach.Segment{{Device: "/dev/lun", LengthBytes: mib}}
	for name, c := range map[string]struct {
		set    func(k *hungKernel)
		growAt time.Duration // 0: never
		told   time.Duration // when the keeper sends SIGTERM; 0: never
		by     time.Duration // when nothing may pass
	}{
		"the guard ends":                    {by: good},
		"told to":                           {told: 3 * time.Second, by: 3*time.Second + guardPoll},
		"a growth is under way":             {growAt: good - 2*time.Second, set: func(k *hungKernel) { k.takes["refresh"] = 1500 * time.Millisecond }, by: good},
		"a growth hangs for a minute":       {growAt: good - 2*time.Second, set: func(k *hungKernel) { k.takes["refresh"] = time.Minute }, by: good + 80*time.Second},
		"writes under way hang for minutes": {set: func(k *hungKernel) { k.takes["freeze"] = 3 * time.Minute }, by: good + 4*time.Minute},
		"the kernel refuses some times":     {set: func(k *hungKernel) { k.refuses = 3 }, by: good},
		"growth and refusals":               {growAt: good - time.Second, set: func(k *hungKernel) { k.refuses, k.takes["refresh"] = 2, 30*time.Second }, by: good + time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newHungKernel()
				h := &holder{Process: Process{Devices: k, Log: slog.New(slog.DiscardHandler)}, detached: make(chan struct{}), turn: make(chan struct{}, 1),
					listen: silence{make(chan struct{})}, spec: Spec{Device: attach.Device{Name: "vg-lv", UUID: devUUID}, Segments: segs}}
				g := blockdev.Guard(until(time.Now().Add(good)))
				h.guard.Store(&g)
				h.ops, h.stopOps = context.WithCancel(context.Background())
				if _, err := k.Activate(h.ops, h.spec.extents(segs, false)); err != nil {
					t.Fatal(err)
				}
				if c.set != nil {
					c.set(k)
				}
				begun := time.Now()
				ctx := context.Background()
				if c.told > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.told)
					defer cancel()
				}
				if c.growAt > 0 {
					go func() {
						time.Sleep(c.growAt)
						_ = h.grow(opTimeout, request{Segments: append(segs, segs...)})
						_ = h.grow(opTimeout, request{Segments: append(segs, segs...)}) // and again, as agents do
					}()
				}
				ended := make(chan error, 1)
				go func() { ended <- h.hold(ctx) }()
				if err := <-ended; err == nil {
					t.Error("it ended without a reason")
				}
				if k.passes() {
					t.Errorf("the holder ended after %v, and writes pass", time.Since(begun))
				}
				if took := time.Since(begun); took > c.by {
					t.Errorf("it took %v, want %v at most", took, c.by)
				}
				time.Sleep(10 * time.Minute) // whatever was left hanging comes back
				if k.passes() {
					t.Error("writes pass again")
				}
				if err := h.grow(opTimeout, request{Segments: segs}); !errors.Is(err, errOver) {
					t.Errorf("growing afterwards: %v", err)
				}
			})
		})
	}
}
