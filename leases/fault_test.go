package leases

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// faultyDevice lets one write fail with unknown outcome.
type faultyDevice struct {
	blockdev.Device
	armed bool
	at    int // which write from now on
	lands bool
	dies  bool // nothing works after it
	dead  bool
	seen  int
}

func (f *faultyDevice) ReadAt(ctx context.Context, p []byte, off int64) error {
	if f.dead {
		return blockdev.ErrGone
	}
	return f.Device.ReadAt(ctx, p, off)
}

func (f *faultyDevice) WriteAt(ctx context.Context, p []byte, off int64) error {
	if f.dead {
		return blockdev.ErrGone
	}
	n := f.seen
	f.seen++
	if !f.armed || n != f.at {
		return f.Device.WriteAt(ctx, p, off)
	}
	f.dead = f.dies
	if f.lands {
		if err := f.Device.WriteAt(ctx, p, off); err != nil {
			return err
		}
	}
	return blockdev.ErrOutcomeUnknown
}

// arm makes the write number at fail.
func (f *faultyDevice) arm(at int, lands, dies bool) {
	f.armed, f.at, f.lands, f.dies, f.seen = true, at, lands, dies, 0
}

// hit says whether the armed write was reached.
func (f *faultyDevice) hit() bool { return f.seen > f.at }

// operation is what a host does when its write fails: prepare brings it into the state before, and gives what to do. What
// that returns is the shared or exclusive lease it has afterwards, as a check, or nil.
type operation struct {
	name    string
	prepare func(b *bubble, ls, other *Lockspace, spec ResourceSpec) func(ctx context.Context) (func() error, error)
}

// none is the result of an operation that ends with no lease.
func none(err error) (func() error, error) { return nil, err }

func operations() []operation {
	return []operation{
		{"acquire shared", func(_ *bubble, ls, _ *Lockspace, spec ResourceSpec) func(context.Context) (func() error, error) {
			return func(ctx context.Context) (func() error, error) {
				s, err := ls.AcquireShared(ctx, spec)
				if err != nil {
					return none(err)
				}
				return func() error { return s.Check(0) }, nil
			}
		}},
		{"release shared", func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) func(context.Context) (func() error, error) {
			s := b.sharedAt(ls, spec)
			return func(ctx context.Context) (func() error, error) { return none(s.Release(ctx)) }
		}},
		{"exclusive to shared", func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) func(context.Context) (func() error, error) {
			l, err := ls.Acquire(b.ctx(time.Minute), spec)
			if err != nil {
				b.t.Fatal(err)
			}
			return func(ctx context.Context) (func() error, error) {
				s, err := l.ToShared(ctx)
				if err != nil {
					return none(err)
				}
				return func() error { return s.Check(0) }, nil
			}
		}},
		{"shared to exclusive", func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) func(context.Context) (func() error, error) {
			return upgrade(b, ls, spec)
		}},
		{"shared to exclusive over a sharer that is gone", func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) func(context.Context) (func() error, error) {
			op := upgrade(b, ls, spec)
			b.setBlock(7, DBlock{Flags: flagReleased, ModeFlags: flagShared, ModeGeneration: 1})
			return op
		}},
		{"shared to exclusive, refused by a sharer that comes", func(b *bubble, ls, other *Lockspace, spec ResourceSpec) func(context.Context) (func() error, error) {
			op := upgrade(b, ls, spec)
			f := spec.Device.(*faultyDevice)
			f.Device = &hookDevice{Device: b.mem, before: func(int64) {
				b.setBlock(2, DBlock{Flags: flagReleased, ModeFlags: flagShared, ModeGeneration: other.Generation()})
			}}
			return op
		}},
	}
}

func upgrade(b *bubble, ls *Lockspace, spec ResourceSpec) func(context.Context) (func() error, error) {
	s := b.sharedAt(ls, spec)
	return func(ctx context.Context) (func() error, error) {
		l, err := s.ToExclusive(ctx)
		if err != nil {
			return func() error { return s.Check(0) }, err // still shared
		}
		return func() error { return l.Check(0) }, nil
	}
}

func (b *bubble) sharedAt(ls *Lockspace, spec ResourceSpec) *SharedLease {
	b.t.Helper()
	s, err := ls.AcquireShared(b.ctx(time.Minute), spec)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// setBlock writes host h's block behind everybody's back.
func (b *bubble) setBlock(h int, d DBlock) {
	sector := make([]byte, 512)
	d.Encode(sector)
	b.mem.SetBytes(mib+Geometry512.sector(h+1), sector)
}

// everyFault runs f for each write of each operation, landed or not.
func everyFault(t *testing.T, dies bool, f func(t *testing.T, b *bubble, op operation, at int, lands bool) bool) {
	for _, op := range operations() {
		for _, lands := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lands %v", op.name, lands), func(t *testing.T) {
				t.Parallel()
				reached := 0
				for at := range 12 {
					hit := false
					t.Run(fmt.Sprint(at), func(t *testing.T) {
						inSerialBubble(t, func(t *testing.T, b *bubble) { hit = f(t, b, op, at, lands) })
					})
					if !hit {
						break
					}
					reached++
				}
				if t.Logf("%d writes, dies %v", reached, dies); reached == 0 {
					t.Error("no write was reached")
				}
			})
		}
	}
}

// TestShare_crashAtEveryWrite: whatever the host leaves on disk when it dies at any write, the next one gets the resource
// exclusively: at once if the disk says that nobody has it, not before 8N + W if it says so.
func TestShare_crashAtEveryWrite(t *testing.T) {
	t.Parallel()
	everyFault(t, true, func(t *testing.T, b *bubble, op operation, at int, lands bool) bool {
		one := b.join(1, "a", 2*Fast.IOTimeout)
		stop := b.run(one)
		two := b.join(2, "b", 2*Fast.IOTimeout)
		b.run(two)
		time.Sleep(3 * Fast.RenewalPeriod())
		f := &faultyDevice{Device: b.mem}
		spec := b.spec()
		spec.Device = f
		do := op.prepare(b, one, two, spec)
		f.arm(at, lands, true)
		_, _ = do(b.ctx(time.Minute))
		if !f.hit() {
			return false
		}
		stop()
		b.setBlock(2, DBlock{})
		last := one.lastRenewal()
		l, d := b.leader(), b.block(1)
		held := l.OwnerID == 1 && l.Timestamp != 0 || d.Shared()
		err := b.insist(func() error { _, err := two.Acquire(b.ctx(time.Hour), b.spec()); return err })
		silent := b.clock.Boot() - last
		if err != nil {
			t.Fatalf("the next host: %v", err)
		}
		if held && silent <= Fast.HostDead() || silent > Fast.HostDead()+Fast.RenewalPeriod()+2*time.Second {
			t.Errorf("held %v, taken after %v", held, silent)
		}
		if d := b.block(1); d.Shared() {
			t.Errorf("taken, but host 1 still shares: %+v", d)
		}
		return true
	})
}

// TestShare_unknownAtEveryWrite: a write that times out, landed or not, leaves a lease that keeps what it promises, and
// nothing that Settle could not undo.
func TestShare_unknownAtEveryWrite(t *testing.T) {
	t.Parallel()
	everyFault(t, false, func(t *testing.T, b *bubble, op operation, at int, lands bool) bool {
		one, two := b.two()
		f := &faultyDevice{Device: b.mem}
		spec := b.spec()
		spec.Device = f
		do := op.prepare(b, one, two, spec)
		f.arm(at, lands, false)
		check, err := do(b.ctx(time.Minute))
		if !f.hit() {
			return false
		}
		f.Device = b.mem // no more sharers come
		b.setBlock(2, DBlock{})
		has := check != nil && check() == nil
		if op.name != "acquire shared" && op.name != "release shared" && !has {
			t.Errorf("the shared lease is gone: %v", err)
		}
		for range 3 {
			if l, aerr := two.Acquire(b.ctx(time.Minute), b.spec()); has == (aerr == nil) {
				if has || errors.Is(aerr, ErrHeld) && b.clock.Boot() > one.lastRenewal()+Fast.HostDead() {
					t.Errorf("host 1 has it: %v, host 2: %v, after %v", has, aerr, err)
				}
			} else if aerr == nil {
				b.give(l.Release)
			}
			time.Sleep(Fast.IOTimeout)
			if serr := one.Settle(b.ctx(time.Minute)); serr != nil {
				t.Errorf("settle: %v", serr)
			}
		}
		b.settled(two, has && check() == nil)
		return true
	})
}

// settled checks what is left after Settle: a shared or exclusive lease of host 1, or nothing.
func (b *bubble) settled(two *Lockspace, has bool) {
	b.t.Helper()
	l, d := b.leader(), b.block(1)
	exclusive := l.OwnerID == 1 && l.Timestamp != 0
	if has != (exclusive || d.Shared()) || exclusive && d.Shared() {
		b.t.Errorf("host 1 has it: %v; disk: exclusive %v, shared %v", has, exclusive, d.Shared())
	}
	if !has || !exclusive {
		if _, err := two.AcquireShared(b.ctx(time.Minute), b.spec()); err != nil {
			b.t.Errorf("sharing afterwards: %v", err)
		}
	}
}

// TestToShared_unfinished: a conversion whose end did not reach the disk gives a shared lease that can be released and
// converted back without Settle; one whose write surely failed leaves the exclusive lease.
func TestToShared_unfinished(t *testing.T) {
	for name, next := range map[string]func(b *bubble, s *SharedLease) error{
		"release": func(b *bubble, s *SharedLease) error { return s.Release(b.ctx(time.Minute)) },
		"convert back": func(b *bubble, s *SharedLease) error {
			l, err := s.ToExclusive(b.ctx(time.Minute))
			if err != nil {
				return err
			}
			if l.Epoch() != 2 || b.leader().Timestamp == 0 {
				b.t.Errorf("version %d, leader %+v", l.Epoch(), b.leader())
			}
			return l.Release(b.ctx(time.Minute))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				one, two := b.two()
				f := &faultyDevice{Device: b.mem}
				spec := b.spec()
				spec.Device = f
				l, err := one.Acquire(b.ctx(time.Minute), spec)
				if err != nil {
					t.Fatal(err)
				}
				f.arm(1, false, false) // the leader
				s, err := l.ToShared(b.ctx(time.Minute))
				if err != nil || l.Check(0) == nil || s.Check(0) != nil || b.leader().Timestamp == 0 {
					t.Fatalf("%v, leader %+v", err, b.leader())
				}
				if err := next(b, s); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				b.exclusive(two)
			})
		})
	}
	t.Run("surely not written", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bubble) {
			l := b.exclusive(b.join(1, "a", 2*Fast.IOTimeout))
			b.mem.SetReadOnly(true)
			if _, err := l.ToShared(b.ctx(time.Minute)); !errors.Is(err, blockdev.ErrReadOnly) || l.Check(0) != nil {
				t.Errorf("%v, exclusive %v", err, l.Check(0))
			}
			b.mem.SetReadOnly(false)
			b.convert(l)
		})
	})
}
