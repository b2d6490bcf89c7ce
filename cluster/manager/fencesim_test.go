package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
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
				s.alter(func() { broken(s) })
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

// A minority fences nobody; when the others are back it is the turn of those who are not.
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

// Disarmed, nobody is fenced; when the time is over, by itself.
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

// What a person may do with a host's power, and what has to be forced.
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

// The quiet time is committed: another leader counts on.
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

// The rungs below the power devices, when they are configured: each is tried once, is committed before, and is bounded.
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

// A person's word ends an operation that waits for the lease to die: the last rung.
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

// What is set is checked, and taken back by nothing but itself.
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

// A new leader counts silence by itself: what was before its term says nothing, unless the power switch says off.
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

// With the profile fast and a power device that takes its time, the role is elsewhere two seconds after the power is off.
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
