package nemesis

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Whole runs under virtual time: everything planned comes, and nothing is left.
func TestExecutor_wholeRuns(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		for _, hosts := range []int{3, 5} {
			synctest.Test(t, func(t *testing.T) {
				p, s := newFakePool(hosts), mustMake(t, seed, hosts, tenMinutes, Catalogue())
				e, faults := newExecutor(p, s, Catalogue())
				res, err := e.Run(t.Context())
				if err != nil || res.Total() != len(s.Faults) || len(res.Missed)+len(res.Late) > 0 || !res.Verdict(1).OK {
					t.Errorf("seed %d: %+v, %v", seed, res, err)
				}
				if left := p.state(); len(left) > 0 || p.worst > (hosts-1)/2 {
					t.Errorf("seed %d: left behind %v; %d hosts were spoilt at once", seed, left, p.worst)
				}
				if len(*faults) != len(s.Faults) || e.Now() > s.Length {
					t.Errorf("seed %d: %d of %d faults recorded, in %s", seed, len(*faults), len(s.Faults), e.Now())
				}
				for _, f := range *faults {
					if f.Error != "" || len(f.Targets) == 0 || f.End < f.Begin {
						t.Errorf("seed %d: recorded %+v", seed, f)
					}
				}
			})
		}
	}
}

// plan is one fault after two seconds.
func plan(kinds ...string) Schedule {
	s := Schedule{Hosts: 3, Length: time.Minute}
	for _, k := range kinds {
		s.Faults = append(s.Faults, Planned{At: 2 * time.Second, For: 5 * time.Second, Kind: k, Aim: TheSPM})
	}
	return s
}

// An injection that never returns is left behind, and does no harm when it does return.
func TestExecutor_stuckInject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newFakePool(3)
		hang := make(chan struct{})
		p.hang["freeze"] = hang
		e, faults := newExecutor(p, plan("disk.hang"), Catalogue())
		time.AfterFunc(40*time.Second, func() { close(hang) })
		res, err := e.Run(t.Context())
		if err != nil || len(res.Missed) != 1 || !strings.Contains(res.Missed[0], "in time") || res.Verdict(0.1).OK {
			t.Errorf("%+v, %v", res, err)
		}
		if left := p.state(); len(left) > 0 || p.calls["freeze"] != 1 {
			t.Errorf("left behind %v after %d freezes", left, p.calls["freeze"])
		}
		if len(*faults) != 1 || (*faults)[0].Error == "" {
			t.Errorf("recorded %+v", *faults)
		}
	})
}

// One that never comes back at all is an error of the run, which ends nevertheless.
func TestExecutor_stuckForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newFakePool(3)
		hang := make(chan struct{})
		p.hang["freeze"] = hang
		e, _ := newExecutor(p, plan("disk.hang"), Catalogue())
		if _, err := e.Run(t.Context()); !errors.Is(err, errStuck) {
			t.Errorf("got %v", err)
		}
		close(hang) // for the test's own sake
		synctest.Wait()
	})
}

// What cannot be healed in time keeps its host from other faults, and is healed at the end.
func TestExecutor_healsLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newFakePool(3)
		s := plan("kill.agent")
		s.Faults = append(s.Faults, Planned{At: 70 * time.Second, For: time.Second, Kind: "host.off", Aim: TheSPM})
		e, _ := newExecutor(p, s, Catalogue())
		time.AfterFunc(time.Second, func() { p.mu.Lock(); p.fail["start"] = errors.New("no"); p.mu.Unlock() })
		time.AfterFunc(100*time.Second, func() { p.mu.Lock(); delete(p.fail, "start"); p.mu.Unlock() })
		res, err := e.Run(t.Context())
		if err != nil || res.Total() != 1 || len(res.Late) != 1 || len(res.Missed) != 1 {
			t.Errorf("%+v, %v", res, err)
		}
		if left := p.state(); len(left) > 0 {
			t.Errorf("left behind %v", left)
		}
	})
}

// The end of a run's context heals what is under way.
func TestExecutor_cancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newFakePool(3)
		s := plan("lun.gone", "net.one")
		s.Faults = append(s.Faults, Planned{At: 20 * time.Second, Kind: "host.off"})
		e, _ := newExecutor(p, s, Catalogue())
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		time.AfterFunc(2500*time.Millisecond, func() {
			if len(p.state()) < 5 {
				t.Errorf("only %v is wrong", p.state())
			}
		})
		res, err := e.Run(ctx)
		if err != nil || res.Total() != 2 || len(p.state()) > 0 || e.Now() > 4*time.Second {
			t.Errorf("%+v, %v, left %v after %s", res, err, p.state(), e.Now())
		}
	})
}

// A pool that cannot be brought to its good state at the beginning is not tormented.
func TestExecutor_cannotPrepare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newFakePool(3)
		p.fail["mend"] = errors.New("no namespaces")
		e, faults := newExecutor(p, plan("net.one"), Catalogue())
		if _, err := e.Run(t.Context()); err == nil || len(*faults) > 0 {
			t.Errorf("ran: %v, %v", err, *faults)
		}
	})
}

// The ledger is the last word: a plan that contradicts itself is not carried out as planned.
func TestExecutor_contradictingPlan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newFakePool(3)
		e, faults := newExecutor(p, plan("data.flip", "data.flip", "kill.both", "restart.all"), Catalogue())
		res, err := e.Run(t.Context())
		if err != nil || p.worst != 1 || res.Total() != 4-len(res.Missed) {
			t.Errorf("%+v, %v; %d hosts spoilt at once", res, err, p.worst)
		}
		for i, a := range *faults {
			for _, b := range (*faults)[i+1:] {
				if a.Error == "" && b.Error == "" && a.Begin < b.End && b.Begin < a.End {
					t.Errorf("%s and %s overlap", a.Kind, b.Kind)
				}
			}
		}
	})
}

func TestLedger_limits(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // do not wait
	hosts := []string{"a", "b", "c"}
	l := newLedger(hosts)
	down := Nemesis{Name: "down", Takes: []Resource{OfProcesses}}
	got, claims, err := l.take(ctx, down, hosts)
	if err != nil || got[0] != "a" {
		t.Fatal(got, err)
	}
	if _, _, err := l.take(ctx, down, hosts); err == nil {
		t.Error("a majority is down")
	}
	path := Nemesis{Name: "path", Takes: []Resource{OfPath}}
	first, _, err := l.take(ctx, path, hosts)
	second, _, err2 := l.take(ctx, path, hosts)
	if err != nil || err2 != nil || first[0] != "a" || !slices.Equal(second, []string{"b", "a", "c"}) {
		t.Errorf("%v, %v; the next host must be taken: %v, %v", first, err, second, err2)
	}
	l.give(claims)
	if _, _, err := l.take(ctx, down, hosts); err != nil {
		t.Errorf("after it was given back: %v", err)
	}
}

func TestResult_verdict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		planned, injected int
		share             float64
		ok                bool
	}{{10, 9, 0.8, true}, {10, 7, 0.8, false}, {10, 0, 0, false}, {0, 0, 0, false}} {
		r := Result{Planned: tt.planned, Injected: map[string]int{"x": tt.injected}}
		if v := r.Verdict(tt.share); v.OK != tt.ok || v.Checker != "nemesis" {
			t.Errorf("%+v: %+v", tt, v)
		}
	}
}
