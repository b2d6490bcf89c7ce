package leases

import (
	"errors"
	"testing"
	"time"
)

// TestAcquire_minVersion: a lease begins with the version that is asked for, and counts on from there.
func TestAcquire_minVersion(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		ls := b.join(1, "a", 2*Fast.IOTimeout)
		b.run(ls)
		spec := b.spec()
		spec.MinVersion = 41
		for want := uint64(41); want < 44; want++ { // 41 is raised to, the others come by themselves
			l, err := ls.Acquire(b.ctx(time.Minute), spec)
			if err != nil || l.Epoch() != want || l.Check(0) != nil {
				t.Fatalf("version %d: %+v, %v, %v", want, l, err, l.Check(0))
			}
			info, err := ls.ReadResource(b.ctx(time.Minute), spec)
			if err != nil || info.Version != want || info.Owner != 1 || info.State == ResourceFree {
				t.Fatalf("on disk: %+v, %v", info, err)
			}
			if err := l.Release(b.ctx(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if info, err = ls.ReadResource(b.ctx(time.Minute), spec); err != nil || info.Version != want || info.State != ResourceFree {
				t.Fatalf("released: %+v, %v", info, err)
			}
		}
	})
}

// TestAcquire_minVersionContested: with a host in a ballot for the version that was decided nothing is raised, since that host
// may commit it late, over what we write. The lease is not held then, and free for the next try, which succeeds.
func TestAcquire_minVersionContested(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		ls := b.join(1, "a", 2*Fast.IOTimeout)
		b.run(ls)
		spec := b.spec()
		spec.MinVersion = 41
		block := make([]byte, 512)
		(&DBlock{Mbal: 2, Lver: 1}).Encode(block) // host 2, a phase below ours
		b.mem.SetBytes(spec.Offset+3*512, block)
		if l, err := ls.Acquire(b.ctx(time.Minute), spec); !errors.Is(err, ErrBusy) {
			t.Fatalf("%+v, %v", l, err)
		}
		info, err := ls.ReadResource(b.ctx(time.Minute), spec)
		if err != nil || info.State != ResourceFree || info.Version >= 41 {
			t.Fatalf("after the refusal: %+v, %v", info, err)
		}
		l, err := ls.Acquire(b.ctx(time.Minute), spec) // decides version 2, which host 2 is not in
		if err != nil || l.Epoch() != 41 {
			t.Fatalf("%+v, %v", l, err)
		}
	})
}
