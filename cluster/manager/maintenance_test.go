package manager

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// hostOf is what is committed about a host.
func (s *sim) hostOf(name string) fsm.Host { h, _ := s.View().Hosts.Get(name); return h }

// set changes a simulated host.
func (s *sim) set(name string, change func(h *simHost)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.hosts[name])
}

// eventsOf lists the events of a kind, oldest first.
func eventsOf(s *sim, kind string) []fsm.Event {
	return slices.DeleteFunc(slices.Clone(s.View().Events()), func(e fsm.Event) bool { return e.Kind != kind })
}

func lastMove(t *testing.T, s *sim) fsm.Event {
	t.Helper()
	s.until(t, "an event of the move", time.Second, func() bool { return hasEvent(s, kindMoved) })
	l := eventsOf(s, kindMoved)
	return l[len(l)-1]
}

func maintain(t *testing.T, m *Manager, host string, wait time.Duration) fsm.Host {
	t.Helper()
	h, err := m.Maintain(t.Context(), MaintenanceRequest{Host: host, By: "ann", Reason: "memory", Wait: wait})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// The SPM goes to maintenance: the role moves first, nobody misses the host there, and it comes back when it is wanted.
func TestManager_maintenanceOfTheSPM(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		begun := time.Now()
		h := maintain(t, m, spm, 10*time.Second)
		if h.State != fsm.HostMaintenance || !strings.Contains(h.Reason, "ann: memory") || s.serving() == spm || s.serving() == "" {
			t.Fatalf("%+v, %q serves", h, s.serving())
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("took %s", took)
		}
		if e := lastMove(t, s); e.Reason != MovedMaintenance || e.Host != s.serving() {
			t.Errorf("%+v", e)
		}
		s.set(spm, func(h *simHost) { h.cut = true })
		index := s.View().Index
		time.Sleep(time.Minute)
		if s.hostOf(spm).State != fsm.HostMaintenance || s.switched().offs != 0 {
			t.Errorf("%+v, switched off %d times", s.hostOf(spm), s.switched().offs)
		}
		if n := s.View().Index - index; n > 6 { // its witnesses
			t.Errorf("%d commands for a host that nobody misses", n)
		}
		s.set(spm, func(h *simHost) { h.cut = false })
		time.Sleep(time.Second)
		h, err := m.Activate(t.Context(), ActivateRequest{Host: spm, By: "ann", Wait: 10 * time.Second})
		if err != nil || h.State != fsm.HostUp || h.Wish.Want != "" {
			t.Errorf("%+v, %v", h, err)
		}
	})
}

func TestManager_maintenanceBlockedByUses(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		other := map[string]string{"a": "b", "b": "a", "c": "a"}[spm]
		s.set(other, func(h *simHost) { h.uses = []string{"attached volume web1", "lease db"} })
		h := maintain(t, m, other, 3*time.Second)
		if h.State != fsm.HostPreparing || !strings.Contains(h.Reason, "attached volume web1; lease db") {
			t.Fatalf("%+v", h)
		}
		s.set(other, func(h *simHost) { h.uses = nil })
		s.until(t, "maintenance by itself", 10*time.Second, func() bool { return s.hostOf(other).State == fsm.HostMaintenance })
	})
}

// What a host said about an earlier wish is no word about this one: it may have let something in between.
func TestManager_maintenanceNeedsAFreshWord(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		other := map[string]string{"a": "b", "b": "a", "c": "a"}[spm]
		s.set(other, func(h *simHost) { h.heeds = 1 })
		if h := maintain(t, m, other, 3*time.Second); h.State != fsm.HostPreparing || !strings.Contains(h.Reason, "takes nothing new") {
			t.Fatalf("%+v", h)
		}
		s.set(other, func(h *simHost) { h.heeds = 0 })
		s.until(t, "maintenance", 10*time.Second, func() bool { return s.hostOf(other).State == fsm.HostMaintenance })
	})
}

// Nobody else can have the role: it stays, the reason names why for each host, and the host goes as soon as one can.
func TestManager_maintenanceWithoutHeir(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		for _, name := range []string{"a", "b", "c"} {
			if name != spm {
				if _, err := m.SetPriority(t.Context(), name, -1, "ann"); err != nil {
					t.Fatal(err)
				}
			}
		}
		h := maintain(t, m, spm, 3*time.Second)
		if h.State != fsm.HostPreparing || strings.Count(h.Reason, "never SPM by its priority") != 2 || s.serving() != spm {
			t.Fatalf("%+v, %q serves", h, s.serving())
		}
		if st, _ := m.Status(); st.Row != RowAdopt || st.Awaits == "" {
			t.Errorf("%+v", st)
		}
		to := map[string]string{"a": "b", "b": "a", "c": "a"}[spm]
		if _, err := m.SetPriority(t.Context(), to, 1, "ann"); err != nil {
			t.Fatal(err)
		}
		s.until(t, "maintenance", 5*time.Second, func() bool { return s.hostOf(spm).State == fsm.HostMaintenance && s.serving() == to })
	})
}

func TestManager_maintenanceTakenBack(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		other := map[string]string{"a": "b", "b": "a", "c": "a"}[spm]
		s.set(other, func(h *simHost) { h.uses = []string{"attached volume web1"} })
		maintain(t, m, other, time.Second)
		h, err := m.Activate(t.Context(), ActivateRequest{Host: other, By: "ann", Wait: 10 * time.Second})
		if err != nil || h.State != fsm.HostUp {
			t.Fatalf("%+v, %v", h, err)
		}
		time.Sleep(time.Second) // the event about its state comes after that
		before := s.View().Index
		if h, err := m.Activate(t.Context(), ActivateRequest{Host: other, By: "ann", Wait: time.Second}); err != nil || h.State != fsm.HostUp || s.View().Index != before {
			t.Errorf("%+v, %v, %d commands", h, err, s.View().Index-before)
		}
	})
}

// A host that does not answer is in maintenance only on a person's word, and then nothing follows from its silence.
func TestManager_maintenanceByForce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		m, stop := s.lead(t, "c", func(c *Config) { c.Policy.FenceOthers = false })
		defer s.check(t)
		defer stop()
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		spm := s.serving()
		if _, err := m.Maintain(t.Context(), MaintenanceRequest{Host: spm, By: "ann", Force: true}); !errors.Is(err, ErrHasRole) {
			t.Errorf("err = %v", err)
		}
		other := map[string]string{"a": "b", "b": "a", "c": "a"}[spm]
		s.set(other, func(h *simHost) { h.cut = true })
		s.until(t, "isolated", 30*time.Second, func() bool { return s.hostOf(other).State == fsm.HostIsolated })
		if h := maintain(t, m, other, 5*time.Second); h.State != fsm.HostPreparing || !strings.Contains(h.Reason, "--force") {
			t.Fatalf("%+v", h)
		}
		h, err := m.Maintain(t.Context(), MaintenanceRequest{Host: other, By: "ann", Reason: "I see it is idle", Force: true, Wait: time.Second})
		if err != nil || h.State != fsm.HostMaintenance || !strings.Contains(h.Reason, "I see it is idle") {
			t.Fatalf("%+v, %v", h, err)
		}
		if _, err := m.Maintain(t.Context(), MaintenanceRequest{Host: "zz", By: "ann"}); !errors.Is(err, fsm.ErrNotFound) {
			t.Errorf("err = %v", err)
		}
	})
}

// A wish that the role be on a host ends with the wish that the host goes.
func TestManager_maintenanceEndsTheWishForTheRole(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		to := map[string]string{"a": "b", "b": "a", "c": "a"}[spm]
		s.set(to, func(h *simHost) { h.master = false })
		s.must(t, &fsm.SPMDesire{Pool: simPool, Desired: fsm.DesireHost + to, Time: time.Now().UnixNano()})
		maintain(t, m, to, 5*time.Second)
		if p, _ := s.View().Pool(); p.SPM.Desired != fsm.DesireAny {
			t.Errorf("%+v", p.SPM)
		}
		if _, err := (Operator{Cluster: s, Now: time.Now}).Move(t.Context(), to); !errors.Is(err, ErrHostNotUp) {
			t.Errorf("err = %v", err)
		}
	})
}

// Two leaders, one after the other: the second finds the wish and finishes it.
func TestManager_maintenanceOverAChangeOfLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		defer s.check(t)
		m, stop := s.lead(t, "c")
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		s.set("b", func(h *simHost) { h.uses = []string{"attached volume web1"} })
		maintain(t, m, "b", time.Second)
		stop()
		if _, err := m.Maintain(timeout(t, time.Second), MaintenanceRequest{Host: "a"}); !errors.Is(err, ErrNotLeading) {
			t.Errorf("err = %v", err)
		}
		s.set("b", func(h *simHost) { h.uses = nil })
		_, stop = s.lead(t, "a")
		defer stop()
		s.until(t, "maintenance", 5*time.Second, func() bool { return s.hostOf("b").State == fsm.HostMaintenance })
	})
}

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
