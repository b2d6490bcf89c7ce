package manager

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// ladderNow is the time in the table's scenes.
var ladderNow = time.Unix(1_000_000, 0)

// scene is an operation of term 5 on a host that is silent and has two groups of devices.
func scene(change ...func(*Scene)) Scene {
	s := Scene{
		Op:      fsm.FenceOp{ID: "f1", Host: "a", HostID: 1, Generation: 4, Action: fsm.FenceRestart, Term: 5, Began: ladderNow.UnixNano(), Leader: "c"},
		Term:    5,
		Now:     ladderNow,
		Policy:  DefaultPolicy("fast"),
		Host:    Host{Name: "a", HostID: 1, LostFor: time.Hour, Fenceable: true},
		Storage: Storage{Status: Live, Witnesses: 2, Generation: 4},
		Groups:  []Group{{Order: 1, Label: "bmc", Proxies: []string{"b", "d", "c"}}, {Order: 2, Label: "pdu1,pdu2", Proxies: []string{"b", "c"}}},
	}
	for _, fn := range change {
		fn(&s)
	}
	return s
}

// after adds committed steps, of the operation's term, a second before now.
func after(steps ...fsm.FenceStep) func(*Scene) {
	return func(s *Scene) {
		for _, st := range steps {
			if st.Term == 0 {
				st.Term = s.Op.Term
			}
			if st.Time == 0 {
				st.Time = ladderNow.Add(-time.Second).UnixNano()
			}
			s.Op.Steps = append(s.Op.Steps, st)
		}
	}
}

func on(rung, result string) fsm.FenceStep { return fsm.FenceStep{Rung: rung, Result: result} }

func through(rung, device, proxy, result string) fsm.FenceStep {
	return fsm.FenceStep{Rung: rung, Device: device, Proxy: proxy, Result: result}
}

// below are the rungs below the power devices.
var below = after(on(RungRPC, fsm.StepFailed), on(RungStorage, fsm.StepSkipped), on(RungSoft, fsm.StepSkipped), on(RungKdump, fsm.StepSkipped))

// powerless are all tries of both groups, in vain.
var powerless = after(through(RungPower, "bmc", "b", fsm.StepUnknown), through(RungPower, "bmc", "d", fsm.StepFailed),
	through(RungPower, "pdu1,pdu2", "b", fsm.StepFailed), through(RungPower, "pdu1,pdu2", "c", fsm.StepFailed))

func stepped(rung string) func(*Scene) { return after(on(rung, fsm.StepSkipped)) }

func mine(s *Scene) { s.Mine = true }

func stored(l Liveness) func(*Scene) { return func(s *Scene) { s.Storage.Status = l } }

func byPerson(force bool) func(*Scene) {
	return func(s *Scene) {
		s.Op.ByPerson = true
		if force {
			s.Op.Steps = append([]fsm.FenceStep{{Rung: RungPerson, Result: fsm.StepOK, Term: 5}}, s.Op.Steps...)
		}
	}
}

func answers(s *Scene) { s.Host.Reachable, s.Host.LostFor = true, 0 }

func noGroups(s *Scene) { s.Groups = nil }

func waiting(ago time.Duration) func(*Scene) {
	return after(fsm.FenceStep{Rung: RungLease, Result: fsm.StepIntent, Time: ladderNow.Add(-ago).UnixNano()})
}

// ladderTest is one scene and what follows from it.
type ladderTest struct {
	name string
	s    Scene
	want string // do, rung, result, device, proxy, outcome: those that are not empty
}

// tellMove writes a move down for the table.
func tellMove(m Move) string {
	switch m.Do {
	case DoEnd:
		return fmt.Sprintf("end %s", m.Outcome)
	case DoWait, DoProve:
		return string(m.Do)
	case DoIntend, DoOrder:
		if m.Step.Device == "" {
			return fmt.Sprintf("%s %s", m.Do, m.Step.Rung)
		}
		return fmt.Sprintf("%s %s %s through %s", m.Do, m.Step.Rung, m.Step.Device, m.Step.Proxy)
	}
	return fmt.Sprintf("%s %s %s", m.Do, m.Step.Rung, m.Step.Result)
}

func lowRungs() []ladderTest {
	soft := func(s *Scene) { s.Soft = true }
	kdump := func(s *Scene) { s.Kdump = true }
	holder := func(s *Scene) { s.HoldsLease = true }
	return []ladderTest{
		{"rpc", scene(), "note rpc failed"},
		{"rpc, a person forces", scene(byPerson(true)), "note rpc skipped"},
		{"storage, not the holder", scene(stepped(RungRPC)), "note storage skipped"},
		{"storage, asked in vain", scene(stepped(RungRPC), holder, func(s *Scene) { s.Asked = true }), "note storage failed"},
		{"storage, a person forces", scene(byPerson(true), stepped(RungRPC), holder), "note storage skipped"},
		{"storage, the switch says off", scene(stepped(RungRPC), holder, func(s *Scene) { s.Host.Power = PowerOff }), "note storage skipped"},
		{"storage, nobody would hear", scene(stepped(RungRPC), holder, stored(Fail)), "note storage skipped"},
		{"soft, none", scene(stepped(RungRPC), stepped(RungStorage)), "note soft skipped"},
		{"soft", scene(stepped(RungRPC), stepped(RungStorage), soft), "intend soft"},
		{"soft, its intent is committed", scene(stepped(RungRPC), stepped(RungStorage), soft, after(on(RungSoft, fsm.StepIntent)), mine), "order soft"},
		{"soft, off already", scene(stepped(RungRPC), stepped(RungStorage), soft, func(s *Scene) { s.Host.Power = PowerOff }), "note soft skipped"},
		{"soft, done a moment ago", scene(stepped(RungRPC), stepped(RungStorage), soft, after(on(RungSoft, fsm.StepOK))), "wait"},
		{"soft, done long ago", scene(stepped(RungRPC), stepped(RungStorage), soft, after(on(RungSoft, fsm.StepOK)), func(s *Scene) { s.Now = s.Now.Add(time.Hour) }), "note kdump skipped"},
		{"soft, failed", scene(stepped(RungRPC), stepped(RungStorage), soft, after(on(RungSoft, fsm.StepFailed))), "note kdump skipped"},
		{"kdump", scene(stepped(RungRPC), stepped(RungStorage), stepped(RungSoft), kdump), "intend kdump"},
		{"kdump, its intent is committed", scene(stepped(RungRPC), stepped(RungStorage), stepped(RungSoft), kdump, after(on(RungKdump, fsm.StepIntent)), mine), "order kdump"},
		{"kdump, a person forces", scene(byPerson(true), stepped(RungRPC), stepped(RungStorage), stepped(RungSoft), kdump), "note kdump skipped"},
		{"kdump, a message is no proof", scene(stepped(RungRPC), stepped(RungStorage), stepped(RungSoft), kdump, after(on(RungKdump, fsm.StepOK))), "intend power_off bmc through b"},
	}
}

func powerRungs() []ladderTest {
	old := func(st fsm.FenceStep) fsm.FenceStep { st.Term = 4; return st }
	once := after(through(RungPower, "bmc", "b", fsm.StepUnknown), through(RungPower, "pdu1,pdu2", "b", fsm.StepFailed))
	return []ladderTest{
		{"power", scene(below), "intend power_off bmc through b"},
		{"power, its intent is committed", scene(below, after(through(RungPower, "bmc", "b", fsm.StepIntent)), mine), "order power_off bmc through b"},
		{"power, an intent of somebody who is gone", scene(below, after(through(RungPower, "bmc", "b", fsm.StepIntent))), "note power_off unknown"},
		{"power, the next group", scene(below, after(through(RungPower, "bmc", "b", fsm.StepUnknown))), "intend power_off pdu1,pdu2 through b"},
		{"power, once more, another proxy", scene(below, once), "intend power_off bmc through d"},
		{"power, once more, no other proxy", scene(below, once, func(s *Scene) { s.Groups[0].Proxies = []string{"b"} }), "intend power_off bmc through b"},
		{"power, once more, the next group", scene(below, once, after(through(RungPower, "bmc", "d", fsm.StepFailed))), "intend power_off pdu1,pdu2 through c"},
		{"power, tries of another term do not count", scene(below, after(old(through(RungPower, "bmc", "b", fsm.StepUnknown)), old(through(RungPower, "bmc", "d", fsm.StepFailed)))), "intend power_off bmc through b"},
		{"power, no proxy", scene(below, func(s *Scene) { s.Groups[0].Proxies = nil }), "note power_off skipped"},
		{"power, no proxy, said so", scene(below, after(through(RungPower, "bmc", "", fsm.StepSkipped)), func(s *Scene) { s.Groups[0].Proxies = nil }), "intend power_off pdu1,pdu2 through b"},
		{"power, no device", scene(below, noGroups), "note power_off skipped"},
		{"power, too many steps", scene(below, after(slices.Repeat([]fsm.FenceStep{old(through(RungPower, "bmc", "b", fsm.StepUnknown))}, 60)...)), "end failed"},
		{"lease", scene(below, powerless), "note lease_dead intent"},
		{"lease, no device", scene(below, noGroups, stepped(RungPower)), "note lease_dead intent"},
		{"lease, awaited", scene(below, powerless, waiting(time.Second)), "wait"},
		{"lease, awaited by a leader who is gone", scene(below, powerless, waiting(time.Second), func(s *Scene) { s.Op.Steps[len(s.Op.Steps)-1].Term = 4 }), "wait"},
		{"lease, too long", scene(below, powerless, waiting(time.Hour)), "note lease_dead failed"},
		{"lease, it renews", scene(below, powerless, func(s *Scene) { s.Storage.Renewing, s.Policy.SkipIfLive = true, false }), "note lease_dead skipped"},
		{"lease, unprotected", scene(below, powerless, func(s *Scene) { s.Host.Unprotected = true }), "note lease_dead skipped"},
		{"lease, dead", scene(below, powerless, waiting(time.Second), stored(Dead)), "prove"},
		{"lease, dead, unprotected", scene(below, powerless, stored(Dead), func(s *Scene) { s.Host.Unprotected = true }), "note lease_dead skipped"},
		{"lease, dead, unprotected, the pool allows it", scene(below, stored(Dead), func(s *Scene) { s.Host.Unprotected, s.Policy.UnprotectedTakeover = true, true }), "prove"},
		{"lease, dead, of another generation", scene(below, stored(Dead), func(s *Scene) { s.Storage.Generation = 3 }), "intend power_off bmc through b"},
		{"lease, dead, unread in another lockspace a moment ago", scene(below, stored(Dead), after(on(RungLease, fsm.StepUnknown))), "intend power_off bmc through b"},
		{"the first proof wins", scene(stored(Dead)), "prove"},
		{"person", scene(below, powerless, after(on(RungLease, fsm.StepFailed))), "end failed"},
	}
}

func ends() []ladderTest {
	intent := after(through(RungPower, "bmc", "b", fsm.StepIntent))
	return []ladderTest{
		{"takeover", scene(func(s *Scene) { s.Term = 6 }), "takeover takeover ok"},
		{"takeover before anything else", scene(answers, below, intent, func(s *Scene) { s.Term = 6 }), "takeover takeover ok"},
		{"it answers", scene(answers, below), "end abandoned"},
		{"it answers, before the order went out", scene(answers, below, intent, mine), "note power_off skipped"},
		{"it answers, a person forces", scene(byPerson(true), answers, below), "intend power_off bmc through b"},
		{"it answers, a person does not", scene(byPerson(false), answers, below), "end abandoned"},
		{"it is back", scene(below, func(s *Scene) { s.Storage.Generation = 5 }), "end abandoned"},
		{"it left by itself", scene(below, stored(Free)), "end abandoned"},
		{"it left by itself, and is off", scene(below, stored(Free), func(s *Scene) { s.Host.Power = PowerOff }), "intend power_off bmc through b"},
		{"it left by itself, a person wants it off", scene(byPerson(false), below, stored(Free)), "intend power_off bmc through b"},
		{"disarmed", scene(below, func(s *Scene) { s.Policy.DisarmedUntil = s.Now.Add(time.Second) }), "end skipped"},
		{"disarmed, a person wants it", scene(byPerson(false), below, func(s *Scene) { s.Policy.DisarmedUntil = s.Now.Add(time.Second) }), "intend power_off bmc through b"},
		{"armed again", scene(below, func(s *Scene) { s.Policy.DisarmedUntil = s.Now.Add(-time.Second) }), "intend power_off bmc through b"},
		{"switched off", scene(below, func(s *Scene) { s.Policy.Fencing = false }), "end skipped"},
		{"most silent", scene(below, func(s *Scene) { s.MostLost = true }), "end skipped"},
		{"it renews", scene(below, func(s *Scene) { s.Storage.Renewing, s.Host.LostFor = true, time.Minute }), "end skipped"},
		{"it renews, for too long", scene(below, func(s *Scene) { s.Storage.Renewing = true }), "intend power_off bmc through b"},
		{"on", scene(func(s *Scene) { s.Op.Action = fsm.FenceOn }), "intend power_on bmc through b"},
		{"on, its intent is committed", scene(func(s *Scene) { s.Op.Action = fsm.FenceOn }, after(through(RungOn, "bmc", "b", fsm.StepIntent)), mine), "order power_on bmc through b"},
		{"on, another proxy", scene(func(s *Scene) { s.Op.Action = fsm.FenceOn }, after(through(RungOn, "bmc", "b", fsm.StepFailed))), "intend power_on bmc through d"},
		{"on, it answers", scene(answers, func(s *Scene) { s.Op.Action = fsm.FenceOn }), "end done"},
		{"a leader has not been silent to for long", scene(below, func(s *Scene) { s.Host.LostFor = time.Second }), "wait"},
		{"a new leader, and the switch says off", scene(below, func(s *Scene) { s.Host.LostFor, s.Host.Power = time.Second, PowerOff }), "intend power_off bmc through b"},
		{"a new leader, and a person wants it", scene(byPerson(false), below, func(s *Scene) { s.Host.LostFor = time.Second }), "intend power_off bmc through b"},
		{"a new leader, and the lease is DEAD", scene(below, stored(Dead), func(s *Scene) { s.Host.LostFor = time.Second }), "prove"},
		{"a new leader that has not asked everybody", scene(below, func(s *Scene) { s.Unasked = true }), "wait"},
		{"a new leader that has not asked everybody, and the switch says off", scene(below, func(s *Scene) { s.Unasked, s.Host.Power = true, PowerOff }), "wait"},
		{"an intent that has become too soon", scene(below, intent, mine, func(s *Scene) { s.Host.LostFor = time.Second }), "note power_off skipped"},
		{"it renews, for too long under another leader", scene(below, func(s *Scene) {
			s.Storage.Renewing, s.Host.LostFor, s.Host.SilentFor = true, time.Minute, time.Hour
		}), "intend power_off bmc through b"},
		{"on, wanted in maintenance", scene(wantedOff), "end abandoned"},
		{"on, wanted in maintenance, its intent is committed", scene(wantedOff, after(through(RungOn, "bmc", "b", fsm.StepIntent)), mine), "note power_on skipped"},
		{"on, wanted in maintenance, a person", scene(wantedOff, func(s *Scene) { s.Op.ByPerson = true }), "intend power_on bmc through b"},
		{"on, in maintenance, by the policy that has it there", scene(wantedOff, func(s *Scene) { s.Op.By = fsm.WishByPolicy }), "intend power_on bmc through b"},
		{"on, nothing helps", scene(noGroups, func(s *Scene) { s.Op.Action = fsm.FenceOn }), "end failed"},
	}
}

func wantedOff(s *Scene) { s.Op.Action, s.Op.By, s.Host.Leaving = fsm.FenceOn, byManager, true }

// handOvers are scenes of a person's forced order on a host that answers and is SPM.
func handOvers() []ladderTest {
	spm := func(s *Scene) { answers(s); byPerson(true)(s); s.HasRole = true }
	begun := func(ago time.Duration) func(*Scene) {
		return after(fsm.FenceStep{Rung: RungHandOver, Result: fsm.StepIntent, Time: ladderNow.Add(-ago).UnixNano()})
	}
	taken := func(ago time.Duration) func(*Scene) {
		return func(s *Scene) {
			s.Op.Steps[len(s.Op.Steps)-1].Term = 4
			after(fsm.FenceStep{Rung: RungTakeover, Result: fsm.StepOK, Time: ladderNow.Add(-ago).UnixNano()})(s)
		}
	}
	ahead := begun(-time.Hour)
	return []ladderTest{
		{"hand over", scene(spm), "note hand_over intent"},
		{"hand over, nobody can take it", scene(spm, func(s *Scene) { s.NoHeir = "b: does not answer" }), "note hand_over skipped"},
		{"hand over, a person does not force", scene(func(s *Scene) { byPerson(false)(s); s.HasRole = true }), "note rpc failed"},
		{"hand over, it does not answer", scene(spm, func(s *Scene) { s.Host.Reachable = false }), "note rpc skipped"},
		{"hand over, awaited", scene(spm, begun(time.Second)), "wait"},
		{"hand over, awaited by another leader", scene(spm, begun(time.Second), taken(time.Second)), "wait"},
		{"hand over, done", scene(spm, begun(time.Second), func(s *Scene) { s.HasRole = false }), "note hand_over ok"},
		{"hand over, it answers no more", scene(spm, begun(time.Second), func(s *Scene) { s.Host.Reachable = false }), "note hand_over failed"},
		{"hand over, too long", scene(spm, begun(time.Hour)), "note hand_over failed"},
		{"hand over, too long, begun by a clock that was ahead", scene(spm, ahead, taken(time.Hour)), "note hand_over failed"},
		{"hand over, over", scene(spm, begun(time.Second), after(on(RungHandOver, fsm.StepFailed))), "note rpc skipped"},
		{"a dead lease awaited since the future", scene(below, powerless, waiting(-time.Hour), taken(time.Hour), powerless), "note lease_dead failed"},
	}
}

func TestNext_table(t *testing.T) {
	t.Parallel()
	for _, tc := range slices.Concat(lowRungs(), powerRungs(), ends(), handOvers()) {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := Next(tc.s)
			if got := tellMove(m); got != tc.want {
				t.Fatalf("got %q (%s), want %q", got, m.Why, tc.want)
			}
			if v := unsafeMove(tc.s, m); v != "" {
				t.Fatalf("%s: %+v", v, m)
			}
			if m.Do != DoIntend && m.Do != DoOrder && m.Why == "" {
				t.Fatalf("a move without a reason: %+v", m)
			}
		})
	}
}

// Every rung and every kind of move has a case in the table.
func TestNext_everyRungHasACase(t *testing.T) {
	t.Parallel()
	rungs, moves := map[string]bool{}, map[Do]bool{}
	for _, tc := range slices.Concat(lowRungs(), powerRungs(), ends(), handOvers()) {
		m := Next(tc.s)
		rungs[m.Step.Rung], moves[m.Do] = true, true
	}
	for _, r := range []string{RungRPC, RungStorage, RungSoft, RungKdump, RungPower, RungLease, RungOn, RungTakeover, RungHandOver} {
		if !rungs[r] {
			t.Errorf("no case leads to the rung %s", r)
		}
	}
	for _, d := range []Do{DoNote, DoIntend, DoOrder, DoProve, DoTakeover, DoEnd, DoWait} {
		if !moves[d] {
			t.Errorf("no case leads to the move %s", d)
		}
	}
}

// unsafeMove judges a move without knowing how it was found. Empty means that it is safe.
func unsafeMove(s Scene, m Move) string {
	orders := m.Do == DoOrder && m.Step.Rung == RungPower
	last, _ := lastStep(s.Op)
	switch {
	case s.Op.Term != s.Term && (m.Do == DoNote || m.Do == DoIntend || m.Do == DoOrder):
		return "goes on with an operation of another term"
	case orders && (last.Result != fsm.StepIntent || last.Term != s.Term || !s.Mine):
		return "orders without an intent of its own that is the last word"
	case orders && s.Host.Reachable && !forced(s.Op):
		return "orders the off of a host that answers"
	case orders && !s.Op.ByPerson && !forced(s.Op) && (s.MostLost || !s.Policy.Fencing || s.Policy.DisarmedUntil.After(s.Now)):
		return "orders against the policy"
	case orders && !s.Op.ByPerson && !forced(s.Op) && (s.Unasked || s.Host.Power != PowerOff && s.Host.LostFor < s.Policy.Grace):
		return "orders before it has asked everybody and given the host a grace time of its own"
	case m.Do == DoIntend && m.Step.Rung == RungPower && s.HasRole && s.Host.Reachable && s.NoHeir == "" && !s.has(RungHandOver):
		return "switches off a host that could have handed the SPM role over"
	case (orders || m.Do == DoOrder && m.Step.Rung == RungOn) && s.Op.By == byManager && !s.Op.ByPerson && s.Op.Action == fsm.FenceOn && (s.Host.Maintenance || s.Host.Leaving):
		return "switches on a host that is wanted in maintenance"
	case m.Do == DoIntend && m.Step.Proxy == s.Op.Host:
		return "lets a host switch itself"
	case m.Do == DoProve && (s.Storage.Status != Dead || s.Host.Unprotected && !s.Policy.UnprotectedTakeover || s.Storage.Generation != s.Op.Generation):
		return "takes a lease for a proof that is none"
	case m.Do == DoEnd && m.Outcome == fsm.FenceDone && s.Op.Action != fsm.FenceOn:
		return "ends well without a proof"
	case len(s.Op.Steps) >= fsm.MaxFenceSteps && (m.Do == DoNote || m.Do == DoIntend || m.Do == DoTakeover):
		return "adds a step that is refused"
	}
	return ""
}

// randomScene draws from everything that can be committed and seen, sense or not.
func randomScene(r *rand.Rand) Scene {
	flip := func(n int) bool { return r.IntN(n) == 0 }
	s := scene()
	s.Op.Action = []string{fsm.FenceOff, fsm.FenceRestart, fsm.FenceOn}[r.IntN(3)]
	s.Op.ByPerson, s.Mine, s.MostLost, s.Soft, s.Kdump = flip(3), flip(2), flip(6), flip(2), flip(2)
	s.Op.Term = uint64(4 + r.IntN(2))
	rungs := []string{RungRPC, RungStorage, RungSoft, RungKdump, RungPower, RungLease, RungPerson, RungTakeover, RungHandOver}
	if s.Op.Action == fsm.FenceOn {
		rungs = []string{RungOn, RungTakeover}
	}
	if s.Op.Action != fsm.FenceOn && flip(4) {
		s.Op.Steps = append(s.Op.Steps, on(RungPerson, fsm.StepOK))
	}
	results := []string{fsm.StepIntent, fsm.StepOK, fsm.StepFailed, fsm.StepUnknown, fsm.StepSkipped}
	for range r.IntN(12) {
		s.Op.Steps = append(s.Op.Steps, fsm.FenceStep{Rung: rungs[r.IntN(len(rungs))], Result: results[r.IntN(len(results))], Term: uint64(4 + r.IntN(2)),
			Device: s.Groups[r.IntN(2)].Label, Proxy: []string{"", "b", "c", "d"}[r.IntN(4)], Time: s.Now.Add(-time.Duration(r.IntN(200)) * time.Second).UnixNano()})
	}
	if n := len(s.Op.Steps); n > 0 && s.Op.Steps[n-1].Term > s.Op.Term {
		s.Op.Steps[n-1].Term = s.Op.Term // the log refuses newer ones
	}
	s.Storage = Storage{Status: []Liveness{Unseen, Unknown, Free, Live, Fail, Dead}[r.IntN(6)], Witnesses: 2, Generation: uint64(3 + r.IntN(3)), Renewing: flip(2)}
	s.Host.Reachable, s.Host.Unprotected = flip(3), flip(2)
	s.Host.LostFor = time.Duration(r.IntN(600)) * time.Second
	if flip(4) {
		s.Host.LostFor = time.Second
	}
	s.Unasked, s.HasRole, s.Host.Maintenance, s.Host.Leaving = flip(6), flip(3), flip(6), flip(6)
	s.Host.SilentFor = time.Duration(r.IntN(600)) * time.Second
	s.Op.By = []string{byManager, fsm.WishByPolicy, "ann"}[r.IntN(3)]
	if flip(3) {
		s.NoHeir = "nobody"
	}
	s.Host.Power = []Power{PowerUnknown, PowerOn, PowerOff}[r.IntN(3)]
	s.Policy.UnprotectedTakeover, s.Policy.Fencing, s.Policy.SkipIfLive = flip(2), !flip(6), flip(2)
	if flip(6) {
		s.Policy.DisarmedUntil = s.Now.Add(time.Minute)
	}
	if flip(6) {
		s.Groups[0].Proxies = nil
	}
	if flip(10) {
		s.Groups = nil
	}
	return s
}

func firstUnsafe(seed uint64, n int, next func(Scene) Move) string {
	r := rand.New(rand.NewPCG(seed, 3))
	for range n {
		s := randomScene(r)
		if v := unsafeMove(s, next(s)); v != "" {
			return v
		}
	}
	return ""
}

func TestNext_neverUnsafe(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		if v := firstUnsafe(seed, 20_000, Next); v != "" {
			t.Fatalf("seed %d: %s", seed, v)
		}
	}
}

// Each planted mistake must be caught, or the judge is worth nothing.
func TestNext_planted(t *testing.T) {
	t.Parallel()
	for name, bug := range map[string]func(Scene) Move{
		"does not heed the term":    func(s Scene) Move { s.Op.Term = s.Term; return Next(s) },
		"sends an old intent again": func(s Scene) Move { s.Mine = true; return Next(s) },
		"does not hear the host":    func(s Scene) Move { s.Host.Reachable = false; return Next(s) },
		"does not heed the policy":  func(s Scene) Move { s.Policy.Fencing, s.Policy.DisarmedUntil = true, time.Time{}; return Next(s) },
		"fences from a minority":    func(s Scene) Move { s.MostLost = false; return Next(s) },
		"takes FAIL for DEAD": func(s Scene) Move {
			if s.Storage.Status == Fail {
				s.Storage.Status = Dead
			}
			return Next(s)
		},
		"takes a clock for a watchdog":    func(s Scene) Move { s.Host.Unprotected = false; return Next(s) },
		"does not look at the generation": func(s Scene) Move { s.Storage.Generation = s.Op.Generation; return Next(s) },
		"takes a crash message for a proof": func(s Scene) Move {
			if s.has(RungKdump) {
				return Move{Do: DoEnd, Outcome: fsm.FenceDone}
			}
			return Next(s)
		},
		"lets the host switch itself": func(s Scene) Move {
			m := Next(s)
			if m.Do == DoIntend {
				m.Step.Proxy = s.Op.Host
			}
			return m
		},
		"orders at once, without the intent": func(s Scene) Move {
			m := Next(s)
			if m.Do == DoIntend {
				m.Do = DoOrder
			}
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if firstUnsafe(7, 50_000, bug) == "" {
				t.Fatal("the judge did not notice")
			}
		})
	}
}

// However an operation begins, it comes to an end within the steps that it may have, when nothing helps.
func TestNext_comesToAnEnd(t *testing.T) {
	t.Parallel()
	s := scene(func(s *Scene) { s.Soft, s.Kdump = true, true })
	for range 200 {
		m := Next(s)
		switch m.Do {
		case DoEnd:
			if m.Outcome != fsm.FenceFailed || len(s.Op.Steps) > fsm.MaxFenceSteps {
				t.Fatalf("%+v after %d steps", m, len(s.Op.Steps))
			}
			return
		case DoWait:
			s.Now = s.Now.Add(time.Minute)
			continue
		case DoOrder:
			m.Step.Result, s.Mine = fsm.StepUnknown, false
		case DoIntend:
			s.Mine = true
		}
		m.Step.Time, m.Step.Term = s.Now.UnixNano(), s.Op.Term
		s.Op.Steps = append(s.Op.Steps, m.Step)
	}
	t.Fatalf("no end: %+v", s.Op.Steps)
}
