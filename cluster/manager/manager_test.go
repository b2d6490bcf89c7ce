package manager

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

func hasEvent(s *sim, kind string) bool {
	for _, e := range s.View().Events() {
		if e.Kind == kind {
			return true
		}
	}
	return false
}

func countEvents(s *sim, kind string) int {
	n := 0
	for _, e := range s.View().Events() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// Keepers remember a record as it was at their last renewal; that must not make the leader free it again and again.
func TestManager_freesOnce(t *testing.T) {
	for name, pick := range map[string]func(spm string) string{
		"the SPM": func(spm string) string { return spm },
		"another": func(spm string) string { return map[string]string{"a": "b", "b": "a", "c": "a"}[spm] },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
				s.kill(pick(spm))
				s.until(t, "on again", 20*time.Second, func() bool { return s.switched().on == 1 })
				time.Sleep(3 * time.Second)
				if n := s.switched(); n.offs != 1 || n.frees != 1 {
					t.Errorf("switched off %d times, freed %d times", n.offs, n.frees)
				}
				if n := countEvents(s, kindFreed); n != 1 {
					t.Errorf("%d events of kind %s", n, kindFreed)
				}
			})
		})
	}
}

func another(names ...string) func(s *sim) bool {
	return func(s *sim) bool {
		now := s.serving()
		for _, n := range names {
			if now == n {
				return false
			}
		}
		return now != ""
	}
}

func TestManager_agentKilled(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.killAgent(spm)
		took := s.until(t, "failover", 3*time.Second, func() bool { return another(spm)(s) })
		if took > 500*time.Millisecond {
			t.Errorf("took %s", took)
		}
		if s.switched().offs != 0 {
			t.Error("a host that left cleanly was fenced")
		}
		s.until(t, "host down", 5*time.Second, func() bool { h, _ := s.View().Hosts.Get(spm); return h.State == fsm.HostDown })
	})
}

func TestManager_hostKilled(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.kill(spm)
		took := s.until(t, "failover", 5*time.Second, func() bool { return another(spm)(s) })
		if took > time.Second {
			t.Errorf("took %s", took)
		}
		s.until(t, "on again", 10*time.Second, func() bool { h, _ := s.View().Hosts.Get(spm); return s.switched().on == 1 && h.State == fsm.HostUp })
		for _, kind := range []string{"fence.intent", "fence.done", "fence.on", "spm.started"} {
			if !hasEvent(s, kind) {
				t.Errorf("no event %s", kind)
			}
		}
		if s.View().Proofs.Len() == 0 {
			t.Error("no proof recorded")
		}
		s.until(t, "role stays", time.Second, func() bool { return another(spm)(s) })
	})
}

func TestManager_otherHostKilled(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		other := "a"
		if spm == "a" {
			other = "b"
		}
		s.kill(other)
		s.until(t, "on again", 20*time.Second, func() bool { return s.switched().on == 1 })
		if s.serving() != spm {
			t.Error("the role moved")
		}
	})
}

// A host cut off from the network is asked through the storage, and hands over.
func TestManager_cutOff(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.mu.Lock()
		s.hosts[spm].cut = true
		s.mu.Unlock()
		took := s.until(t, "hand over", 5*time.Second, func() bool { return another(spm)(s) })
		if took > 2*time.Second {
			t.Errorf("took %s", took)
		}
		time.Sleep(5 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.yields != 1 || !hasEvent(s, "spm.asked") || !hasEvent(s, "spm.yielded") {
			t.Errorf("asked %d times; events %v", s.yields, s.View().Events())
		}
	})
}

// A hiccup of the network moves nothing.
func TestManager_hiccup(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.mu.Lock()
		s.hosts[spm].cut = true
		s.mu.Unlock()
		time.Sleep(500 * time.Millisecond)
		s.mu.Lock()
		s.hosts[spm].cut = false
		s.mu.Unlock()
		time.Sleep(5 * time.Second)
		if s.serving() != spm || s.yields != 0 {
			t.Errorf("%s serves, asked %d times", s.serving(), s.yields)
		}
	})
}

// The operator's wish reaches an SPM that does not answer over the network.
func TestManager_moveOffACutHost(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		to := map[string]string{"a": "b", "b": "a", "c": "a"}[spm]
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s.mu.Lock()
		s.hosts[spm].cut = true
		s.mu.Unlock()
		got, err := Operator{Cluster: s, Now: time.Now}.Move(ctx, to)
		if err != nil || got.Host != to {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// A host that is cut off and does not heed requests through the storage keeps the role as long as the policy says, and is
// then fenced.
func TestManager_cutOffAndDeaf(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		s.mu.Lock()
		s.hosts[spm].cut, s.hosts[spm].deaf = true, true
		s.mu.Unlock()
		time.Sleep(9 * time.Second)
		if s.serving() != spm {
			t.Fatal("the role was taken from a host that is alive on storage")
		}
		if st, _ := m.Status(); st.Row != RowLostAlive || st.In == 0 || st.Awaits == "" {
			t.Fatalf("%+v", st)
		}
		s.until(t, "failover", 20*time.Second, func() bool { return another(spm)(s) })
	})
}

// Without a power switch the lease alone decides: DEAD after 8N + W.
func TestManager_noSwitch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		_, stop := s.lead(t, "c", func(c *Config) { c.Fenceable = nil })
		defer s.check(t)
		defer stop()
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		spm := s.serving()
		s.kill(spm)
		took := s.until(t, "failover", 15*time.Second, func() bool { return another(spm)(s) })
		if took < 9*time.Second {
			t.Errorf("took only %s", took)
		}
	})
}

func TestManager_switchFails(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.mu.Lock()
		s.switchUp = false
		s.mu.Unlock()
		s.kill(spm)
		s.until(t, "failover by lease death", 20*time.Second, func() bool { return another(spm)(s) })
		if !hasEvent(s, "fence.failed") {
			t.Error("no event")
		}
	})
}

func TestManager_move(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		o := Operator{Cluster: s, Now: time.Now}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		to := "a"
		if spm == "a" {
			to = "b"
		}
		begun := time.Now()
		got, err := o.Move(ctx, to)
		if err != nil || got.Host != to || s.serving() != to {
			t.Fatalf("%+v, %v", got, err)
		}
		t.Logf("the move took %s", time.Since(begun))
		s.until(t, "wish taken back", time.Second, func() bool { p, _ := s.View().Pool(); return p.SPM.Desired == fsm.DesireAny })
		if got, err = o.Move(ctx, ""); err != nil || got.Host == to {
			t.Fatalf("%+v, %v", got, err)
		}
		if _, err := o.Move(ctx, "nobody"); !errors.Is(err, ErrHostNotUp) {
			t.Fatalf("err = %v", err)
		}
		time.Sleep(2 * time.Second)
		if s.serving() != got.Host {
			t.Error("the role moved again by itself")
		}
	})
}

func TestManager_moveToAHostThatFails(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		to := "a"
		if spm == "a" {
			to = "b"
		}
		s.mu.Lock()
		s.hosts[to].failStart = true
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := (Operator{Cluster: s, Now: time.Now}).Move(ctx, to); !errors.Is(err, ErrNotReached) {
			t.Fatalf("err = %v", err)
		}
		s.until(t, "somebody serves", 3*time.Second, func() bool { return s.serving() != "" })
		p, _ := s.View().Pool()
		if p.SPM.Desired != fsm.DesireAny || !hasEvent(s, "spm.start_failed") {
			t.Fatalf("%+v", p.SPM)
		}
	})
}

func TestManager_stopStart(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, _ string) {
		o := Operator{Cluster: s, Now: time.Now, By: "ann", Reason: "work on the SAN"}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if got, err := o.Stop(ctx); err != nil || got.State != fsm.SPMNone {
			t.Fatalf("%+v, %v", got, err)
		}
		time.Sleep(5 * time.Second)
		if s.serving() != "" {
			t.Fatal("it did not stay stopped")
		}
		if l := eventsOf(s, "spm.wish"); len(l) != 1 || l[0].Message != "ann wants nobody to be SPM: work on the SAN" {
			t.Errorf("%+v", l)
		}
		if st, _ := m.Status(); st.Row != RowFreeStopped {
			t.Fatalf("%+v", st)
		}
		if got, err := o.Start(ctx, ""); err != nil || s.serving() != got.Host {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

// Without a quorum nothing is fenced and nothing is started.
func TestManager_lostQuorum(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.mu.Lock()
		s.quorum = false
		s.mu.Unlock()
		s.kill(spm)
		time.Sleep(30 * time.Second)
		if s.switched().offs != 0 || s.serving() != "" {
			t.Fatalf("offs %d, serving %q", s.switched().offs, s.serving())
		}
		s.mu.Lock()
		s.quorum = true
		s.mu.Unlock()
		s.until(t, "failover", 5*time.Second, func() bool { return another(spm)(s) })
	})
}

// A new leader adopts who holds the lease.
func TestManager_newLeaderAdopts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		defer s.check(t)
		_, stop := s.lead(t, "c")
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		spm, version := s.serving(), s.leaseVersion()
		stop()
		m, stop := s.lead(t, "b")
		defer stop()
		time.Sleep(5 * time.Second)
		if s.serving() != spm || s.leaseVersion() != version {
			t.Fatalf("%s epoch %d became %s epoch %d", spm, version, s.serving(), s.leaseVersion())
		}
		if st, ok := m.Status(); !ok || st.Row != RowAdopt || st.Host != spm {
			t.Fatalf("%+v", st)
		}
	})
}

// A leader whose term ends in the middle of a fence operation leaves it to the next one.
func TestManager_termEndsWhileFencing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		defer s.check(t)
		_, stop := s.lead(t, "c")
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		spm := s.serving()
		s.kill(spm)
		s.until(t, "intent", 3*time.Second, func() bool { return hasEvent(s, "fence.intent") })
		stop()
		_, stop = s.lead(t, "b")
		defer stop()
		s.until(t, "failover", 15*time.Second, func() bool { return another(spm)(s) })
	})
}

// Two leaders at once, as after a partition that healed badly: the lease and the state machine keep it safe.
func TestManager_doubleLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		_, stop1 := s.lead(t, "b")
		_, stop2 := s.lead(t, "c")
		defer stop1()
		defer stop2()
		s.until(t, "election", 3*time.Second, func() bool { return s.serving() != "" })
		spm := s.serving()
		s.kill(spm)
		s.until(t, "failover", 15*time.Second, func() bool { return another(spm)(s) })
		time.Sleep(5 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, b := range s.breaches {
			if !strings.HasPrefix(b, "asked ") && !strings.HasPrefix(b, "switched off") { // refused by the lease; fenced by a stale picture
				t.Fatal(b)
			}
		}
	})
}

// Hosts that come and go must not make the role or the host states dance without bound.
func TestManager_flapping(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		flap := "a"
		if spm == "a" {
			flap = "b"
		}
		flutter := func(times int) uint64 {
			before := s.View().Index
			for range times {
				s.set(flap, func(h *simHost) { h.cut = !h.cut })
				time.Sleep(400 * time.Millisecond)
			}
			return s.View().Index - before
		}
		first, later := flutter(40), flutter(300)
		if s.serving() != spm || s.switched().offs != 0 {
			t.Fatalf("serving %s, offs %d", s.serving(), s.switched().offs)
		}
		// The first edges are all recorded. Later there is a change of words or witnesses once in tokenEvery, and few of the state.
		if bound := uint64(120*time.Second/tokenEvery) + 12; first > 24 || later > bound {
			t.Errorf("%d commands in the log in 16 s for a host within the grace time, %d in the 2 minutes after", first, later)
		}
	})
}

func TestManager_hungHostDelaysNobody(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		other := "a"
		if spm == "a" {
			other = "b"
		}
		s.mu.Lock()
		s.hosts[other].hung = true
		s.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		s.killAgent(spm)
		took := s.until(t, "failover", 10*time.Second, func() bool { return another(spm, other)(s) })
		if took > 2*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A host out of the role whose keeper still waits to release the lease is asked now and then, and the history is not filled with it.
func TestManager_staleOwner(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.mu.Lock()
		h := s.hosts[spm]
		h.stuck = true
		h.stop()
		before := h.stops
		s.mu.Unlock()
		time.Sleep(time.Minute)
		s.mu.Lock()
		if asked := h.stops - before; asked == 0 || asked > 120 {
			t.Errorf("asked %d times in a minute", asked)
		}
		h.stuck = false
		s.mu.Unlock()
		if n := countEvents(s, "spm.lease_stale") + countEvents(s, "spm.stopped"); n == 0 || n > 10 {
			t.Errorf("%d events", n)
		}
		s.until(t, "an SPM again", 5*time.Second, func() bool { return another()(s) })
	})
}

func TestManager_masterInvalidHandsOver(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.mu.Lock()
		s.hosts[spm].master = false
		s.mu.Unlock()
		s.until(t, "hand over", 2*time.Second, func() bool { return another(spm)(s) })
	})
}

// Random faults under virtual time: whatever happens, no breach, and the role comes back.
func TestManager_randomFaults(t *testing.T) {
	for seed := range uint64(6) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 2))
				s := newSim(t, "a", "b", "c", "d", "e")
				_, stop := s.lead(t, "e")
				for range 60 {
					s.fault(r)
					time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
				}
				s.heal()
				s.until(t, "the role comes back", 40*time.Second, func() bool { return s.serving() != "" })
				stop()
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, b := range s.breaches {
					if !strings.HasPrefix(b, "asked ") && !strings.HasPrefix(b, "switched off") {
						t.Errorf("seed %d: %s", seed, b)
					}
				}
			})
		})
	}
}

// fault does something to a host that does not lead.
func (s *sim) fault(r *rand.Rand) {
	name := string(rune('a' + r.IntN(4)))
	switch r.IntN(7) {
	case 0:
		s.kill(name)
	case 1:
		s.killAgent(name)
	case 2:
		s.boot(name)
	case 3, 4:
		s.mu.Lock()
		s.hosts[name].cut = !s.hosts[name].cut
		s.mu.Unlock()
	case 5:
		s.mu.Lock()
		s.hosts[name].failStart = !s.hosts[name].failStart
		s.mu.Unlock()
	case 6:
		s.mu.Lock()
		s.switchUp = !s.switchUp
		s.mu.Unlock()
	}
}

// heal ends all faults.
func (s *sim) heal() {
	for name := range s.hosts {
		s.mu.Lock()
		h := s.hosts[name]
		h.cut, h.hung, h.failStart, h.master = false, false, false, true
		s.switchUp, s.quorum = true, true
		s.mu.Unlock()
		s.boot(name)
	}
}

// A host that did not answer a ping is only busy, for all one knows: a move to it waits instead of being refused.
func TestOperator_Move_toHostThatIsConnecting(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		to := map[string]string{"a": "b", "b": "a", "c": "a"}[spm]
		s.set(to, func(h *simHost) { h.cut = true })
		s.until(t, "connecting", 2*time.Second, func() bool { h, _ := s.View().Hosts.Get(to); return h.State == fsm.HostConnecting })
		time.AfterFunc(100*time.Millisecond, func() { s.set(to, func(h *simHost) { h.cut = false }) })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if got, err := (Operator{Cluster: s, Now: time.Now}).Move(ctx, to); err != nil || got.Host != to {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
