package leases

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

// lagDevice is one host's way to the resource: writes take their time, land after their deadline, or never.
type lagDevice struct {
	*blockdev.Mem
	n time.Duration

	mu      sync.Mutex // guards the rest
	rng     *rand.Rand
	pending int
	dead    bool
}

// submit draws how long a call takes and whether it ever lands.
func (d *lagDevice) submit(write bool) (time.Duration, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return 0, false, blockdev.ErrGone
	}
	took, lands := time.Duration(100_000+d.rng.Int64N(3_000_000)), true
	switch dice := d.rng.IntN(100); {
	case dice < 2:
		took = time.Duration(d.rng.Int64N(int64(2 * d.n)))
	case dice < 3 && write:
		took, lands = d.n, false
	}
	d.pending++
	return took, lands, nil
}

func (d *lagDevice) landed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending--
}

func (d *lagDevice) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pending
}

func (d *lagDevice) ReadAt(ctx context.Context, p []byte, off int64) error {
	took, _, err := d.submit(false)
	if err != nil {
		return err
	}
	defer d.landed()
	if pause(ctx, took) != nil {
		return blockdev.ErrTimeout
	}
	return d.Mem.ReadAt(ctx, p, off)
}

func (d *lagDevice) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := blockdev.SubmitCheck(ctx); err != nil {
		return err
	}
	took, lands, err := d.submit(true)
	if err != nil {
		return err
	}
	return landLate(ctx, took, lands, d.Mem, p, off, d.landed)
}

func (d *lagDevice) Flush(context.Context) error { return nil }

// shareSim is hosts that take, share, convert and release one resource, and die.
type shareSim struct {
	mem   *blockdev.Mem
	clock *clock.Virtual
	bugs  plant.Bugs

	mu     sync.Mutex // guards the rest
	have   map[int]blockdev.Guard
	mode   map[int]string
	did    map[string]int
	broken []string
}

// set notes what host id has now and checks it against the others.
func (s *shareSim) set(id int, mode string, g blockdev.Guard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have[id], s.mode[id] = g, mode
	s.did[mode]++
	exclusive, usable := 0, []string{}
	for h := 1; h <= len(s.have); h++ {
		if g := s.have[h]; g != nil && g.Check(0) == nil {
			usable = append(usable, fmt.Sprintf("host %d %s version %d", h, s.mode[h], g.Epoch()))
			if s.mode[h] == "exclusive" {
				exclusive++
			}
		}
	}
	if exclusive > 0 && len(usable) > 1 {
		s.broken = append(s.broken, fmt.Sprintf("%v: %s", s.clock.Boot(), strings.Join(usable, ", ")))
	}
}

func runShareSim(t *testing.T, seed uint64, b plant.Bugs) *shareSim {
	t.Helper()
	const hosts = 4
	s := &shareSim{bugs: b, have: map[int]blockdev.Guard{}, mode: map[int]string{}, did: map[string]int{}}
	synctest.Test(t, func(t *testing.T) {
		s.clock = &clock.Virtual{Start: time.Now().Add(-time.Hour)}
		s.mem = blockdev.NewMem(2*mib, 512)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		err := errors.Join(InitLockspace(ctx, s.mem, 0, Geometry512, "sim", time.Second),
			InitResource(ctx, s.mem, mib, Geometry512, "sim", "res", hosts))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for id := 1; id <= hosts; id++ {
			s.have[id] = nil
		}
		for id := 1; id <= hosts; id++ {
			rng := rand.New(rand.NewPCG(seed, uint64(id)))
			wg.Go(func() {
				for ctx.Err() == nil {
					s.life(ctx, id, rng)
				}
			})
		}
		wg.Wait()
	})
	return s
}

// life joins, works and dies. The next life begins when the I/O of this one is over.
func (s *shareSim) life(sim context.Context, id int, rng *rand.Rand) {
	p := Profile{Name: "sim", IOTimeout: time.Second, Watchdog: 5 * time.Second}
	ctx, cancel := context.WithTimeout(sim, time.Duration(20+rng.IntN(200))*time.Second)
	defer cancel()
	ls, err := Join(ctx, LockspaceConfig{Device: s.mem, Name: "sim", HostID: id, HostName: fmt.Sprint("host-", id), Profile: p,
		Clock: s.clock, Log: quiet(), Rand: rand.New(rand.NewPCG(rng.Uint64(), 1)), Bugs: s.bugs})
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = ls.Run(ctx) })
	d := &lagDevice{Mem: s.mem, n: p.IOTimeout, rng: rand.New(rand.NewPCG(rng.Uint64(), 2))}
	for ctx.Err() == nil {
		s.work(ctx, id, ls, ResourceSpec{Name: "res", Device: d, Offset: mib}, rng)
		_ = ls.Settle(ctx)
		_ = pause(ctx, time.Duration(rng.IntN(300))*time.Millisecond)
	}
	s.set(id, "nothing", nil) // dead: whatever it had, it uses no more
	d.mu.Lock()
	d.dead = true
	d.mu.Unlock()
	wg.Wait()
	for d.Pending() > 0 {
		time.Sleep(100 * time.Millisecond)
	}
	if rng.IntN(2) == 0 {
		_ = pause(sim, 2*p.HostDead())
	}
}

// work takes the resource, goes through some conversions and gives it back.
func (s *shareSim) work(ctx context.Context, id int, ls *Lockspace, spec ResourceSpec, rng *rand.Rand) {
	var l *Lease
	var sh *SharedLease
	var err error
	if rng.IntN(3) == 0 {
		if l, err = ls.Acquire(ctx, spec); err == nil {
			s.set(id, "exclusive", l)
		}
	} else if sh, err = ls.AcquireShared(ctx, spec); err == nil {
		s.set(id, "shared", sh)
	}
	for err == nil && ctx.Err() == nil && rng.IntN(3) > 0 {
		_ = pause(ctx, time.Duration(rng.IntN(2000))*time.Millisecond)
		if l != nil {
			s.set(id, "nothing", nil)
			if sh, err = l.ToShared(ctx); err == nil {
				l = nil
				s.set(id, "shared", sh)
			}
			continue
		}
		next, cerr := sh.ToExclusive(ctx)
		if cerr == nil {
			l, sh = next, nil
			s.set(id, "exclusive", l)
		} else if sh.Check(0) != nil && ls.Check(0) == nil {
			s.mu.Lock()
			s.broken = append(s.broken, fmt.Sprintf("host %d lost what it shared: %v", id, cerr))
			s.mu.Unlock()
		}
	}
	s.set(id, "nothing", nil)
	switch {
	case ctx.Err() != nil || rng.IntN(20) == 0:
		_ = pause(ctx, time.Hour) // dies with it
	case l != nil:
		_ = l.Release(ctx)
	case sh != nil:
		_ = sh.Release(ctx)
	}
}

// TestShareSim: sharing and converting with late and lost writes and hosts that die: never somebody beside an exclusive
// holder, and a refused conversion never costs the shared lease.
func TestShareSim(t *testing.T) {
	t.Parallel()
	seeds := testutil.Seeds(100)
	total := map[string]int{}
	for seed := range uint64(seeds) {
		s := runShareSim(t, seed, plant.Bugs{})
		if len(s.broken) > 0 {
			t.Fatalf("seed %d: %s", seed, strings.Join(s.broken, "\n"))
		}
		for what, n := range s.did {
			total[what] += n
		}
	}
	t.Logf("%v in %d runs", total, seeds)
	if total["exclusive"] < 20*seeds || total["shared"] < 50*seeds {
		t.Errorf("too little happened: %v", total)
	}
}

// TestShareSim_catchesPlantedBugs: the checker can fail.
func TestShareSim_catchesPlantedBugs(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]plant.Bugs{
		"live sharers are wiped":                    {WipeSharers: true},
		"a conversion's ballot wipes our own share": {ForgetShared: true},
		"shared without saying so":                  {FreeBeforeShare: true},
		"late writes taken for not done":            {IgnoreLateWrite: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(60) {
				if s := runShareSim(t, seed, b); len(s.broken) > 0 {
					t.Logf("seed %d: %s", seed, s.broken[0])
					return
				}
			}
			t.Error("not caught")
		})
	}
}
