package manager

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
)

func TestOrder(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		order := func(action string, force bool) (fsm.FenceOp, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			return m.Order(ctx, PowerOrder{Host: spm, Action: action, Reason: "test", By: "ann", Force: force})
		}
		if _, err := order(ActionFence, false); !errors.Is(err, ErrHostRuns) {
			t.Errorf("a host that answers: %v", err)
		}
		if _, err := m.Order(t.Context(), PowerOrder{Host: "e", Action: fsm.FenceOff, Force: true}); !errors.Is(err, ErrLeaderPower) {
			t.Errorf("the leader: %v", err)
		}
		if _, err := m.Order(t.Context(), PowerOrder{Host: "zz", Action: fsm.FenceOff}); !errors.Is(err, fsm.ErrNotFound) {
			t.Errorf("a stranger: %v", err)
		}
		s.alter(func() { s.hosts[spm].hung = true }) // or the simulation takes it for a breach
		op, err := order(fsm.FenceOff, true)
		if err != nil || op.Outcome != fsm.FenceDone || !op.ByPerson || op.By != "ann" || !s.proven(spm) {
			t.Fatalf("%+v, %v", op, err)
		}
		time.Sleep(20 * time.Second)
		if s.switched().on != 0 {
			t.Fatal("what a person switched off was switched on again")
		}
		op, err = order(fsm.FenceOn, false)
		if err != nil || op.Outcome != fsm.FenceDone || s.switched().on != 1 {
			t.Fatalf("%+v, %v", op, err)
		}
		s.until(t, "up", 10*time.Second, func() bool { h, _ := s.View().Hosts.Get(spm); return h.State == fsm.HostUp })
		groups, err := m.PowerStatus(t.Context(), spm)
		if err != nil || len(groups) != 1 || groups[0].State != fencing.On {
			t.Errorf("%+v, %v", groups, err)
		}
		through, health, err := m.PowerHealth(t.Context(), spm, "")
		if err != nil || !health.Off || !health.On || through == spm {
			t.Errorf("%s: %+v, %v", through, health, err)
		}
	})
}

func TestSettings(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, _ *Manager, _ string) {
		set := Settings{Cluster: s, Now: time.Now}
		base := DefaultPolicy("dev")
		now := func() Policy { return base.Under(s.View()) }
		for name, change := range map[string]func() error{
			"grace too short": func() error { return set.Fencing(t.Context(), "ann", FenceSettings{Grace: new(time.Millisecond)}) },
			"grace too long":  func() error { return set.Fencing(t.Context(), "ann", FenceSettings{Grace: new(2 * time.Hour)}) },
			"quiet negative":  func() error { return set.Fencing(t.Context(), "ann", FenceSettings{Quiet: new(-time.Second)}) },
			"disarm for ever": func() error { _, err := set.Disarm(t.Context(), "ann", "", 1000*time.Hour); return err },
			"reserve":         func() error { return set.Powersave(t.Context(), "ann", PowersaveSettings{Reserve: new(-1)}) },
		} {
			if err := change(); !errors.Is(err, ErrSetting) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := now(); got.Grace != base.Grace || !got.Fencing || !got.SkipIfLive || got.disarmed(time.Now()) {
			t.Fatalf("refused settings changed something: %+v", got)
		}
		if err := set.Fencing(t.Context(), "ann", FenceSettings{Grace: new(45 * time.Second), Enabled: new(false), Restart: new(false)}); err != nil {
			t.Fatal(err)
		}
		if got := now(); got.Grace != 45*time.Second || got.Fencing || got.RestartAfterOff || !got.SkipIfLive {
			t.Errorf("%+v", got)
		}
		if err := set.Fencing(t.Context(), "ann", FenceSettings{Grace: new(time.Duration(0)), Enabled: new(true)}); err != nil || now().Grace != base.Grace || !now().Fencing {
			t.Errorf("%v, %+v", err, now())
		}
		if _, err := set.Disarm(t.Context(), "ann", "switches", time.Hour); err != nil || !new(now()).disarmed(time.Now()) || new(now()).disarmed(time.Now().Add(2*time.Hour)) {
			t.Errorf("%v, %+v", err, now())
		}
		if err := set.Arm(t.Context(), "ann"); err != nil || new(now()).disarmed(time.Now()) {
			t.Errorf("%v, %+v", err, now())
		}
		s.must(t, &fsm.ConfigSet{Key: fsm.ConfigDisarmedUntil, Value: "tomorrow"})
		if p := now(); !p.disarmed(time.Now()) {
			t.Error("somebody meant to disarm, and it was not understood: that must not arm")
		}
	})
}

func TestOrder_inMaintenance(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		host := map[bool]string{true: "b", false: "a"}[spm == "a"]
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if h, err := m.Maintain(ctx, MaintenanceRequest{Host: host, By: "ann", Reason: "memory", Wait: 10 * time.Second}); err != nil || h.State != fsm.HostMaintenance {
			t.Fatalf("%s (%s), %v; %v", h.State, h.Reason, err, s.View().Events())
		}
		op, err := m.Order(ctx, PowerOrder{Host: host, Action: fsm.FenceOff, By: "ann"})
		if err != nil || op.Outcome != fsm.FenceDone || !s.proven(host) {
			t.Fatalf("%+v, %v", op, err)
		}
		time.Sleep(20 * time.Second)
		h, _ := s.View().Hosts.Get(host)
		if s.switched().on != 0 || h.State != fsm.HostDown && h.State != fsm.HostMaintenance {
			t.Fatalf("%s, switched on %d times", h.State, s.switched().on)
		}
		if op, err = m.Order(ctx, PowerOrder{Host: host, Action: fsm.FenceOn, By: "ann"}); err != nil || op.Outcome != fsm.FenceDone {
			t.Fatalf("%+v, %v", op, err)
		}
		s.until(t, "in maintenance again", 10*time.Second, func() bool {
			h, _ := s.View().Hosts.Get(host)
			return h.State == fsm.HostMaintenance && h.Wish.By == "ann"
		})
		if len(s.breaches) != 1 || s.breaches[0] != "switched off a host that answers: "+host { // and meant
			t.Errorf("%q", s.breaches)
		}
		s.breaches = nil
	})
}

// A host that does not lead any more proposes nothing about anybody's power, although nobody has told it yet.
func TestFence_deposed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c", "d", "e")
		s.hosts["e"].master = false
		var term atomic.Uint64
		term.Store(7)
		m, stop := s.lead(t, "e", func(c *Config) { c.Term = term.Load })
		defer s.check(t)
		defer stop()
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		spm := s.serving()
		term.Store(0)
		s.kill(spm)
		time.Sleep(7 * time.Second)
		if _, err := m.Order(t.Context(), PowerOrder{Host: spm, Action: fsm.FenceOff, Force: true}); !errors.Is(err, ErrNotLeading) {
			t.Errorf("a person's order: %v", err)
		}
		if s.View().Fences.Len() != 0 || s.switched().offs != 0 {
			t.Errorf("%d operations, %d offs", s.View().Fences.Len(), s.switched().offs)
		}
	})
}
