package leases

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

// maxWrites is more than any operation has.
const maxWrites = 12

// faultChecker lets the write number at of an operation fail and judges what follows. False: there is no such write.
type faultChecker[O any] func(b *bubble, op O, at int, fate fate) (bool, error)

// everyWrite runs the checker for each write of an operation and returns how many there are, and what is wrong first.
func everyWrite[O any](t *testing.T, op O, fate fate, bugs plant.Bugs, check faultChecker[O]) (writes int, err error) {
	for at := range maxWrites {
		hit := false
		inSerialBubble(t, func(_ *testing.T, b *bubble) {
			b.bugs = bugs
			hit, err = check(b, op, at, fate)
		})
		if err != nil {
			return at + 1, fmt.Errorf("write %d %s: %w", at, fate, err)
		}
		if !hit {
			return at, nil
		}
	}
	return maxWrites, errors.New("there is no end to its writes")
}

// named is what the checkers go through.
type named interface{ String() string }

func (op operation) String() string { return op.name }

// everyFault runs the checker for each write of each operation with each fate.
func everyFault[O named](t *testing.T, ops []O, fates []fate, next string, check faultChecker[O]) {
	for _, op := range ops {
		for _, fate := range fates {
			t.Run(fmt.Sprintf("%s, %s, then %s", op, fate, next), func(t *testing.T) {
				t.Parallel()
				writes, err := everyWrite(t, op, fate, plant.Bugs{}, check)
				if t.Logf("%d writes", writes); err != nil || writes == 0 {
					t.Error(writes, err)
				}
			})
		}
	}
}

// faulted joins hosts 1 and 2 and lets host 1 do op with one write that fails.
type faulted struct {
	one, two *Lockspace
	stop     func() // of host 1's renewals
	dev      *faultyDevice
	spec     ResourceSpec // on that device
	check    func() error // of what host 1 has
	err      error        // that it was told
}

func (b *bubble) fault(op operation, at int, fate fate, dies bool) (*faulted, error) {
	x := &faulted{one: b.join(1, "a", 2*Fast.IOTimeout), dev: b.faulty(), spec: b.spec()}
	x.stop = b.run(x.one)
	x.two = b.join(2, "b", 2*Fast.IOTimeout)
	b.run(x.two)
	time.Sleep(3 * Fast.RenewalPeriod())
	x.spec.Device = x.dev
	do := op.prepare(b, x.one, x.two, x.spec)
	x.dev.arm(at, fate, dies)
	x.check, x.err = do(b.ctx(time.Minute))
	if x.dev.Device = b.mem; x.dev.hit() { // no more sharers come
		b.setBlock(2, DBlock{})
	}
	if x.dev.longest != 512 {
		return x, fmt.Errorf("a write of %d bytes can be torn", x.dev.longest)
	}
	return x, nil
}

// has says whether host 1 has a lease and may use it.
func (x *faulted) has() bool { return x.check != nil && x.check() == nil }

// namedOwner says whether the disk keeps others out because of host 1.
func (b *bubble) namedOwner() bool {
	l, d := b.leader(), b.block(1)
	exclusive := l.OwnerID == 1 && l.Timestamp != 0 && (l.WriteID == 1 || !d.Released())
	return exclusive || d.Shared()
}

func (b *bubble) sharedBy(h int) bool {
	d := b.block(h)
	return d.Shared()
}

// crashThenOther: host 1 dies, host 2 wants the resource.
func crashThenOther(b *bubble, op operation, at int, fate fate) (bool, error) {
	x, err := b.fault(op, at, fate, true)
	if err != nil || !x.dev.hit() {
		return false, err
	}
	x.stop()
	l, err := b.takeOver(x.two, x.one.lastRenewal())
	if err != nil {
		return true, err
	}
	time.Sleep(Fast.HostDead()) // all has landed
	return true, b.keepsUp(x.two, l)
}

// takeOver tries once a second for host 2 and holds what it sees against the rules, host 1 being silent since last.
func (b *bubble) takeOver(two *Lockspace, last time.Duration) (*Lease, error) {
	spec := b.spec()
	spec.NoWait = true
	for version := b.leader().Lver; ; time.Sleep(time.Second) {
		before, found := b.namedOwner(), b.leader()
		l, err := two.Acquire(b.ctx(time.Minute), spec)
		silent := b.clock.Boot() - last
		switch {
		case err == nil && before && silent <= Fast.HostDead():
			return nil, fmt.Errorf("taken after %v", silent)
		case err == nil && l.Epoch() <= version:
			return nil, fmt.Errorf("version %d after %d", l.Epoch(), version)
		case err == nil && b.sharedBy(1):
			return nil, errors.New("taken, but host 1 still shares")
		case err == nil:
			return l, nil
		case !errors.Is(err, ErrHeld):
			return nil, err
		case !b.namedOwner() && b.leader() == found: // otherwise it finished a ballot of host 1's, and is the next owner
			return nil, fmt.Errorf("refused although nobody has it: %w", err)
		case silent > Fast.HostDead()+Fast.RenewalPeriod()+2*time.Second:
			return nil, fmt.Errorf("refused after %v: %w", silent, err)
		}
	}
}

// keepsUp checks that l, of ls, is still good, here and on disk, and that the resource can be given back and had again.
func (b *bubble) keepsUp(ls *Lockspace, l *Lease) error {
	if err := b.intact(ls, l); err != nil {
		return err
	}
	if err := l.Release(b.ctx(time.Minute)); err != nil {
		return fmt.Errorf("giving it back: %w", err)
	}
	again, err := ls.Acquire(b.ctx(time.Minute), b.spec())
	if err != nil {
		return fmt.Errorf("having it again: %w", err)
	}
	return b.intact(ls, again)
}

// intact checks that l, of ls, is good here and on disk.
func (b *bubble) intact(ls *Lockspace, l *Lease) error {
	if err := l.Check(0); err != nil {
		return err
	}
	if d := b.leader(); d.OwnerID != uint64(ls.HostID()) || d.OwnerGeneration != ls.Generation() || d.Lver != l.Epoch() || d.Timestamp == 0 {
		return fmt.Errorf("host %d has version %d, the disk says %+v", ls.HostID(), l.Epoch(), d)
	}
	return nil
}

// crashThenRejoin: host 1 dies, comes back under its name, and wants the resource.
func crashThenRejoin(b *bubble, op operation, at int, fate fate) (bool, error) {
	x, err := b.fault(op, at, fate, true)
	if err != nil || !x.dev.hit() {
		return false, err
	}
	x.stop()
	found, begin := b.leader(), time.Now()
	back, err := Join(b.ctx(time.Hour), b.config(1, "a"))
	if took := time.Since(begin); err != nil || took != 2*Fast.IOTimeout || back.Generation() <= x.one.Generation() {
		return true, fmt.Errorf("coming back: %v after %v, generation %d", err, took, back.Generation())
	}
	b.run(back)
	limit := 2 * Fast.IOTimeout
	if found.Timestamp != 0 && found.OwnerID != 1 { // the dead holder: it has not been watched since we came back
		limit += surely(Fast.HostDead()) + 2*time.Second
	}
	l, err := back.Acquire(b.ctx(time.Minute), b.spec())
	if err != nil {
		return true, err
	}
	if took := time.Since(begin); l.Epoch() <= found.Lver || took > limit {
		return true, fmt.Errorf("version %d after %d, after %v", l.Epoch(), found.Lver, took)
	}
	return true, b.keepsUp(back, l)
}

// unknownThenSettle: host 1 lives on, and settles. Host 2 tries all the time, and keeps what it gets for a while.
func unknownThenSettle(b *bubble, op operation, at int, fate fate) (bool, error) {
	x, err := b.fault(op, at, fate, false)
	if err != nil || !x.dev.hit() {
		return false, err
	}
	has := x.has()
	if has != op.keeps && (op.keeps || x.err != nil) {
		return true, fmt.Errorf("it has the lease: %v, told %w", has, x.err)
	}
	for range 4 {
		l, err := x.two.Acquire(b.ctx(time.Minute), b.spec())
		if has && err == nil || err != nil && !errors.Is(err, ErrHeld) {
			return true, fmt.Errorf("host 1 has it: %v, host 2: %v", has, err)
		}
		time.Sleep(Fast.IOTimeout)
		x.err = x.one.Settle(b.ctx(time.Minute))
		if l == nil {
			continue
		}
		if err := errors.Join(b.intact(x.two, l), l.Release(b.ctx(time.Minute))); err != nil {
			return true, fmt.Errorf("host 2: %w", err)
		}
	}
	if x.err != nil {
		return true, fmt.Errorf("never settled: %w", x.err)
	}
	return true, b.settled(x.two, has && x.has())
}

// settled checks what is left after Settle: a shared or exclusive lease of host 1, or nothing.
func (b *bubble) settled(two *Lockspace, has bool) error {
	l, d := b.leader(), b.block(1)
	exclusive := l.OwnerID == 1 && l.Timestamp != 0
	if has != (exclusive || d.Shared()) || exclusive && d.Shared() {
		return fmt.Errorf("host 1 has it: %v; disk: exclusive %v, shared %v", has, exclusive, d.Shared())
	}
	if has && exclusive {
		return nil
	}
	if _, err := two.AcquireShared(b.ctx(time.Minute), b.spec()); err != nil {
		return fmt.Errorf("sharing afterwards: %w", err)
	}
	return nil
}

// unknownThenRetry: host 1 lives on and, if it was left without a lease, tries to take the resource without settling.
func unknownThenRetry(b *bubble, op operation, at int, fate fate) (bool, error) {
	x, err := b.fault(op, at, fate, false)
	if err != nil || !x.dev.hit() || x.has() {
		return x.dev.hit(), err
	}
	for end := time.Now().Add(4 * Fast.IOTimeout); ; time.Sleep(Fast.IOTimeout / 4) {
		l, err := x.one.Acquire(b.ctx(time.Minute), x.spec)
		if err == nil {
			return true, b.aloneWith(x, l)
		}
		if time.Now().After(end) {
			return true, fmt.Errorf("never got it: %w", err)
		}
	}
}

// aloneWith checks that host 1 keeps what it got, whatever lands late, and that host 2 is refused all the time.
func (b *bubble) aloneWith(x *faulted, l *Lease) error {
	for range 4 {
		if _, err := x.two.Acquire(b.ctx(time.Minute), b.spec()); !errors.Is(err, ErrHeld) {
			return fmt.Errorf("host 1 has it, host 2: %v", err)
		}
		if err := b.intact(x.one, l); err != nil {
			return err
		}
		time.Sleep(Fast.IOTimeout)
	}
	return b.keepsUp(x.one, l)
}

// unknownThenLeave: host 1 lives on and leaves, as far as it may. Host 2 tries all the time, and keeps what it gets.
func unknownThenLeave(b *bubble, op operation, at int, fate fate) (bool, error) {
	x, err := b.fault(op, at, fate, false)
	if err != nil || !x.dev.hit() || x.has() {
		return x.dev.hit(), err
	}
	last := x.one.lastRenewal()
	left := x.one.Leave(b.ctx(time.Minute))
	if free := b.leaderOf(1).Timestamp == 0; free != (left == nil) || free && x.dev.Pending() > 0 {
		return true, fmt.Errorf("the record is free: %v, with %d writes on their way, told %v", free, x.dev.Pending(), left)
	}
	x.stop()
	if left == nil {
		last = b.clock.Boot()
	}
	l, err := b.takeOver(x.two, last)
	if err != nil {
		return true, err
	}
	time.Sleep(Fast.HostDead())
	return true, b.keepsUp(x.two, l)
}
