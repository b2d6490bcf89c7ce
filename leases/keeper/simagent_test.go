package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// runAgent is the agent's process: it joins, works under leases, and ends in order when it is told to.
func (se *simSession) runAgent() {
	s, rng := se.m.sim, se.m.rng(7, se.n)
	defer se.agentOut.raise()
	defer se.stop()
	for rejoin := false; se.ctx.Err() == nil && !se.keeperGone() && se.agent.gate() == nil; rejoin = true {
		if !se.join(rng, rejoin) {
			continue
		}
		ctx, cancel := context.WithCancel(se.ctx)
		var wg sync.WaitGroup
		workers := 1 + rng.IntN(2)
		for w := range workers {
			wrng := se.m.rng(mix(8, uint64(w)), mix(se.n, rng.Uint64()))
			wctx, stop := se.later(ctx, w)
			wg.Go(func() {
				defer cancel() // what one of them finds lost is lost for all
				defer stop()
				se.work(wctx, wrng, w, workers)
			})
		}
		wg.Wait()
		cancel()
		se.giveUpAll()
		if se.m.stays && se.m.calm.is() && !se.keeperGone() {
			<-s.over
		}
	}
	if se.agent.gate() != nil {
		return
	}
	se.drained(-1)
	s.forget(se.m, "agent ends")
	if rng.IntN(4) != 0 && !se.keeperGone() { // else it just exits
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		s.mayEnd(se.m)
		_, _ = se.cli.call(ctx, &request{Method: methodShutdown})
	}
}

// later is a context that ends a little after ctx, at another moment for each worker.
func (se *simSession) later(ctx context.Context, w int) (context.Context, context.CancelFunc) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		time.Sleep(upTo(mix(se.m.seed, 17, se.n, uint64(w)), time.Microsecond, time.Millisecond))
		cancel()
	})
	return own, cancel
}

func (se *simSession) keeperGone() bool {
	select {
	case <-se.cli.done:
		return true
	default:
		return false
	}
}

// drained waits until no write of the agent is on its way. Each who looks at moments of its own.
func (se *simSession) drained(who int) {
	for i := uint64(0); se.data.Pending() > 0; i++ {
		time.Sleep(upTo(mix(se.m.seed, 13, se.n, i, uint64(who)), 20*time.Millisecond, 30*time.Millisecond))
	}
}

func (se *simSession) resource(r int) ResourceSpec {
	return ResourceSpec{Lockspace: "space", Name: resourceName(r), Device: "lun", Offset: resourceAt(r)}
}

// join takes the host id, again with the word that no I/O is pending.
func (se *simSession) join(rng *rand.Rand, rejoin bool) bool {
	m := se.m
	se.drained(-1)
	ctx, cancel := context.WithTimeout(se.ctx, between(rng, 20*time.Second, 60*time.Second))
	defer cancel()
	m.sim.mayEnd(m)
	generation, err := se.cli.Join(ctx, LockspaceSpec{Name: "space", Device: "lun", HostID: m.hostID, HostName: m.name, Profile: m.profile, Rejoin: rejoin})
	if se.agent.gate() != nil {
		return false
	}
	if err != nil {
		m.sim.event(m, "did not join", 0, 0)
		_ = sleep(se.ctx, between(rng, 100*time.Millisecond, 4*time.Second))
		return false
	}
	m.sim.joinedAs(se, generation)
	return true
}

// giveUpAll releases what the workers left held.
func (se *simSession) giveUpAll() {
	for r := range simResources {
		se.m.sim.mu.Lock()
		held := se.m.holds[r] != nil
		se.m.sim.mu.Unlock()
		if held && se.agent.gate() == nil {
			_ = se.release(context.Background(), r)
		}
	}
}

// work takes leases, writes under them and gives them back, until the context ends or the lockspace is lost.
func (se *simSession) work(ctx context.Context, rng *rand.Rand, first, step int) {
	idle := between(rng, 100*time.Millisecond, 4*time.Second)
	for sleep(ctx, between(rng, 0, idle)) == nil && se.agent.gate() == nil {
		r := (first + step*rng.IntN(simResources)) % simResources
		if r%step != first%step {
			continue // another worker's
		}
		var err error
		switch rng.IntN(8) {
		case 0:
			err = se.inspect(ctx, r)
		default:
			err = se.cycle(ctx, rng, r)
		}
		if errors.Is(err, leases.ErrLost) || errors.Is(err, ErrNotJoined) || errors.Is(err, ErrGone) {
			return
		}
	}
}

func (se *simSession) inspect(ctx context.Context, r int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	op := se.m.sim.calls(se.m, opStatus, r, 0)
	info, err := se.cli.Inspect(ctx, se.resource(r))
	se.m.sim.returns(r, op, func(op *simOp) { op.told(info, err) })
	return err
}

// watch looks at a resource again and again.
func (se *simSession) watch(r int) {
	for i := uint64(0); se.ctx.Err() == nil && !se.keeperGone() && se.agent.gate() == nil; i++ {
		_ = sleep(se.ctx, upTo(mix(se.m.seed, 23, se.n, i, uint64(r)), 20*time.Millisecond, 200*time.Millisecond))
		_ = se.inspect(se.ctx, r)
	}
}

// cycle is acquire, some writes, release.
func (se *simSession) cycle(ctx context.Context, rng *rand.Rand, r int) error {
	m := se.m
	spec := se.resource(r)
	spec.NoWait = rng.IntN(4) == 0
	actx, cancel := context.WithTimeout(ctx, between(rng, 500*time.Millisecond, 40*time.Second))
	defer cancel()
	epoch, err := se.acquire(actx, r, spec)
	if err != nil || se.agent.gate() != nil {
		return err
	}
	h := &simHold{guard: se.cli.Guard("space", spec.Name), epoch: epoch}
	m.sim.won(m, r, h)
	n := rng.IntN(6)
	if rng.IntN(8) == 0 {
		n = 40
	}
	for ; n > 0 && ctx.Err() == nil; n-- {
		if err := se.write(ctx, rng, r, h); errors.Is(err, blockdev.ErrLeaseLost) {
			break
		}
		_ = sleep(ctx, between(rng, 0, 500*time.Millisecond))
	}
	if rng.IntN(12) == 0 {
		_ = sleep(ctx, between(rng, 0, 20*time.Second))
	}
	return se.release(context.WithoutCancel(ctx), r)
}

// acquire asks for resource r.
func (se *simSession) acquire(ctx context.Context, r int, spec ResourceSpec) (uint64, error) {
	op := se.m.sim.calls(se.m, opAcquire, r, 0)
	epoch, err := se.cli.Acquire(ctx, spec)
	se.m.sim.returns(r, op, func(op *simOp) { op.answered(epoch, err) })
	return epoch, err
}

// release gives back when all writes have come back, as a holder must.
func (se *simSession) release(ctx context.Context, r int) error {
	se.drained(r)
	if err := se.agent.gate(); err != nil {
		return err
	}
	op := se.m.sim.calls(se.m, opRelease, r, se.m.sim.givesUp(se.m, r))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := se.cli.Release(ctx, se.resource(r))
	se.m.sim.returns(r, op, func(op *simOp) { op.given(err) })
	return err
}

// write is one guarded write of two sectors.
func (se *simSession) write(ctx context.Context, rng *rand.Rand, r int, h *simHold) error {
	n := se.m.profile.IOTimeout
	ctx, cancel := context.WithTimeout(ctx, between(rng, n/4, n))
	defer cancel()
	b := make([]byte, 2*simSector)
	for i := 0; i < len(b); i += simSector {
		binary.LittleEndian.PutUint64(b[i:], h.epoch)
	}
	return blockdev.NewGuarded(se.data, h.guard).WriteAt(ctx, b, dataAt(r))
}

// leaseData is the version that data was written under.
func leaseData(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// nemesis is what goes wrong in a session.
func (m *simMachine) nemesis(se *simSession) {
	s, rng := m.sim, m.rng(9, se.n)
	for i := 0; ; i++ {
		t := time.NewTimer(between(rng, 0, s.plan.trouble))
		select {
		case <-t.C:
		case <-se.ended.up:
			t.Stop()
			return
		case <-m.calm.up:
			t.Stop()
			se.power.set(func(w *simPower) { w.slow, w.trap, w.drag = false, 0, 0 })
			if m.stays {
				se.stop()
				return
			}
			s.event(m, "is switched off", 0, 0)
			se.reset(rng.IntN(2) == 0)
			return
		}
		d := min(between(rng, 0, m.profile.Expiry()*3/2), time.Until(s.end))
		s.strike(m, se, rng.IntN(16), d)
	}
}

// strike does one kind of harm.
func (s *sim) strike(m *simMachine, se *simSession, kind int, d time.Duration) {
	s.event(m, "strike", uint64(kind), uint64(d))
	switch kind {
	case 0, 1, 2:
		se.power.set(func(w *simPower) { w.cutUntil = time.Now().Add(d) })
	case 3, 4:
		se.power.set(func(w *simPower) { w.slow = !w.slow })
	case 5: // SIGSTOP of all, or suspend: the boot clock runs on
		se.agent.stop(d)
		se.keeper.stop(d + upTo(uint64(d), 1, time.Millisecond))
	case 6:
		se.keeper.stop(d)
	case 7:
		se.agent.stop(d)
	case 8, 9:
		se.power.set(func(w *simPower) { w.trap = d })
	case 10:
		se.agent.kill()
	case 11:
		se.keeper.kill()
	case 12: // power failure
		se.reset(d%2 == 0)
	case 13:
		s.mu.Lock()
		term := se.term
		s.mu.Unlock()
		if term != nil {
			term() // as SIGTERM does
		}
	case 14: // cut off and stopped: what the renewal says last stays unknown
		se.power.set(func(w *simPower) { w.cutUntil = time.Now().Add(d / 3) })
		time.AfterFunc(d/3+1, func() { se.keeper.stop(d) })
	case 15:
		se.power.set(func(w *simPower) { w.drag = max(d, 9*m.profile.IOTimeout) })
	}
}
