package leases

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// TestLVB: what the exclusive holder sets, the next holder reads, at the place where sanlock keeps it.
func TestLVB(t *testing.T) {
	golden, err := os.ReadFile("testdata/golden/paxos-512-lvb-sector2002.bin")
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(b *bubble, l *Lease){
		"release":   func(b *bubble, l *Lease) { b.give(l.Release) },
		"to shared": func(b *bubble, l *Lease) { b.give(b.convert(l).Release) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				one, two := b.two()
				if l := b.exclusive(one); !errors.Is(l.SetLVB([]byte("x")), ErrLVB) || l.LVB() != nil {
					t.Error("a lock value block that was not asked for")
				} else {
					b.give(l.Release)
				}
				spec := b.spec()
				spec.LVB = true
				l, err := one.Acquire(b.ctx(time.Minute), spec)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(l.LVB(), make([]byte, 512)) {
					t.Errorf("at first: %q", l.LVB())
				}
				if err := l.SetLVB(make([]byte, 513)); !errors.Is(err, ErrLVB) {
					t.Errorf("too much: %v", err)
				}
				if err := l.SetLVB([]byte("golden lvb")); err != nil {
					t.Error(err)
				}
				if on := b.mem.Bytes(mib+2002*512, 512); !bytes.Equal(on, make([]byte, 512)) {
					t.Error("written before the lease ends")
				}
				end(b, l)
				if on := b.mem.Bytes(mib+2002*512, 512); !bytes.Equal(on, golden) {
					t.Errorf("on disk %q, sanlock wrote %q", on, golden)
				}
				s, err := two.AcquireShared(b.ctx(time.Minute), spec)
				if err != nil || !bytes.Equal(s.LVB(), golden) {
					t.Fatalf("%v, a sharer reads %q", err, s.LVB())
				}
				up, err := s.ToExclusive(b.ctx(time.Minute))
				if err != nil || !bytes.Equal(up.LVB(), golden) || l.SetLVB(nil) == nil {
					t.Errorf("%v, converted %q", err, up.LVB())
				}
			})
		})
	}
}

// TestLVB_writeLost: a block that may still be on its way keeps the lease from others until Settle.
func TestLVB_writeLost(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		one, two := b.two()
		f := b.faulty()
		spec := b.spec()
		spec.Device, spec.LVB = f, true
		l, err := one.Acquire(b.ctx(time.Minute), spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.SetLVB([]byte("lost")); err != nil {
			t.Fatal(err)
		}
		f.arm(0, fateLost, false)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := l.Release(ctx); !errors.Is(err, blockdev.ErrOutcomeUnknown) || l.Check(0) == nil {
			t.Errorf("%v, %v", err, l.Check(0))
		}
		if _, err := two.Acquire(b.ctx(time.Minute), b.spec()); time.Since(begin) < Fast.IOTimeout && !errors.Is(err, ErrHeld) {
			t.Errorf("taken %v after a write that may still land: %v", time.Since(begin), err)
		}
		time.Sleep(Fast.IOTimeout)
		if err := one.Settle(b.ctx(time.Minute)); err != nil {
			t.Error(err)
		}
		b.exclusive(two)
	})
}

// TestLVB_geometry: where sanlock would write into another lease, there is no lock value block.
func TestLVB_geometry(t *testing.T) {
	t.Parallel()
	for _, g := range geometries {
		if want := g.SectorSize == 512 || g.AlignSize == 8*mib; g.hasLVB() != want {
			t.Errorf("%+v: %v", g, g.hasLVB())
		}
	}
	mem := blockdev.NewMem(4*mib, 4096)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	g := Geometry{4096, mib}
	if err := errors.Join(InitLockspace(ctx, mem, 0, g, "ls", time.Second), InitResource(ctx, mem, mib, g, "ls", "res", 0)); err != nil {
		t.Fatal(err)
	}
	ls, err := Join(ctx, LockspaceConfig{Device: mem, Name: "ls", HostID: 1, HostName: "a", Profile: Dev, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	spec := ResourceSpec{Name: "res", Device: mem, Offset: mib, LVB: true}
	if _, err := ls.Acquire(ctx, spec); !errors.Is(err, ErrLVB) {
		t.Errorf("got %v", err)
	}
	if _, err := ls.AcquireShared(ctx, spec); !errors.Is(err, ErrLVB) {
		t.Errorf("shared: %v", err)
	}
	spec.LVB = false
	if _, err := ls.Acquire(ctx, spec); err != nil {
		t.Errorf("without: %v", err)
	}
}
