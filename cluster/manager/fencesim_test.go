package manager

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// fencingPool runs fn with a pool of five under virtual time, e leading and never SPM.
func fencingPool(t *testing.T, fn func(t *testing.T, s *sim, m *Manager, spm string), change ...func(*Config)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c", "d", "e")
		s.hosts["e"].master = false
		m, stop := s.lead(t, "e", change...)
		defer s.check(t)
		defer stop()
		s.until(t, "first election", 2*time.Second, func() bool { return s.serving() != "" })
		fn(t, s, m, s.serving())
	})
}

func (s *sim) alter(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// lastOp is the last operation on a host that was to make it unable to write.
func (s *sim) lastOp(host string) fsm.FenceOp {
	off, _ := lastFences(s.View())
	return off[host]
}

func rungs(op fsm.FenceOp) string {
	var out []string
	for _, st := range op.Steps {
		out = append(out, st.Rung+" "+st.Result)
	}
	return strings.Join(out, ", ")
}

func (s *sim) proven(host string) bool {
	h, _ := s.View().Hosts.Get(host)
	_, ok := s.View().ProofFor(h)
	return ok
}

// A killed host: the history tells every rung, the proof is in the entry that ends the operation, and the status came from another
// host than the off.
func TestFence_history(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.kill(spm)
		s.until(t, "failover", 5*time.Second, func() bool { return another(spm)(s) })
		op := s.lastOp(spm)
		if got := rungs(op); op.Outcome != fsm.FenceDone ||
			got != "rpc failed, storage skipped, soft skipped, kdump skipped, power_off intent, power_off ok" {
			t.Fatalf("%s: %s", op.Outcome, got)
		}
		last := op.Steps[len(op.Steps)-1]
		if op.ProofGeneration != 1 || !strings.Contains(last.Evidence, "through e; status through ") || strings.Contains(last.Evidence, "status through e") {
			t.Errorf("%+v", last)
		}
		s.until(t, "on again", 20*time.Second, func() bool { h, _ := s.View().Hosts.Get(spm); return s.switched().on == 1 && h.State == fsm.HostUp })
		if on := s.View().FencesOf(spm); len(on) != 2 || on[1].Action != fsm.FenceOn || on[1].Outcome != fsm.FenceDone {
			t.Errorf("%+v", on)
		}
	})
}

// One that dies at every step of an operation, before and after, is followed by one that ends it; nobody is taken for dead who lives,
// and the host is proven dead once.
func TestFence_leaderDiesAtEveryStep(t *testing.T) {
	t.Parallel()
	reached := map[string]bool{}
	for n := 0; ; n++ {
		what := dieAtPoint(t, n)
		if what == "" {
			break
		}
		reached[what] = true
	}
	for _, what := range []string{"before *fsm.FenceBegin", "after *fsm.FenceBegin", "before off", "after off", "before *fsm.FenceAdvance",
		"after *fsm.FenceAdvance", "before *fsm.FenceEnd", "after *fsm.FenceEnd"} {
		if !reached[what] {
			t.Errorf("no leader died %s; they died at %v", what, reached)
		}
	}
}

// dieAtPoint ends the leader's term at the nth point of the operation and returns which that was; empty: there are not so many.
func dieAtPoint(t *testing.T, n int) (died string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c", "d", "e")
		s.hosts["e"].master, s.hosts["d"].master = false, false
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first := s.leadUntil(t, ctx, "e")
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		spm, points := s.serving(), 0
		s.alter(func() {
			s.point = func(what string) {
				if points == n && died == "" {
					died = what
					cancel()
				}
				points++
			}
		})
		s.kill(spm)
		if n > 40 {
			t.Fatal("an operation of more than 40 points")
		}
		if died == "" {
			s.until(t, "the point, or failover", 20*time.Second, func() bool { s.mu.Lock(); d := died; s.mu.Unlock(); return d != "" || another(spm)(s) })
		}
		cancel()
		<-first
		s.alter(func() { s.point = nil })
		_, stop := s.lead(t, "d")
		defer stop()
		s.until(t, "failover after "+died, 20*time.Second, func() bool { return another(spm)(s) })
		s.until(t, "the end of the operation after "+died, 20*time.Second, func() bool { return len(s.View().OpenFences()) == 0 && s.proven(spm) })
		s.until(t, "on again after "+died, 30*time.Second, func() bool { return s.switched().on >= 1 })
		if n := countEvents(s, kindFreed); n != 1 {
			t.Errorf("%s: %d events of kind %s", died, n, kindFreed)
		}
		if died != "" && s.switched().offs > 2 {
			t.Errorf("%s: switched off %d times", died, s.switched().offs)
		}
		s.check(t)
	})
	return died
}

// leadUntil runs a term until ctx ends; the channel is closed when it is over.
func (s *sim) leadUntil(t *testing.T, ctx context.Context, host string) <-chan struct{} {
	t.Helper()
	done := make(chan struct{})
	started := make(chan struct{})
	go func() {
		defer close(done)
		_, stop := s.lead(t, host)
		close(started)
		<-ctx.Done()
		stop()
	}()
	<-started
	return done
}

// A leader of an older term that is still at it cannot act once the new one has gone on.
func TestFence_twoLeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c", "d", "e")
		s.hosts["e"].master, s.hosts["d"].master = false, false
		_, stopOld := s.lead(t, "d")
		defer stopOld()
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		spm := s.serving()
		s.alter(func() { s.offHangs = true })
		s.kill(spm)
		s.until(t, "the old leader's order", 5*time.Second, func() bool { return len(s.lastOp(spm).Steps) >= 5 })
		_, stopNew := s.lead(t, "e")
		defer stopNew()
		s.until(t, "the takeover", 5*time.Second, func() bool { return s.lastOp(spm).Term == 2 })
		s.alter(func() { s.offHangs = false })
		s.until(t, "failover", 20*time.Second, func() bool { return another(spm)(s) })
		op := s.lastOp(spm)
		taken := false
		for _, st := range op.Steps {
			if taken = taken || st.Rung == RungTakeover; taken && st.Term != 2 {
				t.Errorf("a step of the old leader after the takeover: %+v", st)
			}
		}
		if !taken || op.Outcome != fsm.FenceDone {
			t.Errorf("%s: %s", op.Outcome, rungs(op))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, b := range s.breaches {
			if !strings.HasPrefix(b, "asked ") { // refused by the lease
				t.Error(b)
			}
		}
	})
}

// The quorum is lost in the middle: the order that is out is not followed by another one, and nothing is proven, until it is back.
func TestFence_lostQuorumInTheMiddle(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.alter(func() {
			s.point = func(what string) {
				if what == "before off" {
					s.quorum = false
				}
			}
		})
		s.kill(spm)
		s.until(t, "the order", 5*time.Second, func() bool { return s.switched().offs == 1 })
		time.Sleep(20 * time.Second)
		if s.proven(spm) || s.switched().offs != 1 || s.switched().frees != 0 {
			t.Fatalf("without a quorum: proven %v, %+v", s.proven(spm), s.switched())
		}
		s.alter(func() { s.quorum, s.point = true, nil })
		s.until(t, "failover", 10*time.Second, func() bool { return another(spm)(s) && s.proven(spm) })
	})
}

// A switch that says yes and does nothing is no proof, and the lease that is dead is.
func TestFence_switchLies(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.alter(func() {
			h := s.hosts[spm]
			h.cut, h.deaf, s.offLies = true, true, true
		})
		s.until(t, "an order", 40*time.Second, func() bool { return s.switched().offs >= 1 })
		time.Sleep(20 * time.Second)
		op := s.lastOp(spm)
		if s.proven(spm) || op.Outcome == fsm.FenceDone {
			t.Fatalf("%s: %s", op.Outcome, rungs(op))
		}
		if !strings.Contains(fmt.Sprint(s.View().FencesOf(spm)[0].Steps), "it is on") {
			t.Errorf("no evidence of the lie: %s", rungs(op))
		}
		if s.serving() != spm {
			t.Error("the role was taken from a host that lives")
		}
	})
}

// A power device that dies with its host, and one that hangs: the lease that is DEAD ends it all the same, and the role moves no later
// than without any device.
func TestFence_deviceDeadWithItsHost(t *testing.T) {
	for name, broken := range map[string]func(s *sim){
		"dead":    func(s *sim) { s.switchUp = false },
		"hanging": func(s *sim) { s.offHangs = true },
	} {
		t.Run(name, func(t *testing.T) {
			fencingPool(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
				s.alter(func() { broken(s); s.noOn = true }) // it stays as it was proven
				s.kill(spm)
				took := s.until(t, "failover", 20*time.Second, func() bool { return another(spm)(s) })
				if took < 9*time.Second || took > 14*time.Second {
					t.Errorf("took %s", took)
				}
				s.until(t, "a proof", 20*time.Second, func() bool { return s.proven(spm) })
				if name == "dead" {
					first := s.View().FencesOf(spm)[0]
					if tried := (&Scene{Op: first}).triedThrough(agentLabel); len(tried) != 2 || tried[0] == tried[1] || tried[0] == spm || tried[1] == spm {
						t.Errorf("tried through %v", tried)
					}
				}
				h, _ := s.View().Hosts.Get(spm)
				p, _ := s.View().ProofFor(h)
				if p.Kind != fsm.ProofDead || s.lastOp(spm).Outcome != fsm.FenceDone {
					t.Errorf("%+v after %s", p, rungs(s.lastOp(spm)))
				}
			})
		})
	}
}

// A host that answers again before the order goes out is left alone, with the evidence.
func TestFence_answersAgain(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		s.alter(func() { s.hosts[spm].cut, s.hosts[spm].deaf, s.switchUp = true, true, false })
		s.until(t, "an operation", 40*time.Second, func() bool { return len(s.View().OpenFences()) == 1 })
		s.alter(func() { s.hosts[spm].cut = false })
		s.until(t, "its end", 5*time.Second, func() bool { return s.lastOp(spm).Outcome != "" })
		if op := s.lastOp(spm); op.Outcome != fsm.FenceAbandoned || !strings.Contains(op.Detail, "answers again") || s.switched().offs != 0 {
			t.Errorf("%s: %s; %d offs", op.Outcome, rungs(op), s.switched().offs)
		}
	})
}

// The simulation's judge, planted with a switch that lies about its status too: what no leader can know must not pass it unseen.
func TestFence_planted_falseProof(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c", "d", "e")
		s.hosts["e"].master = false
		_, stop := s.lead(t, "e")
		defer stop()
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		spm := s.serving()
		s.alter(func() { s.hosts[spm].hung, s.hosts[spm].deaf, s.offLies, s.statusLies = true, true, true, true })
		s.until(t, "the false proof", 60*time.Second, func() bool { return s.proven(spm) })
		s.mu.Lock()
		defer s.mu.Unlock()
		if !strings.Contains(strings.Join(s.breaches, "; "), "proved the death of a running host "+spm) {
			t.Errorf("the judge saw %q", s.breaches)
		}
	})
}

// fakeKdump hears a crash kernel for a while, or nothing.
// The rungs below the power devices, when they are configured: each is tried once, is committed before, and is bounded.
// A person's word ends an operation that waits for the lease to die: the last rung.
// What is set is checked, and taken back by nothing but itself.
// A new leader counts silence by itself: what was before its term says nothing, unless the power switch says off.
// With the profile fast and a power device that takes its time, the role is elsewhere two seconds after the power is off.
// A host in maintenance is switched off for work without force, although it answers, stays off, and comes back to maintenance.
