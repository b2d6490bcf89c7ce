package mailbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/mailbox/internal/plant"
)

const (
	simStorm = 90 * time.Second
	simCalm  = 60 * time.Second // with requests
	simRest  = 60 * time.Second // without
	simHosts = 3                // ours; the next two ids are VDSM's
	simApps  = 4                // that ask at the same time, on each host
)

func simHostOptions() HostOptions {
	o := DefaultHostOptions()
	o.IOTimeout, o.WithdrawAfter, o.Quarantine, o.IdleCheck = time.Second, 12*time.Second, 20*time.Second, 15*time.Second
	return o
}

func simServerOptions() ServerOptions {
	o := DefaultServerOptions()
	o.Hosts, o.IOTimeout, o.AnswerWithin, o.FullScan = simPages, time.Second, simAnswer, 3*time.Second
	o.Workers, o.Queue = 6, 6
	return o
}

// simGuard is the SPM lease of one life.
type simGuard struct {
	mu   sync.Mutex // guards lost
	lost bool
}

func (g *simGuard) Check(time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lost {
		return errors.New("lost")
	}
	return nil
}

func (g *simGuard) Epoch() uint64 { return 1 }

func (g *simGuard) lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost = true
}

// sim is one run: hosts and SPMs of both kinds that come, die and go, on a storage in a storm that then calms down.
type sim struct {
	*judge
	seed  uint64
	bugs  plant.Bugs
	start time.Time
	wg    sync.WaitGroup
}

func (s *sim) storm() bool { return time.Since(s.start) < simStorm }

// asks says whether requests are still made.
func (s *sim) asks() bool { return time.Since(s.start) < simStorm+simCalm }

// disks are the two volumes as a process of one life has them.
func (s *sim) disks(rng *rand.Rand, rates faultRates) (in, out *simDisk) {
	if !s.storm() {
		rates = faultRates{}
	}
	in = &simDisk{Mem: s.inbox, landed: s.inboxLanded, rng: rand.New(rand.NewPCG(rng.Uint64(), 1)), rates: rates, beside: s.wroteBeside}
	out = &simDisk{Mem: s.outbox, landed: s.outboxLanded, rng: rand.New(rand.NewPCG(rng.Uint64(), 2)), rates: rates, beside: s.wroteBeside}
	return in, out
}

// live lets a process run until its time is over, in a storm a random one. Half of them die: nothing that they do from
// then on reaches the storage. A mortal one does not outlive the storm. The next life begins when all I/O is over.
func (s *sim) live(rng *rand.Rand, in, out *simDisk, mortal bool, run func(ctx context.Context), crash func()) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	end, dies := time.Duration(rng.IntN(40_000))*time.Millisecond, rng.IntN(2) == 0
	if left := time.Until(s.start.Add(simStorm)); end >= left {
		dies = false // this life sees the end of the storm
		end = time.Until(s.start.Add(simStorm + simCalm + simRest))
		if mortal {
			end = max(left, 0)
		}
		time.AfterFunc(left, func() { in.set(faultRates{}, false); out.set(faultRates{}, false) })
	}
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }()
	t := time.NewTimer(end)
	defer t.Stop()
	<-t.C
	if dies {
		in.set(faultRates{}, true)
		out.set(faultRates{}, true)
		crash()
	}
	cancel()
	<-done
	for in.Pending()+out.Pending() > 0 {
		time.Sleep(100 * time.Millisecond)
	}
	in.set(faultRates{}, true)
	out.set(faultRates{}, true)
}

// over says that the run has come to its end.
func (s *sim) over() bool { return time.Since(s.start) >= simStorm+simCalm+simRest }

// spms is the role of SPM as it moves. The last one is ours in two of three runs.
func (s *sim) spms() {
	rng := rand.New(rand.NewPCG(s.seed, 1000))
	for !s.over() {
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		ours := rng.IntN(3) > 0
		s.begin(ours)
		if !ours {
			in, out := s.disks(rng, rough)
			v := &vdsmSPM{inbox: in, outbox: out, handler: s, rng: rng}
			if s.storm() {
				v.lose = 10
			}
			s.live(rng, in, out, v.lose > 0, v.run, func() {})
			continue
		}
		in, out := s.disks(rng, stormy)
		g := &simGuard{}
		srv, err := NewServer(ServerConfig{Inbox: in, Outbox: out, Guard: g, Handler: s, Options: simServerOptions(), Log: quiet(), Bugs: s.bugs})
		if err != nil {
			panic(err)
		}
		s.live(rng, in, out, false, func(ctx context.Context) {
			if err := srv.Run(ctx); err != nil && !errors.Is(err, blockdev.ErrLeaseLost) {
				s.blame("server: %v", err)
			}
		}, g.lose)
	}
}

// host is the lives of one of our hosts.
func (s *sim) host(id int) {
	rng := rand.New(rand.NewPCG(s.seed, uint64(id)))
	for !s.over() {
		in, out := s.disks(rng, stormy)
		h, err := NewHost(HostConfig{Inbox: in, Outbox: out, HostID: id, Options: simHostOptions(), Log: quiet(),
			Rand: rand.New(rand.NewPCG(rng.Uint64(), 3)), Bugs: s.bugs})
		if err != nil {
			panic(err)
		}
		s.live(rng, in, out, false, func(ctx context.Context) {
			var wg sync.WaitGroup
			for app := range simApps {
				seed := rng.Uint64()
				wg.Go(func() { s.app(ctx, rand.New(rand.NewPCG(seed, 4)), UUID{byte(id), byte(app)}, h.Extend) })
			}
			_ = h.Run(ctx)
			wg.Wait()
		}, func() {})
	}
}

// vdsm is the lives of a VDSM host.
func (s *sim) vdsm(id int, events bool) {
	rng := rand.New(rand.NewPCG(s.seed, uint64(id)))
	for !s.over() {
		in, out := s.disks(rng, rough)
		v := &vdsmHost{inbox: in, outbox: out, id: id, events: events, rng: rng, calls: map[Message]chan struct{}{}}
		s.live(rng, in, out, false, func(ctx context.Context) {
			var wg sync.WaitGroup
			seed := rng.Uint64()
			wg.Go(func() { s.app(ctx, rand.New(rand.NewPCG(seed, 4)), UUID{byte(id)}, s.vdsmExtend(v)) })
			v.run(ctx)
			wg.Wait()
		}, func() {})
	}
}

// vdsmExtend asks by a VDSM host and measures the volume, as its callback does.
func (s *sim) vdsmExtend(v *vdsmHost) func(context.Context, Message) error {
	return func(ctx context.Context, m Message) error {
		select {
		case <-v.send(m):
		case <-ctx.Done():
			return ErrStopped
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.size[m.Volume] < m.SizeMiB {
			return ErrWithdrawn // too small, for whatever reason
		}
		return nil
	}
}

// app asks for more and more of one volume. Once it began to ask it goes on until it got something.
func (s *sim) app(ctx context.Context, rng *rand.Rand, v UUID, extend func(context.Context, Message) error) {
	hungry := false
	for ctx.Err() == nil && (hungry || s.asks()) {
		if !hungry && !pause(ctx, time.Duration(rng.IntN(3000))*time.Millisecond) {
			return
		}
		m, asked := s.ask(v), time.Now()
		err := extend(ctx, m)
		s.took(m, asked, err)
		hungry = err != nil
		if time.Since(s.start) > simStorm+simCalm+simRest*3/4 && ctx.Err() == nil {
			s.mu.Lock()
			s.blame("%v: still not served, %v", m, err)
			s.mu.Unlock()
			return
		}
	}
}

// weather has the storm end, and the judge look.
func (s *sim) weather() {
	calm := false
	for !s.over() {
		time.Sleep(500 * time.Millisecond)
		if !calm && time.Since(s.start) > simStorm+20*time.Second { // what the storm left is gone by then
			s.setCalm()
			calm = true
		}
		s.look()
		if left := time.Until(s.start.Add(simStorm + simCalm + simRest)); left > time.Second && left <= 1500*time.Millisecond {
			s.rest()
		}
	}
}

func runSim(t *testing.T, seed uint64, bugs plant.Bugs) *sim {
	t.Helper()
	s := &sim{seed: seed, bugs: bugs}
	synctest.Test(t, func(*testing.T) {
		s.judge, s.start = newJudge(seed), time.Now()
		s.wg.Go(s.spms)
		s.wg.Go(s.weather)
		for id := 1; id <= simHosts; id++ {
			s.wg.Go(func() { s.host(id) })
		}
		s.wg.Go(func() { s.vdsm(simHosts+1, true) })
		s.wg.Go(func() { s.vdsm(simHosts+2, false) })
		s.wg.Wait()
	})
	return s
}

// simSeeds is how many runs there are, and the first.
func simSeeds(t *testing.T, many int) (first, n uint64) {
	t.Helper()
	if v := os.Getenv("HOLDFAST_SIM_RUNS"); v != "" {
		if k, err := strconv.Atoi(v); err == nil {
			many = k
		}
	}
	if v := os.Getenv("HOLDFAST_SIM_SEED"); v != "" {
		k, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first = k
	}
	return first, uint64(many)
}

// TestSim: every request that goes on being asked is answered, none is done twice for one appearance or answered with
// another's answer, and no slot stays in use.
func TestSim(t *testing.T) {
	t.Parallel()
	first, n := simSeeds(t, testutil.Seeds(25))
	total := map[string]int{}
	for seed := first; seed < first+n; seed++ {
		s := runSim(t, seed, plant.Bugs{})
		if len(s.broken) > 0 {
			t.Fatalf("seed %d: %s", seed, strings.Join(s.broken[:min(10, len(s.broken))], "\n"))
		}
		for what, k := range s.counts {
			total[what] += k
		}
	}
	t.Logf("%d runs: %v", n, total)
	if total["done"] < int(n)*100 || total["refused"] < int(n) || total["withdrawn"] < int(n)/2 {
		t.Errorf("too little happened: %v", fmt.Sprint(total))
	}
}
