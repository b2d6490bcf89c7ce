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

// A power device that says off, twice, about a host that answers: it is wired to another machine. Nothing is proven.
func TestFence_offWhileItAnswers(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		victim := map[bool]string{true: "b", false: "a"}[spm == "a"]
		s.alter(func() { s.offLies, s.statusLies = true, true })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		op, err := m.Order(ctx, PowerOrder{Host: victim, Action: fsm.FenceOff, Reason: "test", By: "ann", Force: true})
		if err != nil || op.Outcome != fsm.FenceFailed || s.proven(victim) {
			t.Fatalf("%s (%s), proven %v, %v", op.Outcome, rungs(op), s.proven(victim), err)
		}
		told := false
		for _, st := range op.Steps {
			told = told || st.Rung == RungPower && strings.Contains(st.Evidence, "answers: they may be wired to another machine")
		}
		if !told {
			t.Errorf("nothing tells why: %+v", op.Steps)
		}
		s.alter(func() { // the order to a host that answers was a person's
			s.breaches = nil
		})
	})
}

// One that swears about a host that cannot answer: nobody can know, until the host answers as the generation whose end was proven. Then
// the proof is void, once, and people are told.
func TestFence_disproved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c", "d", "e")
		s.hosts["e"].master = false
		m, stop := s.lead(t, "e")
		defer stop()
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		victim := map[bool]string{true: "b", false: "a"}[s.serving() == "a"]
		s.alter(func() { s.hosts[victim].hung, s.hosts[victim].deaf, s.offLies, s.statusLies = true, true, true, true })
		s.until(t, "the false proof", 60*time.Second, func() bool { return s.proven(victim) })
		if hasEvent(s, kindVoid) {
			t.Fatal("told before anybody could know")
		}
		s.alter(func() { s.hosts[victim].hung = false })
		s.until(t, "the alarm", 2*time.Second, func() bool { return countEvents(s, kindVoid) > 0 })
		time.Sleep(2 * time.Second)
		said := 0
		for _, e := range s.View().Events() {
			if e.Kind == kindVoid && e.Severity == fsm.Error && e.Host == victim && strings.Contains(e.Message, "that proof was wrong") {
				said++
			}
		}
		if said != 1 {
			t.Errorf("told %d times", said)
		}
		_ = m
	})
}

// What does not contradict a proof: another life, a keeper that has ended, a host that does not know its generation.
func TestDisproves(t *testing.T) {
	t.Parallel()
	p := fsm.Proof{Kind: fsm.ProofPowerOff, Generation: 4}
	for name, tc := range map[string]struct {
		rep  PingReply
		want bool
	}{
		"the same life":           {PingReply{Generation: 4, KeeperOK: true}, true},
		"the next life":           {PingReply{Generation: 5, KeeperOK: true}, false},
		"its keeper has ended":    {PingReply{Generation: 4}, false},
		"it has not joined yet":   {PingReply{KeeperOK: true}, false},
		"an answer without sense": {PingReply{}, false},
	} {
		if got := disproves(p, &tc.rep); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A person's order without force on a host that has just fallen silent: whether it lives is not known yet, and then it is.
func TestOrder_silentForAMoment(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		s.alter(func() { s.hosts[spm].hung, s.hosts[spm].deaf = true, true })
		order := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := m.Order(ctx, PowerOrder{Host: spm, Action: ActionFence, Reason: "test", By: "ann"})
			return err
		}
		time.Sleep(time.Second)
		if err := order(); !errors.Is(err, ErrHostUntold) || s.switched().offs != 0 {
			t.Fatalf("%v, switched off %d times", err, s.switched().offs)
		}
		time.Sleep(5 * time.Second)
		if err := order(); !errors.Is(err, ErrHostRenews) || s.switched().offs != 0 {
			t.Fatalf("%v, switched off %d times", err, s.switched().offs)
		}
	})
}

// Hosts that were not asked yet are neither silent nor do they answer.
func TestInputs_mostLost_unasked(t *testing.T) {
	t.Parallel()
	silent, unasked, well := Host{Name: "a"}, Host{Name: "b", Unasked: true}, Host{Name: "c", Reachable: true}
	off := Host{Name: "d", Unasked: true, Maintenance: true}
	for name, tc := range map[string]struct {
		hosts           []Host
		lost, undecided bool
	}{
		"a new leader, the fenced host was asked first": {[]Host{silent, unasked, unasked}, false, true},
		"most are silent however the others turn out":   {[]Host{silent, silent, silent, unasked, well}, true, true},
		"they may be most":                   {[]Host{silent, silent, unasked, unasked, well}, false, true},
		"all were asked":                     {[]Host{silent, well, well}, false, false},
		"half of those that were asked":      {[]Host{silent, well}, true, false},
		"one in maintenance does not matter": {[]Host{silent, well, well, off}, false, false},
	} {
		in := Inputs{Hosts: tc.hosts, Policy: DefaultPolicy("dev")}
		if in.mostLost() != tc.lost || in.unasked() != tc.undecided {
			t.Errorf("%s: most lost %v, unasked %v", name, in.mostLost(), in.unasked())
		}
	}
}

// The silence that a former leader committed counts, by whatever clock; one that lies ahead, or an answer, does not.
func TestCommittedSilence(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	rpc := func(state string, since time.Time) fsm.Host {
		return fsm.Host{Witnesses: []fsm.Witness{{Kind: fsm.WitnessGossip, State: WitnessFailed, Since: 1}, {Kind: fsm.WitnessRPC, State: state, Since: since.UnixNano()}}}
	}
	for name, tc := range map[string]struct {
		host fsm.Host
		want time.Duration
	}{
		"silent":                       {rpc(WitnessSilent, now.Add(-time.Minute)), time.Minute},
		"silent, by a clock ahead":     {rpc(WitnessSilent, now.Add(time.Minute)), 0},
		"it answers":                   {rpc(WitnessAnswers, now.Add(-time.Minute)), 0},
		"nobody has said anything yet": {fsm.Host{}, 0},
	} {
		if got := committedSilence(tc.host, now); got != tc.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
