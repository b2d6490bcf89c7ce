package manager

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// twoDomains gives the simulated pool domains that hosts report on.
func (s *sim) twoDomains(t *testing.T) {
	t.Helper()
	for id, name := range map[string]string{simMaster: "san1", simOther: "san2"} {
		s.must(t, &fsm.DomainPut{Domain: fsm.Domain{ID: id, Name: name, Status: fsm.DomainActive, Epoch: 1, Seq: 1}})
	}
	time.Sleep(time.Second) // until all hosts have reported
}

func (s *sim) reaches(name string, domain string, ok bool) {
	s.set(name, func(h *simHost) { h.misses = map[string]bool{domain: !ok} })
}

// The SPM cannot reach all domains but the master: the role goes to a host that does, and not before that has lasted.
func TestManager_outreach(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		s.twoDomains(t)
		s.reaches(spm, simOther, false)
		time.Sleep(DefaultPolicy("dev").OutreachAfter / 2)
		if s.serving() != spm {
			t.Fatal("moved at the first bad report")
		}
		if st, _ := m.Status(); !strings.Contains(st.Why, "san2") || st.In <= 0 || st.Awaits == "" {
			t.Errorf("%+v", st)
		}
		took := s.until(t, "hand over", 3*time.Second, func() bool { return another(spm)(s) })
		if took > 1500*time.Millisecond {
			t.Errorf("took %s more", took)
		}
		if e := lastMove(t, s); e.Reason != MovedDomains || !strings.Contains(e.Message, "san2") {
			t.Errorf("%+v", e)
		}
		now := s.serving()
		for _, name := range []string{"a", "b", "c"} {
			s.reaches(name, simOther, false)
		}
		time.Sleep(10 * time.Second)
		if s.serving() != now {
			t.Error("moved although nobody reaches more")
		}
	})
}

// A domain that comes and goes, now here, now there, does not take the role along each time.
func TestManager_outreachDoesNotFlap(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.twoDomains(t)
		for range 40 {
			was := s.serving()
			for _, name := range []string{"a", "b", "c"} {
				s.reaches(name, simOther, name != was)
			}
			time.Sleep(3 * time.Second)
		}
		moves := countEvents(s, kindMoved)
		if moves < 1 || moves > 6 { // the wait doubles: 1.5, 3, 6, 12, 24, 48 s
			t.Errorf("%d moves in 2 minutes", moves)
		}
	})
}

// Without a name the role goes to the host that the manager would take next; one that reaches less is refused, with the reason.
func TestManager_moveByReach(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		s.twoDomains(t)
		less, more := "a", "b"
		switch spm {
		case "a":
			less, more = "b", "c"
		case "b":
			more = "c"
		}
		if _, err := m.SetPriority(t.Context(), less, 10, "ann"); err != nil {
			t.Fatal(err)
		}
		s.reaches(less, simOther, false)
		time.Sleep(time.Second)
		o := Operator{Cluster: s, Now: time.Now, Status: m.Status}
		if _, err := o.Move(timeout(t, 3*time.Second), less); !errors.Is(err, ErrNotReached) || !strings.Contains(err.Error(), "cannot reach san2") {
			t.Errorf("err = %v", err)
		}
		begun := time.Now()
		_, err := o.Move(timeout(t, time.Hour), less)
		if !errors.Is(err, ErrNotReached) || !strings.Contains(err.Error(), "cannot reach san2") || !strings.Contains(err.Error(), "name another host") {
			t.Errorf("err = %v", err)
		}
		if took := time.Since(begun); took < patienceFor || took > 2*patienceFor {
			t.Errorf("it is told after %s", took)
		}
		if p, _ := s.View().Pool(); p.SPM.Desired != fsm.DesireAny {
			t.Errorf("the wish stays: %+v", p.SPM)
		}
		got, err := o.Move(timeout(t, 10*time.Second), "")
		if err != nil || got.Host == less || got.Host == spm {
			t.Errorf("%+v, %v; %s reaches all", got, err, more)
		}
	})
}

// Renewals that fail on the SPM alone move the role while the lease can still be given back.
func TestManager_renewalsFail(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.set(spm, func(h *simHost) { h.renewals = RenewalsLate })
		time.Sleep(5 * time.Second)
		if s.serving() != spm {
			t.Fatal("moved when renewals were late")
		}
		s.set(spm, func(h *simHost) { h.renewals = RenewalsFailing })
		s.until(t, "hand over", 2*time.Second, func() bool { return another(spm)(s) })
		if e := lastMove(t, s); e.Reason != MovedRenewals {
			t.Errorf("%+v", e)
		}
	})
}

// Every way in which the role can move names its reason.
func TestManager_movesSayWhy(t *testing.T) {
	for name, tc := range map[string]struct {
		do     func(s *sim, spm string)
		reason string
	}{
		"agent killed":        {func(s *sim, spm string) { s.killAgent(spm) }, MovedCrash},
		"host killed":         {func(s *sim, spm string) { s.kill(spm) }, MovedCrash},
		"cut off":             {func(s *sim, spm string) { s.set(spm, func(h *simHost) { h.cut = true }) }, MovedIsolated},
		"master unreadable":   {func(s *sim, spm string) { s.set(spm, func(h *simHost) { h.master = false }) }, MovedMaster},
		"let go of by itself": {func(s *sim, spm string) { s.set(spm, func(h *simHost) { h.stop(); h.failStart = true }) }, MovedGaveUp},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
				tc.do(s, spm)
				s.until(t, "another SPM", 20*time.Second, func() bool { return another(spm)(s) })
				if e := lastMove(t, s); e.Reason != tc.reason || !strings.Contains(e.Message, "from "+spm) {
					t.Errorf("%+v", e)
				}
			})
		})
	}
}

// A host that was fenced and comes back is up by itself, by way of connecting.
func TestManager_fencedHostComesBack(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.kill(spm)
		s.until(t, "up again", 20*time.Second, func() bool { return s.switched().on == 1 && s.hostOf(spm).State == fsm.HostUp })
		var states []string
		for _, e := range s.View().Events() {
			if e.Host == spm && strings.HasPrefix(e.Kind, "host.") {
				states = append(states, strings.TrimPrefix(e.Kind, "host."))
			}
		}
		if got := strings.Join(states, " "); !strings.HasSuffix(got, "connecting up") {
			t.Errorf("events of states: %s", got)
		}
	})
}

// Network dead, storage alive is a state of its own, and each witness says its own.
func TestManager_isolated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		_, stop := s.lead(t, "c", func(c *Config) { c.Policy.FenceOthers, c.Gossip = false, simGossip{s} })
		defer s.check(t)
		defer stop()
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		s.twoDomains(t)
		other := map[string]string{"a": "b", "b": "a", "c": "a"}[s.serving()]
		s.set(other, func(h *simHost) { h.cut = true })
		s.until(t, "isolated", 20*time.Second, func() bool { return s.hostOf(other).State == fsm.HostIsolated })
		want := map[string]string{"gossip ": WitnessFailed, "rpc ": WitnessSilent, "lease " + simMaster: "live", "lease " + simOther: "live"}
		s.until(t, "witnesses", 20*time.Second, func() bool { return sameWitnesses(s.hostOf(other), want) })
		s.kill(other)
		s.until(t, "down", 30*time.Second, func() bool { return s.hostOf(other).State == fsm.HostDown })
		want["lease "+simMaster], want["lease "+simOther] = "dead", "dead"
		s.until(t, "witnesses of the dead", 20*time.Second, func() bool { return sameWitnesses(s.hostOf(other), want) })
		index := s.View().Index
		time.Sleep(time.Minute)
		if n := s.View().Index - index; n != 0 {
			t.Errorf("%d commands while nothing happens", n)
		}
	})
}

func sameWitnesses(h fsm.Host, want map[string]string) bool {
	for _, w := range h.Witnesses {
		if want[w.Kind+" "+w.Subject] != w.State {
			return false
		}
	}
	return len(h.Witnesses) == len(want)
}

type simGossip struct{ s *sim }

func (g simGossip) Says(host string) string {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	if h := g.s.hosts[host]; h.cut || !h.agent {
		return WitnessFailed
	}
	return WitnessAlive
}

// Nobody is SPM: the status says exactly why, what is awaited and for how long, and the countdown counts down.
func TestManager_explainsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		m, stop := s.lead(t, "c", func(c *Config) { c.Fenceable = nil })
		defer s.check(t)
		defer stop()
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		spm := s.serving()
		s.until(t, "who is next, while somebody serves", time.Second, func() bool {
			st, _ := m.Status()
			return len(st.Next) == 2 && st.Next[0].Able && len(st.Moves) > 0
		})
		s.kill(spm)
		time.Sleep(6 * time.Second)
		first, _ := m.Status()
		if first.Row != RowLostDead || first.Awaits != "its lease to be dead" || first.In <= 0 || !strings.Contains(first.Why, spm) || len(first.Moves) != 0 {
			t.Fatalf("%+v", first)
		}
		if last := first.Next[len(first.Next)-1]; last.Able || last.Host != spm || last.Why != "does not answer" {
			t.Errorf("%+v", first.Next)
		}
		time.Sleep(time.Second)
		if second, _ := m.Status(); second.In >= first.In || second.In < first.In-2*time.Second {
			t.Errorf("%s, and a second later %s", first.In, second.In)
		}
		s.until(t, "failover", 15*time.Second, func() bool { return another(spm)(s) })
		s.until(t, "why there", time.Second, func() bool { st, _ := m.Status(); return strings.Contains(st.Chosen, s.serving()) })
	})
}

// A new leader takes over what is committed and does not write it all again.
func TestManager_newLeaderKeepsStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		_, stop := s.lead(t, "c", func(c *Config) { c.Policy.FenceOthers = false })
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		other := map[string]string{"a": "b", "b": "a", "c": "a"}[s.serving()]
		s.set(other, func(h *simHost) { h.cut = true })
		s.until(t, "isolated", 20*time.Second, func() bool { return s.hostOf(other).State == fsm.HostIsolated })
		time.Sleep(20 * time.Second)
		stop()
		was, index := s.hostOf(other), s.View().Index
		lead := map[string]string{"a": "b", "b": "a"}[other]
		if lead == "" {
			lead = "b"
		}
		_, stop = s.lead(t, lead, func(c *Config) { c.Policy.FenceOthers = false })
		defer stop()
		time.Sleep(30 * time.Second)
		if now := s.hostOf(other); now.State != was.State || now.Since != was.Since {
			t.Errorf("%+v, was %+v", now, was)
		}
		if n := s.View().Index - index; n > 4 {
			t.Errorf("%d commands by a new leader when nothing happened; %v", n, s.View().Events())
		}
	})
}
