package keeper

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

// sim is one run: machines with real keepers and guards on one disk, under virtual time.
type sim struct {
	simChecker
	plan simPlan
	bugs plant.Bugs
	lun  *simLUN
	ctx  context.Context // until the run is over
	end  time.Time       // of the faults
	over chan struct{}

	lasted   time.Duration // virtual
	sessions []*simSession // guarded by mu
}

// simPlan is what the seed decides of a run as a whole.
type simPlan struct {
	seed     uint64
	machines int
	length   time.Duration
	trouble  time.Duration // mean time between faults of a machine is half of it
	watchdog time.Duration
	mixed    bool // different N
	rivals   bool // the last machine shares the host id of the first
	watched  bool // all agents look at all resources all the time, which takes most of the run's cost
}

func newSimPlan(seed uint64) simPlan {
	rng := rand.New(rand.NewPCG(seed, 0))
	p := simPlan{seed: seed, machines: 2 + min(rng.IntN(8), rng.IntN(8)), length: between(rng, 8*time.Second, 36*time.Second),
		trouble: between(rng, 3*time.Second, 60*time.Second), watchdog: between(rng, time.Second, 6*time.Second).Truncate(time.Second),
		mixed: rng.IntN(3) == 0, rivals: rng.IntN(4) == 0, watched: seed%64 == 16}
	p.watchdog = max(p.watchdog, time.Second)
	return p
}

// simulate runs one seed and gives the sim for judgement.
func simulate(t *testing.T, img simImage, seed uint64, bugs plant.Bugs) *sim {
	s := &sim{plan: newSimPlan(seed), bugs: bugs, lun: newSimLUN(img), simChecker: simChecker{joined: map[[2]uint64]*simSession{}, freed: map[[2]uint64]bool{},
		said: simHistory{bounds: map[simLifeID]time.Duration{}}}}
	synctest.Test(t, func(t *testing.T) { s.run() })
	return s
}

func (s *sim) run() {
	s.t0 = time.Now()
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(context.Background())
	s.over = make(chan struct{})
	s.end = s.t0.Add(s.plan.length)
	for i := range s.plan.machines {
		s.machines = append(s.machines, s.newMachine(i))
	}
	judge := s.newJudge()
	var wg sync.WaitGroup
	for _, m := range s.machines {
		wg.Go(m.run)
	}
	time.Sleep(s.plan.length)
	for _, m := range s.machines { // one after the other, for no two things should happen at one instant
		time.AfterFunc(upTo(mix(m.seed, 16), 0, 50*time.Millisecond), m.calm.raise)
	}
	s.judgement(judge)
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	close(s.over)
	cancel()
	wg.Wait()
	s.unwind()
	s.lasted = time.Since(s.t0)
}

// history is the trace; what happened at the same instant has no order.
func (s *sim) history() []simEvent {
	slices.SortStableFunc(s.trace, func(a, b simEvent) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.who, b.who), cmp.Compare(a.what, b.what), cmp.Compare(a.x, b.x), cmp.Compare(a.y, b.y))
	})
	return s.trace
}

func (s *sim) newMachine(i int) *simMachine {
	h := mix(s.plan.seed, 20, uint64(i))
	m := &simMachine{sim: s, index: i, hostID: i + 1, name: fmt.Sprintf("machine-%d", i), seed: h, calm: newSimFlag(), ppm: int64(mix(h, 1)%1001) - 500, stays: mix(h, 2)%2 == 0}
	n := time.Second
	if s.plan.mixed {
		n *= time.Duration(1 + mix(h, 3)%3)
	}
	m.profile = leases.Profile{Name: "sim", IOTimeout: n, Watchdog: s.plan.watchdog}
	if s.plan.rivals && i == s.plan.machines-1 {
		m.hostID = 1
	}
	m.clock = &simClock{start: time.Now(), zero: time.Minute, ppm: m.ppm}
	return m
}

func (s *sim) add(se *simSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = append(s.sessions, se)
}

// unwind lets everything that dead processes left standing run out.
func (s *sim) unwind() {
	s.mu.Lock()
	all := s.sessions
	s.mu.Unlock()
	for _, se := range all {
		se.agent.end()
		se.keeper.end()
		se.stop()
		se.term()
		_ = se.cli.conn.Close()
	}
	for _, se := range all {
		se.wg.Wait()
		se.cli.loops.Wait()
	}
}

// newJudge is the machine that comes at the end.
func (s *sim) newJudge() *simMachine {
	m := s.newMachine(s.plan.machines)
	m.hostID, m.stays = simMaxHosts, true
	return m
}

// judgement: when nothing goes wrong any more, every resource can be had: at once from those that live and hold nothing,
// after 8N + W from those that are dead.
func (s *sim) judgement(m *simMachine) {
	se := m.open(&simPower{}, 1, time.Hour)
	s.mu.Lock()
	s.machines = append(s.machines, m)
	s.mu.Unlock()
	se.wg.Go(se.runKeeper)
	se.wg.Go(se.reap)
	s.add(se)
	defer se.agentOut.raise()
	defer func() { close(se.gone) }()
	longest := 3 * time.Second
	bound := 8*longest + s.plan.watchdog + 7*longest + 5*time.Second
	ctx, cancel := context.WithTimeout(s.ctx, bound)
	defer cancel()
	generation, err := se.cli.Join(ctx, LockspaceSpec{Name: "space", Device: "lun", HostID: m.hostID, HostName: m.name, Profile: m.profile})
	if err != nil {
		s.mu.Lock()
		s.violationf("the judge did not join: %v", err)
		s.mu.Unlock()
		return
	}
	s.joinedAs(se, generation)
	var wg sync.WaitGroup
	for r := range simResources {
		time.Sleep(upTo(mix(se.m.seed, 15, uint64(r)), time.Microsecond, time.Millisecond)) // no two calls at one instant
		wg.Go(func() { s.had(ctx, se, r) })
	}
	wg.Wait()
}

// had wants resource r before the context ends.
func (s *sim) had(ctx context.Context, se *simSession, r int) {
	for i := uint64(0); ; i++ {
		epoch, err := se.acquire(ctx, r, se.resource(r))
		if err == nil {
			s.won(se.m, r, &simHold{guard: se.cli.Guard("space", resourceName(r)), epoch: epoch})
			return
		}
		if sleep(ctx, upTo(mix(se.m.seed, 14, i, uint64(r)), 300*time.Millisecond, 500*time.Millisecond)) != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.violationf("resource %d is stuck: %v", r, err)
			return
		}
	}
}

func (s *sim) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %+v\n", s.plan.seed, s.plan)
	for _, v := range s.broken {
		fmt.Fprintln(&b, v)
	}
	for _, e := range s.trace[:s.until] {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}
