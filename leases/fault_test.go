package leases

import (
	"context"
	"testing"
	"time"
)

// action is what a host does when its write fails. It gives a check of the lease that the host has afterwards, or nil.
type action func(ctx context.Context) (check func() error, err error)

// operation is something that host 1 does with a resource.
type operation struct {
	name string
	// keeps says that the host has a lease before, and after any fault that it survives.
	keeps bool
	// prepare brings about the state before it.
	prepare func(b *bubble, ls, other *Lockspace, spec ResourceSpec) action
}

func operations() []operation { return append(exclusiveOperations(), sharingOperations()...) }

func exclusiveOperations() []operation {
	return []operation{
		{name: "acquire", prepare: func(_ *bubble, ls, _ *Lockspace, spec ResourceSpec) action { return acquire(ls, spec) }},
		{name: "acquire over a dead holder", prepare: func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) action {
			b.exclusive(b.join(3, "c", 2*Fast.IOTimeout))
			time.Sleep(surely(Fast.HostDead()) + 2*Fast.RenewalPeriod())
			return acquire(ls, spec)
		}},
		{name: "acquire over a sharer that is gone", prepare: func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) action {
			b.goneSharer()
			return acquire(ls, spec)
		}},
		{name: "release", prepare: func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) action {
			l := b.exclusiveAt(ls, spec)
			return func(ctx context.Context) (func() error, error) { return nil, l.Release(ctx) }
		}},
		{name: "release with a lock value", prepare: func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) action {
			spec.LVB = true
			l := b.exclusiveAt(ls, spec)
			if err := l.SetLVB([]byte("value")); err != nil {
				b.t.Fatal(err)
			}
			return func(ctx context.Context) (func() error, error) { return nil, l.Release(ctx) }
		}},
	}
}

func acquire(ls *Lockspace, spec ResourceSpec) action {
	return func(ctx context.Context) (func() error, error) {
		l, err := ls.Acquire(ctx, spec)
		if err != nil {
			return nil, err
		}
		return func() error { return l.Check(0) }, nil
	}
}

func sharingOperations() []operation {
	return []operation{
		{name: "acquire shared", prepare: func(_ *bubble, ls, _ *Lockspace, spec ResourceSpec) action {
			return func(ctx context.Context) (func() error, error) {
				s, err := ls.AcquireShared(ctx, spec)
				if err != nil {
					return nil, err
				}
				return func() error { return s.Check(0) }, nil
			}
		}},
		{name: "release shared", prepare: func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) action {
			s := b.sharedAt(ls, spec)
			return func(ctx context.Context) (func() error, error) { return nil, s.Release(ctx) }
		}},
		{name: "exclusive to shared", keeps: true, prepare: func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) action {
			l := b.exclusiveAt(ls, spec)
			return func(ctx context.Context) (func() error, error) {
				s, err := l.ToShared(ctx)
				if err != nil {
					return nil, err
				}
				return func() error { return s.Check(0) }, nil
			}
		}},
		{name: "shared to exclusive", keeps: true, prepare: func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) action {
			return upgrade(b, ls, spec)
		}},
		{name: "shared to exclusive over a sharer that is gone", keeps: true, prepare: func(b *bubble, ls, _ *Lockspace, spec ResourceSpec) action {
			do := upgrade(b, ls, spec)
			b.goneSharer()
			return do
		}},
		{name: "shared to exclusive, refused by a sharer that comes", keeps: true, prepare: func(b *bubble, ls, other *Lockspace, spec ResourceSpec) action {
			do := upgrade(b, ls, spec)
			f := spec.Device.(*faultyDevice)
			f.Device = &hookDevice{Device: b.mem, before: func(int64) {
				b.setBlock(2, DBlock{Flags: flagReleased, ModeFlags: flagShared, ModeGeneration: other.Generation()})
			}}
			return do
		}},
	}
}

func upgrade(b *bubble, ls *Lockspace, spec ResourceSpec) action {
	s := b.sharedAt(ls, spec)
	return func(ctx context.Context) (func() error, error) {
		l, err := s.ToExclusive(ctx)
		if err != nil {
			return func() error { return s.Check(0) }, err // still shared
		}
		return func() error { return l.Check(0) }, nil
	}
}

func (b *bubble) exclusiveAt(ls *Lockspace, spec ResourceSpec) *Lease {
	b.t.Helper()
	l, err := ls.Acquire(b.ctx(time.Minute), spec)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

func (b *bubble) sharedAt(ls *Lockspace, spec ResourceSpec) *SharedLease {
	b.t.Helper()
	s, err := ls.AcquireShared(b.ctx(time.Minute), spec)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// goneSharer makes host 7 one that shared the resource and left the lockspace.
func (b *bubble) goneSharer() {
	b.give(b.join(7, "g", 2*Fast.IOTimeout).Leave)
	b.setBlock(7, DBlock{Flags: flagReleased, ModeFlags: flagShared, ModeGeneration: 1})
}

// setBlock writes host h's block behind everybody's back.
func (b *bubble) setBlock(h int, d DBlock) {
	sector := make([]byte, 512)
	d.Encode(sector)
	b.mem.SetBytes(mib+Geometry512.sector(h+1), sector)
}

// TestResource_crashAtEveryWrite: whatever host 1 leaves on disk when it dies at any write of any operation, another host
// gets the resource, not before 8N + W if the disk says that host 1 has it and at once if not; and so does host 1 itself
// when it comes back, after 2N.
func TestResource_crashAtEveryWrite(t *testing.T) {
	t.Parallel()
	everyFault(t, operations(), fates(), "another host", crashThenOther)
	everyFault(t, operations(), []fate{fateLost, fateLanded}, "the same host", crashThenRejoin)
}

// TestResource_unknownAtEveryWrite: a write that times out leaves a lease that keeps what it promises, and nothing that
// Settle, or the host's next attempt, could not undo. Nobody is told that it has what another host has too.
func TestResource_unknownAtEveryWrite(t *testing.T) {
	t.Parallel()
	everyFault(t, operations(), fates(), "settle", unknownThenSettle)
	everyFault(t, operations(), fates(), "try again", unknownThenRetry)
	everyFault(t, operations(), fates(), "leave", unknownThenLeave)
}
