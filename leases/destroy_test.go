package leases

import (
	"errors"
	"testing"
	"time"
)

// A destroyed resource cannot be had by anybody any more, and nothing is written to its place afterwards.
func TestLease_Destroy(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one := b.join(1, "a", 2*Fast.IOTimeout)
		defer b.run(one)()
		two := b.join(2, "b", 2*Fast.IOTimeout)
		defer b.run(two)()
		l, err := one.Acquire(b.ctx(time.Minute), b.spec())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Destroy(b.ctx(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if l.Check(0) == nil || !errors.Is(l.Release(b.ctx(time.Minute)), ErrNotHeld) {
			t.Error("a destroyed lease still allows something")
		}
		for _, ls := range []*Lockspace{one, two} {
			if _, err := ls.Acquire(b.ctx(time.Minute), b.spec()); !errors.Is(err, ErrNoLease) {
				t.Errorf("host %d: %v", ls.HostID(), err)
			}
		}
		if err := InitResource(b.ctx(time.Minute), b.mem, mib, Geometry512, "ls", "next", 8); err != nil {
			t.Fatal(err)
		}
		before := b.mem.Bytes(mib, mib)
		if err := one.Settle(b.ctx(time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if string(b.mem.Bytes(mib, mib)) != string(before) {
			t.Error("something was written to the place of a destroyed lease")
		}
	})
}
