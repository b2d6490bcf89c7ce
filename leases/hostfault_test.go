package leases

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// hostOperation is something that host a does with the record of host id 1.
type hostOperation struct {
	name string
	// prepare brings about the state before it. The action gives the lockspace, if host a has it afterwards.
	prepare func(b *bubble, dev *faultyDevice) func(ctx context.Context) (*Lockspace, error)
	rival   time.Duration // how much later a rival for the host id begins
}

func (op hostOperation) String() string { return op.name }

func joins() []hostOperation {
	take := func(b *bubble, dev *faultyDevice) func(context.Context) (*Lockspace, error) {
		return func(ctx context.Context) (*Lockspace, error) { return Join(ctx, b.on(dev)) }
	}
	after := func(before func(b *bubble)) func(b *bubble, dev *faultyDevice) func(context.Context) (*Lockspace, error) {
		return func(b *bubble, dev *faultyDevice) func(context.Context) (*Lockspace, error) {
			before(b)
			return take(b, dev)
		}
	}
	return []hostOperation{
		{name: "join", prepare: take},
		{name: "come back", prepare: after(func(b *bubble) { b.join(1, "a", 2*Fast.IOTimeout) })},
		{name: "join where another host was", prepare: after(func(b *bubble) { b.give(b.join(1, "z", 2*Fast.IOTimeout).Leave) })},
		{name: "join where another host died", prepare: after(func(b *bubble) { b.join(1, "z", 2*Fast.IOTimeout) }), rival: time.Second},
	}
}

func renewal() hostOperation {
	return hostOperation{name: "renew", prepare: func(b *bubble, dev *faultyDevice) func(context.Context) (*Lockspace, error) {
		ls := b.joinOn(dev)
		b.exclusive(ls)
		time.Sleep(Fast.RenewalPeriod())
		return func(ctx context.Context) (*Lockspace, error) { return ls, ls.renew(ctx) }
	}}
}

func leave() hostOperation {
	return hostOperation{name: "leave", prepare: func(b *bubble, dev *faultyDevice) func(context.Context) (*Lockspace, error) {
		ls := b.joinOn(dev)
		b.give(b.exclusive(ls).Release)
		return func(ctx context.Context) (*Lockspace, error) { return ls, ls.Leave(ctx) }
	}}
}

// on is the configuration of host a on a device of its own.
func (b *bubble) on(dev *faultyDevice) LockspaceConfig {
	cfg := b.config(1, "a")
	cfg.Device = dev
	return cfg
}

func (b *bubble) joinOn(dev *faultyDevice) *Lockspace {
	b.t.Helper()
	ls, err := Join(b.ctx(time.Hour), b.on(dev))
	if err != nil {
		b.t.Fatal(err)
	}
	return ls
}

// TestHost_crashAtEveryWrite: whatever a host leaves in its record when it dies, it gets its host id back after 2N, and
// another host gets it not before 8N + W if the record is not free, and after 2N if it is. The generation grows, and the
// resource that the dead one held can be taken at once.
func TestHost_crashAtEveryWrite(t *testing.T) {
	t.Parallel()
	ops := append(joins(), renewal(), leave())
	everyFault(t, ops, []fate{fateLost, fateLanded}, "the same host", crashThenJoin("a"))
	everyFault(t, ops, []fate{fateLost, fateLanded}, "another host", crashThenJoin("b"))
}

// crashThenJoin: host a dies, and a host of that name takes the host id.
func crashThenJoin(name string) faultChecker[hostOperation] {
	return func(b *bubble, op hostOperation, at int, fate fate) (bool, error) {
		dev := b.faulty()
		do := op.prepare(b, dev)
		dev.arm(at, fate, true)
		_, _ = do(b.ctx(time.Hour))
		if !dev.hit() {
			return false, nil
		}
		if dev.longest != 512 {
			return true, fmt.Errorf("a write of %d bytes can be torn", dev.longest)
		}
		return true, b.joinNext(name)
	}
}

// joinNext joins host id 1 and checks when that is done, and what the resource is to the one that has it now.
func (b *bubble) joinNext(name string) error {
	found, begin, want := b.leaderOf(1), time.Now(), 2*Fast.IOTimeout
	if found.Timestamp != 0 && found.Resource.String() != name {
		want += surely(Fast.HostDead())
	}
	ls, err := Join(b.ctx(time.Hour), b.config(1, name))
	if err != nil {
		return err
	}
	if took := time.Since(begin); took != want || ls.Generation() != found.OwnerGeneration+1 {
		return fmt.Errorf("joined after %v, want %v, as generation %d after %d", took, want, ls.Generation(), found.OwnerGeneration)
	}
	b.run(ls)
	l, err := ls.Acquire(b.ctx(time.Second), b.spec())
	if err != nil {
		return fmt.Errorf("the resource of the dead one: %w", err)
	}
	return b.keepsUp(ls, l)
}

// TestHost_unknownAtEveryWrite: a write to the record that times out, with the host alive.
func TestHost_unknownAtEveryWrite(t *testing.T) {
	t.Parallel()
	everyFault(t, joins(), fates(), "join again beside a rival", unknownThenJoin)
	everyFault(t, []hostOperation{renewal()}, fates(), "renew again", unknownThenRenew)
	everyFault(t, []hostOperation{leave()}, fates(), "join again", unknownThenComeBack)
}

// unknownThenJoin: host a joins again, as often as it takes, while a rival wants the same host id. One of them gets it, and
// never both.
func unknownThenJoin(b *bubble, op hostOperation, at int, fate fate) (bool, error) {
	dev := b.faulty()
	do := op.prepare(b, dev)
	dev.arm(at, fate, false)
	got, hit := make(chan *Lockspace), false
	rival := b.config(1, "rival") // its look comes before host a's, its writes after
	rival.Device = &hookDevice{Device: b.mem, before: func(int64) { time.Sleep(Fast.IOTimeout / 2) }}
	go func() {
		time.Sleep(op.rival)
		got <- b.tryJoin(rival, 1)
	}()
	go func() {
		time.Sleep(Fast.IOTimeout / 4)
		ls, err := do(b.ctx(time.Hour))
		hit, dev.armed = dev.hit(), false
		if err != nil {
			ls = b.tryJoin(b.on(dev), 5)
		}
		got <- ls
	}()
	var have *Lockspace
	for range 2 {
		ls := <-got
		if ls == nil {
			continue
		}
		b.run(ls)
		if have != nil && have.Check(0) == nil {
			return true, fmt.Errorf("both have the host id, as generations %d and %d", have.Generation(), ls.Generation())
		}
		have = ls
	}
	if !hit {
		return false, nil
	}
	time.Sleep(2 * Fast.RenewalPeriod())
	if have == nil || have.Check(0) != nil {
		return true, errors.New("nobody has the host id")
	}
	return true, nil
}

// tryJoin joins in up to so many attempts.
func (b *bubble) tryJoin(cfg LockspaceConfig, attempts int) *Lockspace {
	for range attempts {
		if ls, err := Join(b.ctx(time.Hour), cfg); err == nil {
			return ls
		}
	}
	return nil
}

// unknownThenRenew: the host keeps its lease and the next renewal does, but for one that is given up at 8N. Whoever wants
// the host id then waits for 8N + W from the renewal that landed late.
func unknownThenRenew(b *bubble, op hostOperation, at int, fate fate) (bool, error) {
	dev := b.faulty()
	do := op.prepare(b, dev)
	dev.arm(at, fate, false)
	begin := b.clock.Boot()
	ls, err := do(b.ctx(time.Hour))
	if !dev.hit() {
		return false, nil
	}
	if !errors.Is(err, blockdev.ErrOutcomeUnknown) {
		return true, fmt.Errorf("renewed: %w", err)
	}
	if fate == fateLate {
		return true, b.lostThenTaken(ls, begin)
	}
	if err := errors.Join(ls.Check(0), ls.renew(b.ctx(time.Minute)), ls.Check(Fast.Expiry()-Fast.Margin()-time.Millisecond)); err != nil {
		return true, err
	}
	b.run(ls)
	time.Sleep(2 * Fast.HostDead())
	return true, ls.Check(0)
}

// lostThenTaken: ls could not be renewed since begin. It must know, and the next host must wait.
func (b *bubble) lostThenTaken(ls *Lockspace, begin time.Duration) error {
	if ls.Check(0) == nil {
		return errors.New("usable without a renewal")
	}
	next := b.config(1, "b")
	for end := b.clock.Boot() + 4*Fast.HostDead(); b.clock.Boot() < end; {
		if _, err := Join(b.ctx(time.Hour), next); err == nil {
			if silent := b.clock.Boot() - begin; silent <= Fast.HostDead() {
				return fmt.Errorf("taken after %v", silent)
			}
			return nil
		}
	}
	return errors.New("never taken")
}

// unknownThenComeBack: a host that left, as far as it knows, has nothing any more, and its host id can be had again.
func unknownThenComeBack(b *bubble, op hostOperation, at int, fate fate) (bool, error) {
	dev := b.faulty()
	do := op.prepare(b, dev)
	dev.arm(at, fate, false)
	ls, _ := do(b.ctx(time.Hour))
	if !dev.hit() {
		return false, nil
	}
	if ls.Check(0) == nil {
		return true, errors.New("usable after it was left")
	}
	next := b.tryJoin(b.on(dev), 2)
	if next == nil || next.Generation() <= ls.Generation() {
		return true, errors.New("it cannot come back")
	}
	b.run(next)
	time.Sleep(Fast.HostDead())
	return true, b.keepsUp(next, b.exclusive(next))
}
