package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// sequences are all of exactly n operations.
func sequences(n int) []string {
	if n == 0 {
		return []string{""}
	}
	var out []string
	for _, s := range sequences(n - 1) {
		for _, kind := range kinds {
			out = append(out, s+string(kind))
		}
	}
	return out
}

// report fails for findings, and lets the programs judge what was put aside.
func (x *explorer) report(t *testing.T, j *programs, r result) {
	t.Helper()
	for _, f := range r.findings {
		t.Error(f)
	}
	for _, e := range r.exhibits {
		x.count.tools.Add(1)
		if err := j.judge(e); err != nil {
			x.count.bad.Add(1)
			t.Errorf("%s: %v", e.name, err)
		}
	}
}

// TestCrash_bounded explores all single operations, and samples of what comes after one and after two others.
func TestCrash_bounded(t *testing.T) {
	t.Parallel()
	b := newBase(t)
	x := &explorer{base: b, lim: limits{subsets: 4, random: 4, cuts: 8}, cuts: 1, limit2: limits{subsets: 2, cuts: 1}}
	rare, longer := 12, 24
	if raceDetector { // ten times slower
		x.lim, x.limit2, rare, longer = limits{subsets: 2, random: 2, cuts: 2}, limits{cuts: 1}, 60, 2
	}
	for _, s := range append(sequences(0), sequences(1)...) {
		x.report(t, nil, x.explore(t, s, 1, nil))
	}
	x.cuts = 0
	for _, s := range sequences(2) {
		x.report(t, nil, x.explore(t, s, rare, nil))
	}
	three := sequences(3)
	rnd := rand.New(rand.NewPCG(4, 4))
	for range longer {
		x.report(t, nil, x.explore(t, three[rnd.IntN(len(three))], rare, nil))
	}
	t.Log(&x.count)
	if x.count.distinct.Load() < 200 {
		t.Error("so few states prove nothing")
	}
}

// TestCrash_judgedByPrograms gives a few states of each operation to lvm2, qemu-img and sanlock.
func TestCrash_judgedByPrograms(t *testing.T) {
	t.Parallel()
	b := newBase(t)
	j := newPrograms(t, b)
	x := &explorer{base: b, lim: limits{subsets: 3, random: 2, cuts: 4}, sample: func(k key) bool { return k.state%8 == 0 }}
	for _, s := range []string{"c", "d", "p", "e", "l", "xd"} {
		x.report(t, j, x.explore(t, s, 4, nil))
	}
	t.Log(&x.count)
	if x.count.tools.Load() == 0 {
		t.Error("the programs saw nothing")
	}
}

// TestCrash_all explores every sequence up to HOLDFAST_CRASH_DEPTH operations, each at every point of its last one. It is
// for `make crash-states`.
func TestCrash_all(t *testing.T) {
	depth, err := strconv.Atoi(os.Getenv("HOLDFAST_CRASH_DEPTH"))
	if err != nil {
		t.Skip("set HOLDFAST_CRASH_DEPTH to 1, 2 or 3: all sequences of so many operations")
	}
	x := &explorer{base: newBase(t), lim: limits{subsets: 7, random: 16}, cuts: 1, limit2: limits{subsets: 2, cuts: 2},
		sample: func(k key) bool { return k.state%500 == 0 }}
	begin := time.Now()
	for n := range depth + 1 {
		t.Run(strconv.Itoa(n), func(t *testing.T) { x.all(t, sequences(n), begin) })
		t.Logf("up to %d operations, %v: %v", n, time.Since(begin).Round(time.Second), &x.count)
	}
}

// all explores sequences, on all processors.
func (x *explorer) all(t *testing.T, list []string, begin time.Time) {
	workers := runtime.GOMAXPROCS(0)
	for i := range workers {
		t.Run(fmt.Sprintf("worker %d", i), func(t *testing.T) {
			t.Parallel()
			j := newPrograms(t, x.base)
			for at := i; at < len(list); at += workers {
				x.report(t, j, x.explore(t, list[at], 1, nil))
				if at/workers%8 == 7 {
					t.Logf("%v: %s: %v", time.Since(begin).Round(time.Second), list[at], &x.count)
				}
			}
		})
	}
}
