package keeper

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// simMachine is a machine through its lives.
type simMachine struct {
	sim     *sim
	index   int
	hostID  int
	name    string
	profile leases.Profile
	ppm     int64
	seed    uint64
	calm    *simFlag // raised when the faults are over
	stays   bool     // lives on when the faults end

	// guarded by simChecker.mu
	clock      *simClock
	renewed    time.Duration // when its last renewal that landed began
	generation uint64
	holds      [simResources]*simHold
	session    *simSession
}

// simSession is an agent and its keeper.
type simSession struct {
	m             *simMachine
	n             uint64
	power         *simPower
	clock         *simClock
	agent, keeper *simProc
	srv           *server
	cli           *Client
	page          *page
	gone          chan struct{} // the agent's process and its I/O are over
	term          context.CancelFunc
	stop          context.CancelFunc // asks the agent to end
	ctx           context.Context
	keeperOut     *simFlag
	agentOut      *simFlag
	ended         *simFlag
	data          *simPath // the agent's
	wg            sync.WaitGroup
	handles       atomic.Uint64
}

// simFlag is raised once.
type simFlag struct {
	once sync.Once
	up   chan struct{}
}

func newSimFlag() *simFlag { return &simFlag{up: make(chan struct{})} }
func (f *simFlag) raise()  { f.once.Do(func() { close(f.up) }) }
func (f *simFlag) is() bool {
	select {
	case <-f.up:
		return true
	default:
		return false
	}
}

func (m *simMachine) rng(purpose, n uint64) *rand.Rand {
	return rand.New(rand.NewPCG(mix(m.seed, purpose), n))
}

func between(rng *rand.Rand, a, b time.Duration) time.Duration {
	return a + time.Duration(rng.Int64N(int64(b-a)))
}

// run boots, dies and boots again until the faults end.
func (m *simMachine) run() {
	rng, n := m.rng(1, 0), uint64(0)
	first := between(rng, 0, 3*time.Second)
	if rng.IntN(2) == 0 {
		first = between(rng, 0, 30*time.Millisecond) // all at once
	}
	if s := m.sim.plan; s.rivals && m.hostID == 1 && mix(s.seed, 21)%2 == 0 {
		first = upTo(mix(m.seed, 22), 0, 2*time.Millisecond) // the two of one host id at the same moment
	}
	for wait := first; m.sleep(wait); wait = between(rng, time.Second, 15*time.Second) {
		power := &simPower{}
		clock := &simClock{start: time.Now(), zero: between(rng, 20*time.Second, 200*time.Second), ppm: m.ppm}
		m.sim.mu.Lock()
		m.clock = clock
		m.sim.mu.Unlock()
		m.sim.event(m, "boots", n, 0)
		for up := true; up; {
			n++
			up = m.live(power, n, between(rng, 10*time.Second, 80*time.Second))
			up = up && m.sleep(between(rng, 100*time.Millisecond, 3*time.Second))
		}
		m.drain(power)
		if rng.IntN(3) == 0 {
			m.proveDead()
		}
	}
}

// sleep waits; false when the faults are over.
func (m *simMachine) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return !m.calm.is()
	case <-m.calm.up:
		return false
	}
}

// drain waits until nothing of this life can land any more.
func (m *simMachine) drain(w *simPower) {
	for i := uint64(0); !w.idle(); i++ {
		time.Sleep(upTo(mix(m.seed, 11, i), 20*time.Millisecond, 30*time.Millisecond))
	}
}

// proveDead lets some other machine free this one, as is right when it is off and its I/O is over.
func (m *simMachine) proveDead() {
	s := m.sim
	s.mu.Lock()
	rec := s.hosts[m.hostID]
	var by *simSession
	for _, o := range s.machines {
		if o != m && o.session != nil && !o.session.agent.isDead() {
			by = o.session
		}
	}
	if rec.writer != m || by == nil || by.m.hostID == m.hostID {
		s.mu.Unlock()
		return
	}
	generation := rec.rec.OwnerGeneration
	s.freed[[2]uint64{uint64(m.hostID), generation}] = true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, 3*time.Second)
	defer cancel()
	s.mayEnd(m)
	ok := uint64(0)
	if by.cli.FreeHost(ctx, "space", m.hostID, generation) == nil {
		ok = 1
	}
	s.event(m, "freed by proof", generation, ok)
}

// live runs one agent and its keeper to their end; false when the machine went down with them.
func (m *simMachine) live(power *simPower, n uint64, length time.Duration) bool {
	se := m.open(power, n, length)
	se.wg.Go(se.runKeeper)
	se.wg.Go(se.runAgent)
	se.wg.Go(se.watchdog)
	se.wg.Go(func() { m.nemesis(se) })
	se.wg.Go(se.reap)
	se.wg.Go(se.follow)
	if m.sim.plan.watched {
		for r := range simResources {
			se.wg.Go(func() { se.watch(r) })
		}
	}
	m.sim.add(se)
	<-se.agentOut.up
	<-se.keeperOut.up
	se.ended.raise()
	m.sim.mu.Lock()
	m.session = nil
	m.sim.mu.Unlock()
	m.sim.forget(m, "session over")
	m.drain(power) // the next keeper waits for the end of the old one, and a process ends with its I/O
	return !power.gone() && !(se.agent.isDead() && se.keeper.isDead())
}

// open makes the processes and what lies between them.
func (m *simMachine) open(power *simPower, n uint64, length time.Duration) *simSession {
	se := &simSession{m: m, n: n, power: power, clock: m.clock, agent: newSimProc("agent"), keeper: newSimProc("keeper"), gone: make(chan struct{}),
		keeperOut: newSimFlag(), agentOut: newSimFlag(), ended: newSimFlag()}
	se.data = se.path(se.agent, 1)
	se.page = &page{words: make([]uint64, pageBytes/8)}
	ours, theirs := newSimConns(se.agent, se.keeper, mix(m.seed, 2, n))
	se.srv = newServer(quiet(), se.page, se.device, theirs)
	se.srv.clock, se.srv.bugs = m.clock, m.sim.bugs
	se.srv.rand = func(name string) *rand.Rand { return m.rng(mix(3, n), uint64(len(name))) }
	se.srv.killAgent = func() { se.keeper.say(se.agent.kill) }
	se.cli = &Client{log: quiet(), page: se.page, clock: m.clock, conn: ours, done: make(chan struct{}),
		waiting: map[uint64]chan *response{}, grants: map[string]*grant{}, orphans: map[uint64]*orphan{}, notices: make(chan *response, maxNotices)}
	se.cli.loops.Go(se.cli.receive)
	se.ctx, se.stop = context.WithTimeout(m.sim.ctx, length)
	m.sim.mu.Lock()
	m.session = se
	m.sim.mu.Unlock()
	return se
}

// device opens the disk for the keeper.
func (se *simSession) device(context.Context, string, blockdev.Options) (blockdev.Device, error) {
	if se.keeper.gate() != nil {
		return nil, blockdev.ErrGone
	}
	return se.path(se.keeper, 10+se.handles.Add(1)), nil
}

func (se *simSession) path(proc *simProc, handle uint64) *simPath {
	return &simPath{m: se.m, proc: proc, power: se.power, clock: se.clock, seed: mix(se.m.seed, 4, se.n, handle), calls: map[simCall]uint64{}}
}

// runKeeper is the keeper's process.
func (se *simSession) runKeeper() {
	ctx, cancel := context.WithCancel(context.Background())
	se.m.sim.mu.Lock()
	se.term = cancel
	se.m.sim.mu.Unlock()
	defer cancel()
	_ = se.srv.until(ctx, se.gone, nil)
	se.srv.mu.Lock()
	var all []*space
	for _, sp := range se.srv.spaces {
		all = append(all, sp)
	}
	se.srv.mu.Unlock()
	for _, sp := range all { // with a real process its goroutines are gone now
		if sp.cancel != nil {
			sp.cancel()
		}
		sp.loops.Wait()
	}
	se.srv.awaitWound(nil)
	if !se.keeper.isDead() {
		se.m.sim.event(se.m, "keeper ends", 0, 0)
		se.keeperOut.raise()
	}
}

// reap is the agent's knowledge of its keeper's end, which comes a little later.
func (se *simSession) reap() {
	defer close(se.cli.done)
	select {
	case <-se.keeperOut.up:
	case <-se.keeper.died:
		se.m.sim.event(se.m, "keeper killed", 0, 0)
		se.keeperOut.raise()
	}
	time.Sleep(upTo(mix(se.m.seed, 5, se.n), time.Millisecond, 100*time.Millisecond))
	if !se.agent.isDead() {
		_ = se.agent.gate()
	}
	se.cli.revokeAll()
	_ = se.cli.conn.Close()
}

// follow is the keeper's knowledge of its agent's end: the kernel reports it when the agent's I/O is over.
func (se *simSession) follow() {
	select {
	case <-se.agentOut.up:
	case <-se.agent.died:
		se.m.sim.forget(se.m, "agent killed")
		se.agentOut.raise()
	}
	for i := uint64(0); !se.data.over(); i++ {
		time.Sleep(upTo(mix(se.m.seed, 12, se.n, i), 20*time.Millisecond, 30*time.Millisecond))
	}
	if !se.keeper.isDead() {
		se.m.sim.mayEnd(se.m) // its keeper frees what it held
	}
	close(se.gone)
}

// reset is what the watchdog and a power failure do.
func (se *simSession) reset(lost bool) {
	if lost {
		se.power.set(func(w *simPower) { w.lost = true })
	}
	se.agent.kill()
	se.keeper.kill()
}

// watchdog resets the machine at 8N + W after the last renewal that the keeper knows of, if anything may still be written.
func (se *simSession) watchdog() {
	m, bound := se.m, time.Time{}
	for i := uint64(0); ; i++ {
		if expiry := se.expiry(); expiry > 0 {
			bound = se.clock.when(expiry + m.profile.Margin() + m.profile.Watchdog)
		}
		wait := time.Duration(0)
		if !bound.IsZero() {
			wait = time.Until(bound) - time.Microsecond
		}
		if se.ended.is() && se.power.idle() {
			return
		}
		if wait <= 0 && !bound.IsZero() && se.dangerous() {
			m.sim.mu.Lock()
			m.sim.resets++
			m.sim.note(m, "watchdog", 0, 0)
			m.sim.mu.Unlock()
			se.reset(true)
			return
		}
		if wait <= 0 {
			wait = upTo(mix(m.seed, 6, se.n, i), 200*time.Millisecond, 300*time.Millisecond)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-se.ended.up:
			t.Stop()
			if se.power.idle() {
				return
			}
			time.Sleep(min(wait, upTo(mix(m.seed, 6, se.n, i), 40*time.Millisecond, 50*time.Millisecond)))
		case <-m.sim.over:
			t.Stop()
			return
		}
	}
}

// dangerous says whether something may be written still, or the keeper cannot tell that nothing will.
func (se *simSession) dangerous() bool {
	runs, gaps := se.keeper.state()
	_, more := se.agent.state()
	return !runs || gaps || more || !se.power.idle()
}

// expiry is what the page says.
func (se *simSession) expiry() time.Duration {
	return time.Duration(atomic.LoadUint64(&se.page.slot(lockspaceBase, 0)[wordExpiry]))
}
