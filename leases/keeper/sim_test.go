package keeper

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

// What the simulator does beyond the few seeds of a normal test run is said in the environment; see the Makefile.
const (
	envSimRuns = "HOLDFAST_SIM_RUNS" // how many seeds, from 0 on
	envSimTime = "HOLDFAST_SIM_TIME" // run seeds for so long
	envSimSeed = "HOLDFAST_SIM_SEED" // the first seed of that, or the only one
)

// simTally adds up runs.
type simTally struct {
	runs, acquired, taken, writes, resets, events, ops, seen atomic.Int64
	virtual                                                  atomic.Int64
}

func (y *simTally) add(s *sim) {
	y.runs.Add(1)
	y.acquired.Add(int64(s.acquired))
	y.taken.Add(int64(s.taken))
	y.writes.Add(int64(s.writes))
	y.resets.Add(int64(s.resets))
	y.events.Add(int64(len(s.trace)))
	ops, seen := s.said.size()
	y.ops.Add(ops)
	y.seen.Add(seen)
	y.virtual.Add(int64(s.lasted))
}

func (y *simTally) report(took time.Duration) string {
	hours := time.Duration(y.virtual.Load()).Hours()
	return fmt.Sprintf("%d runs, %.0f simulated hours in %v: %.1f hours a second; %d acquires, %d of them from hosts that died, %d data sectors, %d watchdogs, %d events; histories of %d operations, %d of them statuses",
		y.runs.Load(), hours, took.Round(time.Millisecond), hours/took.Seconds(), y.acquired.Load(), y.taken.Load(), y.writes.Load(), y.resets.Load(), y.events.Load(), y.ops.Load(), y.seen.Load())
}

// simSeeds runs seeds side by side until next says that there are no more or one of them fails.
func simSeeds(t *testing.T, next func() (uint64, bool)) *simTally {
	t.Helper()
	img := simImageOf(t)
	tally, stop := &simTally{}, &atomic.Bool{}
	begin := time.Now()
	t.Run("seeds", func(t *testing.T) {
		for w := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(w), func(t *testing.T) {
				t.Parallel()
				for seed, ok := next(); ok && !stop.Load(); seed, ok = next() {
					s := simulate(t, img, seed, plant.Bugs{})
					s.judgeHistory()
					tally.add(s)
					if len(s.broken) > 0 {
						stop.Store(true)
						t.Fatalf("make simulate SEED=%d shows it again\n%s", seed, s.report())
					}
				}
			})
		}
	})
	t.Log(tally.report(time.Since(begin)))
	return tally
}

func simImageOf(t *testing.T) simImage {
	t.Helper()
	img, err := newSimImage()
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// count hands out n seeds.
func count(from, n uint64) func() (uint64, bool) {
	var given atomic.Uint64
	return func() (uint64, bool) {
		i := given.Add(1) - 1
		return from + i, i < n
	}
}

func simEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestSim_invariants is the proof by trying. `make simulate-short` runs thousands of seeds of it.
func TestSim_invariants(t *testing.T) {
	runs := uint64(300)
	if raceDetector || testing.Short() {
		runs = 30
	}
	runs = simEnv(t, envSimRuns, runs)
	y := simSeeds(t, count(simEnv(t, envSimSeed, 0), runs))
	if y.acquired.Load() < int64(10*runs) || y.taken.Load() < int64(runs/10) || y.resets.Load() < int64(runs/50) {
		t.Error("too little happened")
	}
}

// TestSim_long runs as long as it is told to, or one seed.
func TestSim_long(t *testing.T) {
	limit, seed := os.Getenv(envSimTime), simEnv(t, envSimSeed, 0)
	switch {
	case limit != "":
		d, err := time.ParseDuration(limit)
		if err != nil {
			t.Fatal(err)
		}
		if seed == 0 {
			seed = uint64(time.Now().Unix()) << 20
		}
		end, next := time.Now().Add(d), count(seed, 1<<62)
		t.Logf("seeds from %d on", seed)
		simSeeds(t, func() (uint64, bool) {
			n, _ := next()
			return n, time.Now().Before(end)
		})
	case os.Getenv(envSimSeed) != "" && os.Getenv(envSimRuns) == "":
		s := simulate(t, simImageOf(t), seed, plant.Bugs{})
		s.judgeHistory()
		s.until = len(s.trace)
		t.Log(s.report())
		if len(s.broken) > 0 {
			t.Error("invariants are broken")
		}
	default:
		t.Skip("it is run by make simulate")
	}
}

// TestSim_reproducible: a seed gives the same history, to the nanosecond, every time. On one processor: the seed decides
// every delay and fault, but not which of two goroutines that one event woke goes first when they run side by side, or when
// a goroutine is interrupted for having run too long in real time.
func TestSim_reproducible(t *testing.T) {
	// Not parallel: the number of processors is everybody's.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	img, seeds := simImageOf(t), uint64(200)
	if raceDetector || testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		d := twice(t, img, seed)
		for again := 0; again < 5 && d != ""; again++ { // a busy machine takes the processor away in the middle of a step
			t.Logf("seed %d, again: %s", seed, d)
			d = twice(t, img, seed)
		}
		if d != "" {
			t.Errorf("seed %d: %s", seed, d)
		}
	}
}

// twice runs a seed two times and says where the histories part.
func twice(t *testing.T, img simImage, seed uint64) string {
	a, b := simulate(t, img, seed, plant.Bugs{}), simulate(t, img, seed, plant.Bugs{})
	return difference(a.history(), b.history())
}

// difference is the first event that two histories do not share.
func difference(a, b []simEvent) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("event %d: %v\nthen: %v", i, a[max(0, i-6):min(len(a), i+3)], b[max(0, i-6):min(len(b), i+3)])
		}
	}
	if len(a) != len(b) {
		return fmt.Sprintf("%d events, then %d", len(a), len(b))
	}
	return ""
}

// simBugs are the mistakes that are planted to see that they are caught.
var simBugs = map[string]plant.Bugs{
	"phase 2 without looking":           {SkipPhase2Read: true},
	"take-over at 8N instead of 8N + W": {TakeOverEarly: true},
	"deadline computed after the write": {TimeAfterWrite: true},
	"accepted values ignored":           {IgnoreValue: true},
	"no second look after 2N":           {SkipJoinReread: true},
	"late writes ignored":               {IgnoreLateWrite: true},
	"generation forgotten":              {ForgetGeneration: true},
}

// TestSim_catchesPlantedBugs: a checker that cannot fail is worth nothing.
func TestSim_catchesPlantedBugs(t *testing.T) {
	catches(t, simBugs, func(s *sim) string {
		if len(s.broken) == 0 {
			return ""
		}
		return s.broken[0]
	})
}

// TestSim_catchesByHistory: porcupine alone, without any of the other invariants, sees these mistakes in what the agents did
// and were told. It sees the one that is left out as well, but only after well over a thousand seeds.
func TestSim_catchesByHistory(t *testing.T) {
	bugs := maps.Clone(simBugs)
	delete(bugs, "deadline computed after the write")
	catches(t, bugs, func(s *sim) string {
		switch v := verdict(s.said.operations()); v {
		case porcupine.Ok:
			return ""
		case porcupine.Illegal:
			return "the history has no legal order"
		default:
			t.Errorf("seed %d: %s", s.plan.seed, v)
			return ""
		}
	})
}

// catches runs seeds with each of the mistakes until wrong finds something, which it must not without the mistake.
func catches(t *testing.T, bugs map[string]plant.Bugs, wrong func(*sim) string) {
	if raceDetector || testing.Short() {
		t.Skip("it takes thousands of seeds; make simulate-short runs it without the race detector")
	}
	img := simImageOf(t)
	for name, b := range bugs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(10_000) {
				what := wrong(simulate(t, img, seed, b))
				if what == "" {
					continue
				}
				t.Logf("caught by seed %d: %s", seed, what)
				if wrong(simulate(t, img, seed, plant.Bugs{})) != "" {
					t.Error("but so is the program without it")
				}
				return
			}
			t.Error("not caught")
		})
	}
}
