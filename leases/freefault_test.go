package leases

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// proof is how a host is freed on proof of its death.
type proof string

func (p proof) String() string { return "free a host by its " + string(p) }

func proofs() []proof { return []proof{"generation", "record"} }

// free frees host 1.
func (p proof) free(b *bubble, ls *Lockspace, seen HostRecord) error {
	if p == "record" {
		return ls.FreeRecord(b.ctx(time.Minute), seen)
	}
	return ls.FreeHost(b.ctx(time.Minute), seen.HostID, seen.Generation)
}

// freed is host 1, dead with the resource in its hands, and host 2, which frees it with a write that fails.
type freed struct {
	two, three *Lockspace
	dev        *faultyDevice
	seen       HostRecord
	err        error
}

func (b *bubble) freeing(p proof, at int, fate fate, dies bool) (*freed, error) {
	x := &freed{dev: b.faulty()}
	one := b.join(1, "a", 2*Fast.IOTimeout)
	b.exclusive(one)
	cfg := b.config(2, "b")
	cfg.Probe = x.dev
	var err error
	if x.two, err = Join(b.ctx(time.Hour), cfg); err != nil {
		return x, err
	}
	stop := b.run(x.two)
	x.three = b.join(3, "c", 2*Fast.IOTimeout)
	b.run(x.three)
	if x.seen, err = x.three.ReadHost(b.ctx(time.Minute), 1); err != nil {
		return x, err
	}
	x.dev.arm(at, fate, dies)
	x.err = p.free(b, x.two, x.seen)
	if dies {
		stop()
	}
	if x.dev.longest != 512 {
		return x, fmt.Errorf("a write of %d bytes can be torn", x.dev.longest)
	}
	return x, nil
}

// TestFreeHost_crashAtEveryWrite: the host that frees another one on proof dies at its write. A third one frees it again, if
// need be, and takes what it held, at once; without that nobody takes it before 8N + W.
func TestFreeHost_crashAtEveryWrite(t *testing.T) {
	t.Parallel()
	everyFault(t, proofs(), fates(), "another host", freeThenDie)
	everyFault(t, proofs(), fates(), "try again", freeAgain)
	everyFault(t, proofs(), fates(), "the freed host comes back", freeThenComeBack)
}

// freeThenDie: host 2 dies, host 3 gets on.
func freeThenDie(b *bubble, p proof, at int, fate fate) (bool, error) {
	x, err := b.freeing(p, at, fate, true)
	if err != nil || !x.dev.hit() {
		return false, err
	}
	return true, b.freeAndTake(x.three, p, x, fate)
}

// freeAgain: host 2 lives and tries again.
func freeAgain(b *bubble, p proof, at int, fate fate) (bool, error) {
	x, err := b.freeing(p, at, fate, false)
	if err != nil || !x.dev.hit() {
		return false, err
	}
	if !errors.Is(x.err, blockdev.ErrOutcomeUnknown) {
		return true, fmt.Errorf("freed: %w", x.err)
	}
	return true, b.freeAndTake(x.two, p, x, fate)
}

// freeAndTake: the resource is refused while the record says that host 1 is there. It is freed by ls and taken.
func (b *bubble) freeAndTake(ls *Lockspace, p proof, x *freed, fate fate) error {
	spec := b.spec()
	spec.NoWait = true
	l, err := ls.Acquire(b.ctx(time.Minute), spec)
	if free := fate == fateLanded; free != (err == nil) {
		return fmt.Errorf("before it is freed again: %v", err)
	}
	if err != nil {
		if err := p.free(b, ls, x.seen); err != nil {
			return fmt.Errorf("freeing it again: %w", err)
		}
		if l, err = ls.Acquire(b.ctx(time.Minute), spec); err != nil {
			return err
		}
	}
	time.Sleep(2 * Fast.Expiry()) // the late one has landed
	return b.keepsUp(ls, l)
}

// freeThenComeBack: host 1 was not dead for long. It has its host id after 2N and keeps it, or, where a late write of host
// 2 fell into that time, at the next attempt.
func freeThenComeBack(b *bubble, p proof, at int, fate fate) (bool, error) {
	x, err := b.freeing(p, at, fate, false)
	if err != nil || !x.dev.hit() {
		return false, err
	}
	ls := b.tryJoin(b.config(1, "a"), 2)
	if ls == nil || ls.Generation() != 2 {
		return true, errors.New("it cannot come back")
	}
	b.run(ls)
	if err := p.free(b, x.three, x.seen); !errors.Is(err, ErrChanged) {
		return true, fmt.Errorf("freed by an old proof: %v", err)
	}
	l := b.exclusive(ls)
	time.Sleep(2 * Fast.Expiry())
	return true, b.keepsUp(ls, l)
}
