package leases

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

// TestRelease_replaced: the area is initialised anew, or cleared, while the lease is held. The release must not leave a
// block there whose version no ballot of the new lease ever reaches.
func TestRelease_replaced(t *testing.T) {
	for _, c := range []struct {
		name string
		anew func(b *bubble)
	}{
		{"initialised anew", func(b *bubble) { b.initialise("res") }},
		{"another resource", func(b *bubble) { b.initialise("new") }},
		{"cleared", func(b *bubble) {
			l := b.leader()
			l.Magic, l.Lver = magicCleared, 0
			buf := make([]byte, 512)
			l.Encode(buf)
			if err := b.mem.WriteAt(b.ctx(time.Minute), buf, mib); err != nil {
				b.t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				one, two := b.two()
				for range 3 {
					b.give(b.exclusive(one).Release)
				}
				lease := b.exclusive(one)
				c.anew(b)
				if err := lease.Release(b.ctx(time.Minute)); !errors.Is(err, ErrChanged) {
					t.Errorf("release: %v", err)
				}
				if err := one.Settle(b.ctx(time.Minute)); err != nil {
					t.Errorf("settle: %v", err)
				}
				if d := b.block(1); d.Lver != 0 {
					t.Errorf("our block: %+v", d)
				}
				spec := b.spec()
				spec.Name = b.leader().Resource.String()
				if c.name != "cleared" {
					if _, err := two.Acquire(b.ctx(time.Minute), spec); err != nil {
						t.Errorf("the new lease: %v", err)
					}
				}
			})
		})
	}
}

// TestRelease_replacedInDoubt: the same when the release itself failed and Settle finds the new lease.
func TestRelease_replacedInDoubt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		b.give(b.exclusive(one).Release)
		b.give(b.exclusive(one).Release)
		dev := faulty.New(b.mem)
		spec := b.spec()
		spec.Device = dev
		lease, err := one.Acquire(b.ctx(time.Minute), spec)
		if err != nil {
			t.Fatal(err)
		}
		r := dev.Inject(faulty.Fault{Ops: faulty.Write, Off: mib, Len: 512, Err: faulty.EIO})
		if err := lease.Release(b.ctx(time.Minute)); err == nil {
			t.Fatal("it did not fail")
		}
		r.Remove()
		b.initialise("res")
		time.Sleep(2 * Fast.IOTimeout)
		if err := one.Settle(b.ctx(time.Minute)); err != nil {
			t.Errorf("settle: %v", err)
		}
		if l := b.exclusive(two); l.Epoch() != 1 {
			t.Errorf("version %d", l.Epoch())
		}
	})
}

// initialise writes a new lease in the place of the old one.
func (b *bubble) initialise(name string) {
	b.t.Helper()
	if err := InitResource(b.ctx(time.Minute), b.mem, mib, Geometry512, "ls", name, 8); err != nil {
		b.t.Fatal(err)
	}
}
