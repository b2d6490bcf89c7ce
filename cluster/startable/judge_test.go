package startable

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// off is a proof that counts.
func off() *Proof {
	return &Proof{Kind: "power_off", Evidence: "status off by h3", By: "h1", Time: time.Unix(1, 0)}
}

// h2 is a well, protected member that holds the lease, as a test changes it.
func h2(change func(h *Holder)) Holder {
	h := Holder{Host: "h2", HostID: 2, Generation: 4, RecordGeneration: 4, State: Live, Silent: 1500 * time.Millisecond, DeadIn: 20 * time.Second,
		Member: true, Protected: true}
	change(&h)
	return h
}

func lost(h *Holder) { h.Lost, h.Condition = true, "non_responsive: no answer for 8s" }

// held is a lease that these hosts have.
func held(l ...Holder) Resource { return Resource{Holders: l} }

// had is a free lease whose record names a host that is gone.
func had(change func(h *Holder)) Resource {
	h := h2(func(h *Holder) { h.State, h.DeadIn, h.Silent = Free, 0, 0 })
	change(&h)
	return Resource{Former: &h}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	both := func(a, b func(h *Holder)) func(h *Holder) { return func(h *Holder) { a(h); b(h) } }
	bare := func(h *Holder) { h.Protected = false }
	state := func(s State) func(h *Holder) { return func(h *Holder) { h.State = s } }
	for _, c := range []struct {
		name   string
		in     Resource
		policy Policy
		want   Answer // of the words only a part
	}{
		{"never taken", Resource{}, Policy{}, Answer{Startable: true, Rule: RuleFree, Why: "nobody ever"}},
		{"given back", Resource{Last: "h2"}, Policy{}, Answer{Startable: true, Rule: RuleFree, Why: "h2 gave"}},
		{"damaged", Resource{Problem: "checksum"}, Policy{}, Answer{Rule: RuleDamaged, Why: "checksum", Awaits: "repair", NextStep: "lease rebuild"}},
		{"unreadable", Resource{Problem: "EIO", Unreadable: true}, Policy{}, Answer{Rule: RuleUnreadable, Why: "EIO", Awaits: "readable", NextStep: "--address"}},
		{"left", had(func(*Holder) {}), Policy{}, Answer{Startable: true, Rule: RuleLeft, Why: "left the lockspace", Host: "h2"}},
		{"freed on a proof", had(func(h *Holder) { h.Proof = off() }), Policy{},
			Answer{Startable: true, Rule: RuleProven, Why: "proof power_off, status off by h3, by h1", Host: "h2", Proof: off()}},
		{"left, and a void proof", had(func(h *Holder) { h.Proof = off(); h.Proof.Void = true }), Policy{},
			Answer{Startable: true, Rule: RuleLeft, Why: "left the lockspace", Host: "h2"}},
		{"came back", had(func(h *Holder) { h.State, h.RecordGeneration = Live, 5 }), Policy{},
			Answer{Startable: true, Rule: RuleCameBack, Why: "as generation 4 and has come back as 5", Host: "h2"}},
		{"came back and left", had(func(h *Holder) { h.RecordGeneration = 5 }), Policy{},
			Answer{Startable: true, Rule: RuleCameBack, Why: "come back as 5", Host: "h2"}},
		{"freed in an earlier generation, long ago", had(func(h *Holder) { h.RecordGeneration = 3 }), Policy{},
			Answer{Startable: true, Rule: RuleDead, Why: "stood still", Host: "h2"}},
		{"freed in an earlier generation, long ago, unprotected", had(both(func(h *Holder) { h.RecordGeneration = 3 }, bare)), Policy{},
			Answer{Rule: RuleUnprotected, Why: "dead by the clock", Awaits: "a proof", Host: "h2", NextStep: "confirm-rebooted h2"}},
		{"shared with one that was freed in an earlier generation", held(h2(state(Dead)), h2(both(state(Free), func(h *Holder) { h.RecordGeneration = 3 }))), Policy{},
			Answer{Rule: RuleOldFree, Why: "is that of generation 3", Awaits: "silent for longer", Host: "h2", NextStep: "confirm-rebooted h2"}},
		{"freed in an earlier generation", held(h2(both(state(Free), func(h *Holder) { h.RecordGeneration = 3 }))), Policy{},
			Answer{Rule: RuleOldFree, Why: "is that of generation 3", Awaits: "silent for longer", Host: "h2", NextStep: "confirm-rebooted h2"}},

		{"shared, freed in an earlier generation", held(h2(state(Dead)), h2(func(h *Holder) { h.State, h.RecordGeneration, h.Host = Free, 3, "h3" })), Policy{UnprotectedTakeover: true},
			Answer{Rule: RuleOldFree, Why: "is that of generation 3", Awaits: "silent for longer", Host: "h3", NextStep: "confirm-rebooted h3"}},

		{"dead", held(h2(state(Dead))), Policy{}, Answer{Startable: true, Rule: RuleDead, Why: "watchdog has reset", Host: "h2"}},
		{"dead, unprotected", held(h2(both(state(Dead), bare))), Policy{},
			Answer{Rule: RuleUnprotected, Why: "dead by the clock, and no watchdog", Awaits: "a proof that h2 is off", Host: "h2", NextStep: "holdfast host fence h2"}},
		{"dead, unprotected, allowed", held(h2(both(state(Dead), bare))), Policy{UnprotectedTakeover: true},
			Answer{Startable: true, Rule: RuleDead, Why: "unprotected_takeover", Host: "h2"}},
		{"dead, unprotected, proven", held(h2(both(both(state(Dead), bare), func(h *Holder) { h.Proof = off() }))), Policy{},
			Answer{Startable: true, Rule: RuleProven, Why: "proof power_off", Host: "h2", Proof: off()}},
		{"dead, unprotected, void proof", held(h2(both(both(state(Dead), bare), func(h *Holder) { h.Proof = off(); h.Proof.Void = true }))), Policy{},
			Answer{Rule: RuleUnprotected, Why: "changed after it was proven dead", Awaits: "a proof", Host: "h2", NextStep: "confirm-rebooted"}},
		{"dead, no member", held(h2(func(h *Holder) {
			h.State, h.Member, h.Protected, h.Host = Dead, false, false, "host id 7"
		})), Policy{},
			Answer{Startable: true, Rule: RuleDead, Why: "host id 7's lease is DEAD", Host: "host id 7"}},

		{"silent", held(h2(both(lost, func(h *Holder) { h.State, h.Silent = Fail, 90*time.Second }))), Policy{},
			Answer{Rule: RuleSilent, Why: "silent for 1m30s", Awaits: "h2's lease to be DEAD", In: 20 * time.Second, Host: "h2", NextStep: "holdfast host fence h2"}},
		{"silent, unprotected", held(h2(both(lost, both(bare, state(Fail))))), Policy{},
			Answer{Rule: RuleUnprotected, Why: "silent for 1.5s, and no watchdog", Awaits: "a proof that h2 is off", Host: "h2", NextStep: "confirm-rebooted h2 --reason"}},
		{"silent, unprotected, allowed", held(h2(both(lost, both(bare, state(Fail))))), Policy{UnprotectedTakeover: true},
			Answer{Rule: RuleSilent, Why: "may still be running", Awaits: "DEAD", In: 20 * time.Second, Host: "h2", NextStep: "fence"}},
		{"silent, no member", held(h2(func(h *Holder) { h.State, h.Member, h.Protected, h.Host = Fail, false, false, "host id 7" })), Policy{},
			Answer{Rule: RuleSilent, Why: "host id 7 has been", Awaits: "DEAD", In: 20 * time.Second, Host: "host id 7", NextStep: "no member of this cluster"}},

		{"alive", held(h2(func(*Holder) {})), Policy{}, Answer{Rule: RuleAlive, Why: "h2 is alive", Awaits: "give the lease back", Host: "h2", NextStep: "stop what runs"}},
		{"alive, no member", held(h2(func(h *Holder) { h.Member, h.Protected = false, false })), Policy{},
			Answer{Rule: RuleAlive, Why: "is alive", Awaits: "give the lease back", Host: "h2", NextStep: "stop what runs"}},
		{"alive, cut off from the network", held(h2(func(h *Holder) { h.Condition = "isolated: no answer, renews" })), Policy{},
			Answer{Rule: RuleAlive, Why: "alive and has the lease, although it is not well (isolated", Awaits: "or a proof", Host: "h2", NextStep: "fence h2"}},
		{"alive, not well, unprotected", held(h2(both(bare, func(h *Holder) { h.Condition = "non_operational: san2" }))), Policy{},
			Answer{Rule: RuleAlive, Why: "although it is not well", Awaits: "to give the lease back", Host: "h2", NextStep: "fence h2"}},
		{"lost", held(h2(lost)), Policy{},
			Answer{Rule: RuleLost, Why: "renewed its record 1.5s ago and is lost (non_responsive: no answer for 8s)", Awaits: "DEAD if it stays silent", In: 20 * time.Second, Host: "h2", NextStep: "fence h2"}},
		{"lost, unprotected", held(h2(both(lost, bare))), Policy{},
			Answer{Rule: RuleUnprotected, Why: "is lost (non_responsive", Awaits: "or the host to be back", Host: "h2", NextStep: "fence h2"}},
		{"lost, proven", held(h2(both(lost, func(h *Holder) { h.Proof = off() }))), Policy{},
			Answer{Rule: RuleProofPending, Why: "not free yet", Awaits: "the manager to free h2's record", In: 20 * time.Second, Host: "h2", Proof: off(), NextStep: "events"}},
		{"lost, unprotected, proven", held(h2(both(bare, both(lost, func(h *Holder) { h.Proof = off() })))), Policy{},
			Answer{Rule: RuleProofPending, Why: "not free yet", Awaits: "the manager to free", Host: "h2", Proof: off(), NextStep: "events"}},
		{"being fenced", held(h2(both(lost, func(h *Holder) { h.Fencing = "power off, for 3s" }))), Policy{},
			Answer{Rule: RuleFencing, Why: "being fenced: power off, for 3s", Awaits: "confirmed off, or its lease", In: 20 * time.Second, Host: "h2", NextStep: "events --follow"}},
		{"being fenced, unprotected", held(h2(both(bare, both(lost, func(h *Holder) { h.Fencing = "power off" })))), Policy{},
			Answer{Rule: RuleFencing, Why: "being fenced", Awaits: "h2's power to be confirmed off", Host: "h2", NextStep: "events --follow"}},
		{"not watched", held(h2(state(Unknown))), Policy{},
			Answer{Rule: RuleNotWatched, Why: "not been watched", Awaits: "watched for long enough", In: 20 * time.Second, Host: "h2", NextStep: "ask again"}},
		{"not watched, unprotected", held(h2(both(bare, state(Unknown)))), Policy{},
			Answer{Rule: RuleNotWatched, Why: "not been watched", Awaits: "watched for long enough", Host: "h2", NextStep: "ask again"}},
		{"no word about its record", held(h2(state(""))), Policy{},
			Answer{Rule: RuleNotWatched, Why: "not been watched", Awaits: "watched for long enough", In: 20 * time.Second, Host: "h2", NextStep: "ask again"}},

		{"shared, one dead, one alive", held(h2(state(Dead)), h2(func(h *Holder) { h.Host = "h3" })), Policy{},
			Answer{Rule: RuleAlive, Why: "h3 is alive and has the lease; the lease is shared, by 1 more", Awaits: "h3 to give", Host: "h3", NextStep: "h3"}},
		{"shared, the longest counts", held(h2(func(h *Holder) { h.State, h.DeadIn = Fail, 5*time.Second }), h2(func(h *Holder) { h.State, h.Host = Fail, "h3" })), Policy{},
			Answer{Rule: RuleSilent, Why: "h3 has been silent", Awaits: "h3's lease", In: 20 * time.Second, Host: "h3", NextStep: "h3"}},
		{"shared, without countdown", held(h2(state(Fail)), h2(func(h *Holder) { h.State, h.Protected, h.Host = Fail, false, "h3" }), h2(state(Fail))), Policy{},
			Answer{Rule: RuleUnprotected, Why: "by 2 more", Awaits: "a proof that h3 is off", Host: "h3", NextStep: "h3"}},
		{"shared, all dead", held(h2(state(Dead)), h2(both(state(Dead), func(h *Holder) { h.Host = "h3" }))), Policy{},
			Answer{Startable: true, Rule: RuleDead, Why: "h2's lease is DEAD", Host: "h2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := Judge(c.in, c.policy)
			for _, w := range [][2]string{{got.Why, c.want.Why}, {got.Awaits, c.want.Awaits}, {got.NextStep, c.want.NextStep}} {
				if !strings.Contains(w[0], w[1]) || w[0] != "" && w[1] == "" {
					t.Errorf("says %q, not %q", w[0], w[1])
				}
			}
			got.Why, got.Awaits, got.NextStep = c.want.Why, c.want.Awaits, c.want.NextStep
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// everyHolder yields every holder there can be.
func everyHolder(yield func(h Holder)) {
	proofs := []*Proof{nil, off(), {Kind: "person", Void: true}}
	for _, s := range []State{"", Unknown, Live, Fail, Dead} {
		for bits := range 1 << 5 {
			for _, p := range proofs {
				h := h2(func(*Holder) {})
				h.State, h.Proof = s, p
				h.Member, h.Protected, h.Lost = bits&1 != 0, bits&2 != 0, bits&4 != 0
				if bits&8 != 0 {
					h.Fencing = "power off"
				}
				if h.DeadIn = 0; bits&16 != 0 && s != Dead {
					h.DeadIn = 7 * time.Second
				}
				yield(h)
			}
		}
	}
}

// mayStart is the rule of safety, written down a second time: which holder is surely gone.
func mayStart(h *Holder, p Policy) bool {
	if h.State != Dead {
		return false // the storage would refuse
	}
	byClock := !h.Member || h.Protected || p.UnprotectedTakeover
	return byClock || h.Proof != nil && !h.Proof.Void
}

// wrong is what must never be said about a holder, by the judge that is given.
func wrong(judge func(Resource, Policy) Answer) (found []string) {
	everyHolder(func(h Holder) {
		for _, allow := range []bool{false, true} {
			p := Policy{UnprotectedTakeover: allow}
			for _, r := range []Resource{held(h), held(h, h2(func(o *Holder) { o.State = Dead })), held(h2(func(o *Holder) { o.State = Dead }), h)} {
				if w := wrongAbout(judge(r, p), &h, p); w != "" {
					found = append(found, fmt.Sprintf("%s: %+v %+v", w, h, p))
				}
			}
		}
	})
	return found
}

func wrongAbout(a Answer, h *Holder, p Policy) string {
	clock := !h.Member || h.Protected || p.UnprotectedTakeover
	switch {
	case a.Startable != mayStart(h, p):
		return fmt.Sprintf("startable is %v", a.Startable)
	case a.Why == "" || a.Rule == "":
		return "no reason"
	case !a.Startable && (a.Awaits == "" || a.NextStep == "" || a.Host != h.Host):
		return "refused without saying what is awaited, for whom, and what to do"
	case a.Startable && (a.Awaits != "" || a.In != 0):
		return "startable, and something is awaited"
	case a.In != 0 && !clock:
		return "a countdown to a death that does not count"
	case a.In != 0 && a.In != h.DeadIn:
		return "another countdown than that to DEAD"
	case a.Proof != nil && a.Proof.Void:
		return "rests on a proof that is void"
	case h.State == Fail && clock && h.DeadIn > 0 && a.In == 0:
		return "no countdown although there is one"
	case h.State == Live && !h.Lost && h.Fencing == "" && (h.Proof == nil || h.Proof.Void) && a.In != 0:
		return "a countdown to the death of a host that lives"
	}
	return ""
}

func TestJudge_safeInEveryCase(t *testing.T) {
	t.Parallel()
	for _, w := range wrong(Judge) {
		t.Error(w)
	}
}

// Each of these judges has one mistake in it; the checker must see it.
func TestJudge_safeInEveryCase_catchesMistakes(t *testing.T) {
	t.Parallel()
	with := func(change func(h *Holder)) func(Resource, Policy) Answer {
		return func(r Resource, p Policy) Answer {
			l := append([]Holder(nil), r.Holders...)
			for i := range l {
				change(&l[i])
			}
			return Judge(Resource{Holders: l}, p)
		}
	}
	after := func(change func(a *Answer)) func(Resource, Policy) Answer {
		return func(r Resource, p Policy) Answer { a := Judge(r, p); change(&a); return a }
	}
	for name, planted := range map[string]func(Resource, Policy) Answer{
		"watchdogs are not looked at":    with(func(h *Holder) { h.Protected = true }),
		"nobody is trusted":              with(func(h *Holder) { h.Protected, h.Member = false, true }),
		"FAIL counts as DEAD":            with(func(h *Holder) { h.State = map[State]State{Fail: Dead}[h.State] }),
		"void proofs count":              with(func(h *Holder) { h.Proof = map[bool]*Proof{true: off()}[h.Proof != nil] }),
		"proofs do not count":            with(func(h *Holder) { h.Proof = nil }),
		"a proof is enough for a start":  after(func(a *Answer) { a.Startable = a.Startable || a.Rule == RuleProofPending }),
		"the policy is always allow":     func(r Resource, _ Policy) Answer { return Judge(r, Policy{UnprotectedTakeover: true}) },
		"the policy is not looked at":    func(r Resource, _ Policy) Answer { return Judge(r, Policy{}) },
		"only the first holder counts":   func(r Resource, p Policy) Answer { return Judge(held(r.Holders[0]), p) },
		"only the last holder counts":    func(r Resource, p Policy) Answer { return Judge(held(r.Holders[len(r.Holders)-1]), p) },
		"it does not say what to do":     after(func(a *Answer) { a.NextStep = "" }),
		"it does not say what it awaits": after(func(a *Answer) { a.Awaits = "" }),
		"it counts down without reason":  after(func(a *Answer) { a.In = 7 * time.Second }),
		"it never counts down":           after(func(a *Answer) { a.In = 0 }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if len(wrong(planted)) == 0 {
				t.Error("nobody noticed")
			}
		})
	}
}

// A holder that falls silent is waited for no longer than its countdown says, and the countdown never grows.
func TestJudge_countdownIsKept(t *testing.T) {
	t.Parallel()
	const expiry, dead = 16 * time.Second, 26 * time.Second
	at := func(silent time.Duration) Answer {
		h := h2(lost)
		h.Silent, h.DeadIn = silent, max(0, dead-silent)
		switch {
		case silent > dead:
			h.State = Dead
		case silent > expiry:
			h.State = Fail
		}
		return Judge(held(h), Policy{})
	}
	promised := at(0).In
	for s := time.Duration(0); s <= dead; s += 100 * time.Millisecond {
		a := at(s)
		if a.Startable || a.In != promised-s {
			t.Fatalf("after %v: %+v", s, a)
		}
	}
	if a := at(promised + time.Millisecond); !a.Startable {
		t.Errorf("when the countdown is over: %+v", a)
	}
}
