package manager

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

func TestFence_minority(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		for _, name := range []string{"a", "b", "c"} {
			s.kill(name)
		}
		time.Sleep(7 * time.Second) // their leases are not dead yet
		if s.View().Fences.Len() != 0 || s.switched().offs != 0 {
			t.Fatalf("%d operations", s.View().Fences.Len())
		}
		if st, _ := m.Status(); spm != "d" && st.Row != RowHold {
			t.Errorf("%+v", st)
		}
	})
}

func TestFence_disarmed(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		set := Settings{Cluster: s, Now: time.Now}
		if _, err := set.Disarm(t.Context(), "ann", "new switches", 6*time.Second); err != nil {
			t.Fatal(err)
		}
		s.kill(spm)
		time.Sleep(4 * time.Second)
		if st, _ := m.Status(); s.View().Fences.Len() != 0 || st.Row != RowDisarmed || st.In == 0 || !strings.Contains(st.Why, "ann: new switches") {
			t.Fatalf("%d operations, %+v", s.View().Fences.Len(), st)
		}
		s.until(t, "failover", 4*time.Second, func() bool { return another(spm)(s) })
		if !hasEvent(s, "fencing.disarmed") || s.lastOp(spm).Outcome != fsm.FenceDone {
			t.Error("no event, or the role moved without a proof")
		}
	})
}

func TestFence_quietTimeOutlivesTheLeader(t *testing.T) {
	t.Parallel()
	now := time.Unix(100, 0)
	op := fsm.FenceOp{ID: "f", Action: fsm.FenceRestart, Began: now.Add(-time.Second).UnixNano(), Outcome: fsm.FenceDone,
		Steps: []fsm.FenceStep{{Rung: RungPower, Result: fsm.StepOK}}}
	for _, tc := range []struct {
		name   string
		change func(*fsm.FenceOp)
		want   time.Duration
	}{
		{"a second ago", nil, 4 * time.Second},
		{"long ago", func(o *fsm.FenceOp) { o.Began -= int64(time.Hour) }, 0},
		{"by a clock that is ahead", func(o *fsm.FenceOp) { o.Began += int64(time.Hour) }, 5 * time.Second},
		{"none", func(o *fsm.FenceOp) { *o = fsm.FenceOp{} }, 0},
		{"on", func(o *fsm.FenceOp) { o.Action = fsm.FenceOn }, 0},
		{"given up before any order", func(o *fsm.FenceOp) { o.Outcome, o.Steps = fsm.FenceAbandoned, nil }, 0},
		{"failed a second ago, after long", func(o *fsm.FenceOp) {
			o.Outcome, o.Ended, o.Began = fsm.FenceFailed, o.Began, o.Began-int64(time.Hour)
		}, 4 * time.Second},
		{"failed for want of a proxy", func(o *fsm.FenceOp) { o.Outcome, o.Steps = fsm.FenceFailed, nil }, 4 * time.Second},
	} {
		o := op
		if tc.change != nil {
			tc.change(&o)
		}
		if got := quietLeft(o, 5*time.Second, now); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

type fakeKdump struct{ dump time.Duration }

func (k fakeKdump) Await(ctx context.Context, _ fsm.Host, start time.Duration) (bool, string, error) {
	if k.dump > 0 {
		return true, "it said so", nil
	}
	pause(ctx, start)
	return false, "", context.Cause(ctx)
}

func (k fakeKdump) Finished(ctx context.Context, _ fsm.Host, limit time.Duration) (string, error) {
	pause(ctx, min(k.dump, limit))
	return "it has ended", context.Cause(ctx)
}

func TestFence_softAndKdump(t *testing.T) {
	for name, tc := range map[string]struct {
		soft func(s *sim) error // what the command does
		dump time.Duration
		want string
	}{
		"neither helps": {func(*sim) error { return errors.New("no route to host") }, 0,
			"soft intent, soft failed, kdump intent, kdump skipped, power_off intent, power_off ok"},
		"the dump is waited for": {func(*sim) error { return errors.New("no route to host") }, 2 * time.Second,
			"soft intent, soft failed, kdump intent, kdump ok, power_off intent, power_off ok"},
		"the command brings it back": {func(s *sim) error {
			s.alter(func() {
				for _, h := range s.hosts {
					h.cut = false
				}
			})
			return nil
		}, 0, "soft intent, soft ok"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, "a", "b", "c", "d", "e")
				s.hosts["e"].master = false
				runs := 0
				_, stop := s.lead(t, "e", func(c *Config) {
					c.Policy.FenceLiveAfter, c.Policy.SkipIfLive = 0, false
					c.Soft = func(context.Context, fsm.Host) (string, error) { runs++; return "ran", tc.soft(s) }
					c.Kdump = fakeKdump{tc.dump}
				})
				defer s.check(t)
				defer stop()
				s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
				victim := map[bool]string{true: "b", false: "a"}[s.serving() == "a"]
				s.alter(func() { s.hosts[victim].cut, s.hosts[victim].deaf = true, true })
				s.until(t, "the end of the operation", time.Minute, func() bool { return s.lastOp(victim).Outcome != "" })
				op := s.lastOp(victim)
				if got := rungs(op); got != "rpc failed, storage skipped, "+tc.want || runs != 1 {
					t.Errorf("%s (%s), the command ran %d times", got, op.Outcome, runs)
				}
				if back := tc.want == "soft intent, soft ok"; back != (op.Outcome == fsm.FenceAbandoned) || back == (s.switched().offs == 1) {
					t.Errorf("%s, switched off %d times", op.Outcome, s.switched().offs)
				}
			})
		})
	}
}

func TestFence_aPersonsWordEndsIt(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		s.alter(func() { s.switchUp = false })
		s.kill(spm)
		s.until(t, "the wait for the lease", 9*time.Second, func() bool { return strings.Contains(rungs(s.lastOp(spm)), "lease_dead intent") })
		done, err := m.ConfirmRebooted(t.Context(), Confirmation{Host: spm, Reason: "I pulled the plug", By: "ann", Force: true})
		if err != nil || done.Proof.Kind != fsm.ProofPerson {
			t.Fatalf("%+v, %v", done, err)
		}
		op := s.lastOp(spm)
		if op.Outcome != fsm.FenceDone || op.ProofGeneration == 0 || !strings.Contains(op.Detail, "ann") {
			t.Errorf("%s (%s): %s", op.Outcome, op.Detail, rungs(op))
		}
		s.until(t, "failover", 2*time.Second, func() bool { return another(spm)(s) })
	})
}

func TestFence_newLeaderWaitsItsGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const grace = 6 * time.Second
		s := newSim(t, "a", "b", "c", "d", "e")
		s.hosts["a"].cut, s.hosts["a"].deaf = true, true
		time.Sleep(10 * time.Minute)
		begun := time.Now()
		_, stop := s.lead(t, "e", func(c *Config) { c.Policy.Grace, c.Policy.SkipIfLive = grace, false })
		defer s.check(t)
		defer stop()
		s.until(t, "an operation", time.Minute, func() bool { return s.View().Fences.Len() > 0 })
		if took := time.Since(begun); took < grace {
			t.Errorf("it began after %s of its term", took)
		}
		s.kill("b")
		if took := s.until(t, "a host that is off", grace+2*time.Second, func() bool { return s.proven("b") }); took > grace+time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestFence_powerOffAndTwoSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c", "d", "e")
		s.hosts["e"].master, s.offTakes = false, 5*time.Second
		var off time.Time
		s.point = func(what string) {
			if what == "after off" {
				off = time.Now()
			}
		}
		_, stop := s.lead(t, "e", func(c *Config) { c.Policy = DefaultPolicy("fast") })
		defer s.check(t)
		defer stop()
		s.until(t, "election", 5*time.Second, func() bool { return s.serving() != "" })
		spm := s.serving()
		s.kill(spm)
		s.until(t, "failover", 30*time.Second, func() bool { return another(spm)(s) })
		s.mu.Lock()
		defer s.mu.Unlock()
		if took := time.Since(off); off.IsZero() || took > 2*time.Second {
			t.Errorf("%s after the power was off", took)
		}
	})
}

// The terms of the formula of oVirt (a base, more for the SPM, more for each guest), for a host with 20 disks in use.
func TestPolicy_graceOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		profile string
		uses    int
		holder  bool
		want    time.Duration
	}{
		{"compatible", 0, false, 30 * time.Second},
		{"compatible", 20, false, 40 * time.Second},
		{"compatible", 20, true, 60 * time.Second},
		{"fast", 20, true, 3 * time.Second},
		{"dev", 20, true, time.Second},
	} {
		p := DefaultPolicy(tc.profile)
		if got := p.graceOf(&Host{Uses: tc.uses}, tc.holder); got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}

// A host that uses much is left alone for longer, as it said itself before it fell silent; an idle one beside it is not.
func TestFence_graceGrowsWithUse(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		var idle, busy string
		for _, n := range []string{"a", "b", "c", "d"} {
			switch {
			case n == spm:
			case idle == "":
				idle = n
			case busy == "":
				busy = n
			}
		}
		s.alter(func() { s.hosts[busy].uses = []string{"volume 1", "volume 2", "volume 3"} })
		time.Sleep(time.Second) // it has said so
		s.alter(func() {
			for _, n := range []string{idle, busy} {
				s.hosts[n].hung, s.hosts[n].deaf = true, true
			}
		})
		begun := time.Now()
		s.until(t, "the idle host's fencing", 30*time.Second, func() bool { return s.lastOp(idle).ID != "" })
		if s.lastOp(busy).ID != "" {
			t.Fatalf("both after %s", time.Since(begun))
		}
		s.until(t, "the busy host's fencing", 40*time.Second, func() bool { return s.lastOp(busy).ID != "" })
		if took := time.Since(begun); took < 30*time.Second {
			t.Errorf("after %s", took)
		}
	}, func(c *Config) { c.Policy.GracePerUse = 10 * time.Second })
}
