package manager

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

var noon = time.Unix(1_800_000_000, 0)

// viewOf is a well host in a state, that has answered for an hour.
func viewOf(state string, change ...func(*HostView)) HostView {
	v := HostView{Committed: fsm.Host{Name: "a", HostID: 1, State: state, Reason: "as it was", Since: noon.Add(-time.Hour).UnixNano()},
		Now: noon, Policy: DefaultPolicy("fast"), Answer: noon.Add(-time.Hour), LastAnswer: noon, WellFor: time.Hour, IllAfter: DefaultPolicy("fast").TroubleAfter,
		Storage: Storage{Status: Live, Witnesses: 2, Generation: 4, DeadIn: 20 * sec}, Renewed: noon.Add(-sec),
		Seen: Host{Name: "a", HostID: 1, Reachable: true, Answered: true, Fenceable: true}}
	for _, fn := range change {
		fn(&v)
	}
	return v
}

func silentFor(d time.Duration) func(*HostView) {
	return func(v *HostView) {
		v.Seen.Reachable, v.Seen.LostFor, v.LastAnswer, v.Renewed = false, d, noon.Add(-d), noon.Add(-d-sec)
	}
}

func answersSince(d time.Duration) func(*HostView) {
	return func(v *HostView) { v.Answer, v.WellFor = noon.Add(-d), time.Hour }
}

func illFor(d time.Duration) func(*HostView) {
	return func(v *HostView) { v.Ill, v.IllFor, v.WellFor = "it cannot reach san2, and others can", d, 0 }
}

func onStorage(s Liveness, renewedAgo time.Duration) func(*HostView) {
	return func(v *HostView) { v.Storage.Status, v.Renewed = s, noon.Add(-renewedAgo) }
}

func until(d time.Duration) func(*HostView) {
	return func(v *HostView) { v.Committed.Deadline = noon.Add(d).UnixNano() }
}

// wanted is the wish for maintenance, given a minute ago unless the state is older.
func wanted(v *HostView) {
	v.Committed.Wish = fsm.Wish{Want: fsm.WishMaintenance, By: "ann", Reason: "memory", Time: noon.Add(-time.Minute).UnixNano()}
	v.Heeds = true
}

func vain(v *HostView) { v.Fenced = fencingEnded("a", fsm.FenceFailed, "its power device is dead") }

func noWatchdog(v *HostView) { v.Seen.Unprotected = true }

func off(v *HostView) { v.Seen.Power = PowerOff }

func proven(v *HostView) { v.Seen.ProofGen = 4 }

type hostTest struct {
	name   string
	in     HostView
	state  string
	reason string        // part of it
	in2    time.Duration // until the deadline; 0 none
}

func answeringTests() []hostTest {
	quarter := DefaultPolicy("fast").Grace / 4
	return []hostTest{
		{"up and well", viewOf(fsm.HostUp), fsm.HostUp, "as it was", 0},
		{"up, ill for a moment", viewOf(fsm.HostUp, illFor(9*sec)), fsm.HostUp, "as it was", 0},
		{"up, ill for long", viewOf(fsm.HostUp, illFor(10*sec)), fsm.HostNonOperational, "cannot reach san2", 0},
		{"joining, well", viewOf(fsm.HostJoining), fsm.HostUp, "is well", 0},
		{"joining, storage not there yet", viewOf(fsm.HostJoining, illFor(sec)), fsm.HostJoining, "cannot reach san2", 0},
		{"joining, storage never there", viewOf(fsm.HostJoining, illFor(time.Minute)), fsm.HostNonOperational, "cannot reach san2", 0},
		{"non-operational, ill still", viewOf(fsm.HostNonOperational, illFor(time.Minute)), fsm.HostNonOperational, "cannot reach san2", 0},
		{"non-operational, well just now", viewOf(fsm.HostNonOperational, func(v *HostView) { v.WellFor = quarter / 2 }), fsm.HostNonOperational, "as it was", 0},
		{"non-operational, well for a while", viewOf(fsm.HostNonOperational, func(v *HostView) { v.WellFor = quarter }), fsm.HostUp, "is well", 0},
		{"connecting, answers just now", viewOf(fsm.HostConnecting, answersSince(quarter/2)), fsm.HostConnecting, "answers again", quarter / 2},
		{"connecting, answers for a while", viewOf(fsm.HostConnecting, answersSince(quarter)), fsm.HostUp, "is well", 0},
		{"connecting, answers but is not well", viewOf(fsm.HostConnecting, answersSince(time.Minute), illFor(sec)), fsm.HostConnecting, "answers again", quarter - time.Minute},
		{"comes and goes, answers for the usual while", viewOf(fsm.HostConnecting, answersSince(quarter), func(v *HostView) { v.Flaps = 4 }), fsm.HostConnecting, "4 times", 3 * quarter},
		{"comes and goes, answers for long", viewOf(fsm.HostConnecting, answersSince(4*quarter), func(v *HostView) { v.Flaps = 4 }), fsm.HostUp, "is well", 0},
		{"restarted twice", viewOf(fsm.HostConnecting, answersSince(quarter), func(v *HostView) { v.Flaps = 2 }), fsm.HostUp, "is well", 0},
		{"comes and goes for ever, answers for the longest while", viewOf(fsm.HostConnecting, answersSince(15*sec), func(v *HostView) { v.Flaps = 60 }), fsm.HostUp, "is well", 0},
		{"down, answers", viewOf(fsm.HostDown, answersSince(0)), fsm.HostConnecting, "answers again", quarter},
		{"fenced by an older program, answers", viewOf(fsm.HostFenced, answersSince(0)), fsm.HostConnecting, "answers again", quarter},
		{"down, has answered for a while", viewOf(fsm.HostDown, answersSince(quarter)), fsm.HostUp, "is well", 0},
		{"rebooting, answers", viewOf(fsm.HostRebooting, answersSince(0), until(time.Minute)), fsm.HostConnecting, "answers again", quarter},
		{"isolated, answers", viewOf(fsm.HostIsolated, answersSince(0)), fsm.HostConnecting, "answers again", quarter},
		{"unresponsive by an older program, answers", viewOf("unresponsive", answersSince(quarter)), fsm.HostUp, "is well", 0},
		{"fencing is over, answers", viewOf(fsm.HostFencing, answersSince(0)), fsm.HostConnecting, "answers again", quarter},
		{"fencing goes on, answers", viewOf(fsm.HostFencing, func(v *HostView) { v.Fencing = true }), fsm.HostFencing, "as it was", 0},
		{"maintenance taken back", viewOf(fsm.HostMaintenance, func(v *HostView) { v.WellFor = 0 }), fsm.HostConnecting, "maintenance is over", quarter},
		{"preparing taken back, well", viewOf(fsm.HostPreparing), fsm.HostUp, "is well", 0},
	}
}

func silentTests() []hostTest {
	p := DefaultPolicy("fast")
	return []hostTest{
		{"missed one ping", viewOf(fsm.HostUp, silentFor(p.Grace/4)), fsm.HostUp, "as it was", 0},
		{"silent for half the grace", viewOf(fsm.HostUp, silentFor(p.Grace/2)), fsm.HostConnecting, "does not answer", p.Grace / 2},
		{"connecting, grace not over", viewOf(fsm.HostConnecting, silentFor(2*sec)), fsm.HostConnecting, "does not answer", sec},
		{"grace over, nothing known", viewOf(fsm.HostConnecting, silentFor(p.Grace), onStorage(Live, p.Grace)), fsm.HostNonResponsive, "nothing proves", 20 * sec},
		{"grace over, storage cannot be read", viewOf(fsm.HostConnecting, silentFor(p.Grace), func(v *HostView) { v.Storage = Storage{} }), fsm.HostNonResponsive, "nothing proves", 0},
		{"grace over, renews", viewOf(fsm.HostConnecting, silentFor(8*sec), onStorage(Live, sec)), fsm.HostIsolated, "storage alive", p.FenceLiveAfter - 8*sec},
		{"renews, cannot be fenced", viewOf(fsm.HostConnecting, silentFor(8*sec), onStorage(Live, sec), func(v *HostView) { v.Seen.Fenceable = false }), fsm.HostIsolated, "storage alive", 0},
		{"a renewal that may be from before", viewOf(fsm.HostConnecting, silentFor(4*sec), onStorage(Live, 2*sec)), fsm.HostNonResponsive, "nothing proves", 20 * sec},
		{"isolated, renews no more", viewOf(fsm.HostIsolated, silentFor(time.Minute), onStorage(Live, p.SilentAfter+sec)), fsm.HostNonResponsive, "nothing proves", 20 * sec},
		{"isolated, renews still", viewOf(fsm.HostIsolated, silentFor(time.Minute), onStorage(Live, 2*sec), until(time.Minute)), fsm.HostIsolated, "as it was", time.Minute},
		{"non-responsive, renews again", viewOf(fsm.HostNonResponsive, silentFor(time.Minute), onStorage(Live, 2*sec)), fsm.HostIsolated, "storage alive", p.FenceLiveAfter - time.Minute},
		{"left the lockspace", viewOf(fsm.HostConnecting, silentFor(p.Grace), onStorage(Free, time.Hour)), fsm.HostDown, "left the lockspace", 0},
		{"its lease is dead", viewOf(fsm.HostNonResponsive, silentFor(time.Minute), onStorage(Dead, time.Minute)), fsm.HostDown, "lease is dead", 0},
		{"its lease is dead, no watchdog", viewOf(fsm.HostConnecting, silentFor(time.Minute), onStorage(Dead, time.Minute), noWatchdog), fsm.HostNonResponsive, "may still write", 0},
		{"its lease is dead, no watchdog, and the pool takes that", viewOf(fsm.HostNonResponsive, silentFor(time.Minute), onStorage(Dead, time.Minute), noWatchdog, func(v *HostView) { v.Policy.UnprotectedTakeover = true }), fsm.HostDown, "lease is dead", 0},
		{"proven dead", viewOf(fsm.HostNonResponsive, silentFor(sec), proven), fsm.HostDown, "proven", 0},
		{"down by a proof, it had renewed until then", viewOf(fsm.HostDown, silentFor(time.Minute), onStorage(Live, 2*sec), proven), fsm.HostDown, "as it was", 0},
		{"down by a proof, another life renews", viewOf(fsm.HostDown, silentFor(time.Minute), onStorage(Live, 2*sec), proven, func(v *HostView) { v.Storage.Generation = 5 }), fsm.HostIsolated, "storage alive", p.FenceLiveAfter - time.Minute},
		{"another life than the proven one", viewOf(fsm.HostNonResponsive, silentFor(time.Minute), proven, func(v *HostView) { v.Storage.Generation = 5 }), fsm.HostNonResponsive, "as it was", 0},
		{"down stays down", viewOf(fsm.HostDown, silentFor(time.Hour), onStorage(Unseen, time.Hour)), fsm.HostDown, "as it was", 0},
		{"fenced stays as it is written", viewOf(fsm.HostFenced, silentFor(time.Hour), onStorage(Free, time.Hour)), fsm.HostFenced, "as it was", 0},
		{"down, renews without a network", viewOf(fsm.HostDown, silentFor(time.Hour), onStorage(Live, sec)), fsm.HostIsolated, "storage alive", 0},
		{"rebooting, not due", viewOf(fsm.HostRebooting, silentFor(time.Hour), until(sec)), fsm.HostRebooting, "as it was", sec},
		{"rebooting, not due, its former life proven dead", viewOf(fsm.HostRebooting, silentFor(time.Hour), until(sec), proven), fsm.HostRebooting, "as it was", sec},
		{"rebooting, overdue, its former life proven dead", viewOf(fsm.HostRebooting, silentFor(time.Hour), until(-sec), proven), fsm.HostDown, "proven", 0},
		{"rebooting, overdue, left before", viewOf(fsm.HostRebooting, silentFor(time.Hour), until(-sec), onStorage(Free, time.Hour)), fsm.HostDown, "left the lockspace", 0},
		{"rebooting, overdue", viewOf(fsm.HostRebooting, silentFor(time.Hour), until(-sec), onStorage(Unknown, time.Hour)), fsm.HostNonResponsive, "nothing proves", 20 * sec},
		{"fencing is over, unproven", viewOf(fsm.HostFencing, silentFor(time.Minute), onStorage(Live, time.Minute)), fsm.HostNonResponsive, "nothing proves", 20 * sec},
		{"fencing is over, in vain", viewOf(fsm.HostFencing, silentFor(time.Minute), onStorage(Live, time.Minute), vain), fsm.HostNonResponsive, "has ended (failed)", 20 * sec},
		{"fencing is over, in vain, renews", viewOf(fsm.HostFencing, silentFor(time.Minute), onStorage(Live, sec), vain), fsm.HostIsolated, "storage alive", p.FenceLiveAfter - time.Minute},
		{"never answered", viewOf(fsm.HostJoining, silentFor(time.Minute), onStorage(Unseen, time.Hour), func(v *HostView) { v.Seen.Answered = false }), fsm.HostNonResponsive, "since it joined", 0},
		{"joining, grace not over", viewOf(fsm.HostJoining, silentFor(2*sec)), fsm.HostJoining, "as it was", 0},
		{"a new leader has not waited yet", viewOf(fsm.HostNonResponsive, silentFor(sec)), fsm.HostNonResponsive, "as it was", 0},
	}
}

func maintenanceTests() []hostTest {
	uses := func(v *HostView) { v.Blocks = []string{"attached volume web1", "lease db"} }
	role := func(v *HostView) { v.HasRole, v.NoHeir = true, "b: in maintenance" }
	return []hostTest{
		{"wanted, nothing there", viewOf(fsm.HostUp, wanted), fsm.HostMaintenance, "wanted by ann: memory", 0},
		{"wanted, SPM", viewOf(fsm.HostUp, wanted, role), fsm.HostPreparing, "the SPM role, which cannot move: b: in maintenance", 0},
		{"wanted, SPM and more", viewOf(fsm.HostUp, wanted, role, uses), fsm.HostPreparing, "b: in maintenance; attached volume web1; lease db", 0},
		{"wanted, volumes attached", viewOf(fsm.HostPreparing, wanted, uses), fsm.HostPreparing, "waits for: attached volume web1; lease db", 0},
		{"wanted, has not said yet", viewOf(fsm.HostUp, wanted, func(v *HostView) { v.Heeds = false }), fsm.HostPreparing, "takes nothing new", 0},
		{"wanted, not well", viewOf(fsm.HostNonOperational, wanted, illFor(time.Hour)), fsm.HostMaintenance, "wanted by ann", 0},
		{"wanted, does not answer", viewOf(fsm.HostNonResponsive, wanted, silentFor(time.Hour)), fsm.HostPreparing, "what it uses is not known", 0},
		{"wanted, isolated", viewOf(fsm.HostIsolated, wanted, silentFor(time.Hour), onStorage(Live, sec)), fsm.HostPreparing, "what it uses is not known", 0},
		{"wanted, dead on storage", viewOf(fsm.HostNonResponsive, wanted, silentFor(time.Hour), onStorage(Dead, time.Hour)), fsm.HostMaintenance, "wanted by ann", 0},
		{"wanted, dead on storage, unprotected", viewOf(fsm.HostNonResponsive, wanted, silentFor(time.Hour), onStorage(Dead, time.Hour), func(v *HostView) { v.Seen.Unprotected = true }), fsm.HostPreparing, "not known", 0},
		{"wanted, left", viewOf(fsm.HostDown, wanted, silentFor(time.Hour), onStorage(Free, time.Hour)), fsm.HostMaintenance, "wanted by ann", 0},
		{"wanted, proven dead", viewOf(fsm.HostDown, wanted, proven, silentFor(time.Hour)), fsm.HostMaintenance, "wanted by ann", 0},
		{"there, silent", viewOf(fsm.HostMaintenance, wanted, silentFor(time.Hour)), fsm.HostMaintenance, "as it was", 0},
		{"there, not well, and uses something", viewOf(fsm.HostMaintenance, wanted, illFor(time.Hour), uses), fsm.HostMaintenance, "as it was", 0},
		{"there, switched off", viewOf(fsm.HostMaintenance, wanted, silentFor(time.Hour), onStorage(Free, time.Hour), off), fsm.HostMaintenance, "as it was", 0},
		{"wanted, fenced on its way", viewOf(fsm.HostDown, wanted, silentFor(time.Hour), proven, func(v *HostView) { v.Committed.Since = noon.UnixNano() }), fsm.HostMaintenance, "wanted by ann", 0},
		{"wanted, down, storage not read yet", viewOf(fsm.HostDown, wanted, silentFor(time.Hour), onStorage(Unseen, time.Hour)), fsm.HostPreparing, "not known", 0},
		{"taken back while it is off", viewOf(fsm.HostMaintenance, silentFor(time.Hour), onStorage(Free, time.Hour), off), fsm.HostDown, "switched off (holdfast host power on a)", 0},
		{"taken back, switched off on a proof", viewOf(fsm.HostMaintenance, silentFor(sec), proven, off), fsm.HostDown, "switched off (holdfast host power on a)", 0},
		{"there, switched on", viewOf(fsm.HostRebooting, wanted, silentFor(time.Hour), until(sec)), fsm.HostRebooting, "as it was", sec},
		{"there, switched on and heard", viewOf(fsm.HostRebooting, wanted, until(sec)), fsm.HostMaintenance, "wanted by ann", 0},
		{"taken back while it is silent", viewOf(fsm.HostMaintenance, silentFor(2*sec)), fsm.HostConnecting, "does not answer", sec},
	}
}

func TestNextHost_table(t *testing.T) {
	t.Parallel()
	for _, tc := range append(append(answeringTests(), silentTests()...), maintenanceTests()...) {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := NextHost(tc.in)
			want := int64(0)
			if tc.in2 != 0 {
				want = noon.Add(tc.in2).UnixNano()
			}
			if got.State != tc.state || !strings.Contains(got.Reason, tc.reason) || got.Deadline != want {
				t.Errorf("got %s, %q, deadline in %v; want %s, %q, %v", got.State, got.Reason, time.Unix(0, got.Deadline).Sub(noon), tc.state, tc.reason, tc.in2)
			}
			if v := badHost(tc.in, got); v != "" {
				t.Error(v)
			}
		})
	}
}

// badHost is the checker: it judges a state that follows without knowing how it was found. Empty: it may be so.
func badHost(v HostView, n HostNext) string {
	was := v.Committed.CurrentState()
	change := n.State != v.Committed.State
	switch {
	case v.Fencing && n != v.stay():
		return "changes the state of a host that is being fenced"
	case n.Reason == "" && change:
		return "no reason"
	case n.State == fsm.HostUp && change && (!v.Seen.Reachable || v.Ill != "" || v.Committed.Wish.Want != ""):
		return "up without being well, heard and wanted"
	case n.State == fsm.HostUp && change && was != fsm.HostJoining && was != "" && v.Now.Sub(v.Answer) < v.Policy.Grace/4:
		return "up at the first answer"
	case n.State == fsm.HostDown && change && v.Seen.Reachable:
		return "down although it answers"
	case n.State == fsm.HostDown && change && !v.proven() && v.Storage.Status != Free && v.Storage.Status != Dead:
		return "down without a proof or a word from storage"
	case n.State == fsm.HostDown && change && !v.proven() && v.Storage.Status == Dead && v.Seen.Unprotected && !v.Policy.UnprotectedTakeover:
		return "down by the clock alone"
	case n.State == fsm.HostDown && change && !v.proven() && v.Seen.LostFor < v.Policy.Grace:
		return "down within the grace time"
	case n.State == fsm.HostIsolated && change && (v.Seen.Reachable || !v.Renewed.After(v.LastAnswer)):
		return "isolated without a renewal after its last answer"
	case n.State == fsm.HostNonResponsive && change && v.Seen.LostFor < v.Policy.Grace:
		return "non-responsive within the grace time"
	case n.State == fsm.HostNonOperational && change && v.IllFor < v.IllAfter:
		return "non-operational at the first trouble"
	}
	return badMaintenance(v, n, was, change)
}

func badMaintenance(v HostView, n HostNext, was string, change bool) string {
	in := n.State == fsm.HostMaintenance && change
	switch {
	case (in || n.State == fsm.HostPreparing && change) && v.Committed.Wish.Want != fsm.WishMaintenance:
		return "out of use although nobody wants it"
	case in && v.Seen.Reachable && (v.HasRole || len(v.Blocks) > 0 || !v.Heeds):
		return "in maintenance while something is on it"
	case in && !v.Seen.Reachable && !v.proven() && (v.Storage.Status == Live || v.Storage.Status == Fail || v.Storage.Status == Unknown || v.Storage.Status == Unseen):
		return "in maintenance while it may live"
	case was == fsm.HostMaintenance && v.Committed.Wish.Want == fsm.WishMaintenance && change:
		return "leaves maintenance although it is wanted there"
	}
	return ""
}

// randomView draws from everything that can be seen, sense or not.
func randomView(r *rand.Rand) HostView {
	flip := func(n int) bool { return r.IntN(n) == 0 }
	dur := func() time.Duration { return time.Duration(r.IntN(60_000)) * time.Millisecond }
	states := []string{"", fsm.HostJoining, fsm.HostUp, fsm.HostUp, fsm.HostConnecting, fsm.HostNonResponsive, fsm.HostNonOperational, fsm.HostIsolated,
		fsm.HostPreparing, fsm.HostMaintenance, fsm.HostFencing, fsm.HostRebooting, fsm.HostDown, fsm.HostFenced, "unresponsive"}
	v := viewOf(states[r.IntN(len(states))])
	v.Fencing = flip(10)
	v.Seen.Reachable, v.Seen.Answered, v.Seen.Fenceable, v.Seen.Unprotected = flip(2), flip(2), flip(2), flip(2)
	v.Seen.ProofGen = uint64(r.IntN(3) * 2)
	v.Storage = Storage{Status: []Liveness{Unseen, Unknown, Free, Live, Live, Fail, Dead}[r.IntN(7)], Generation: uint64(r.IntN(3) * 2), DeadIn: dur()}
	v.Answer, v.Renewed, v.Flaps = noon.Add(-dur()/4), noon.Add(-dur()), r.IntN(4)
	if !v.Seen.Reachable {
		v.Seen.LostFor = dur() / 4
		v.LastAnswer = noon.Add(-v.Seen.LostFor)
	} else if flip(2) {
		v.Ill, v.IllFor, v.WellFor = "ill", dur(), 0
	}
	if flip(2) {
		wanted(&v)
	}
	v.Heeds, v.HasRole = flip(2), flip(4)
	if flip(3) {
		v.Blocks = []string{"x"}
	}
	if flip(3) {
		v.Committed.Deadline = noon.Add(dur() - 30*sec).UnixNano()
	}
	return v
}

// firstBadHost runs next over n random views, and over what follows from each once more: nothing may change when nothing has happened.
func firstBadHost(seed uint64, n int, next func(HostView) HostNext) string {
	r := rand.New(rand.NewPCG(seed, 2))
	for range n {
		v := randomView(r)
		got := next(v)
		if bad := badHost(v, got); bad != "" {
			return fmt.Sprintf("%s -> %s: %s", v.Committed.State, got.State, bad)
		}
		v.Committed.State, v.Committed.Reason, v.Committed.Deadline = got.State, got.Reason, got.Deadline
		if again := next(v); again.State == got.State && again != got {
			return fmt.Sprintf("%s: changes its words for nothing: %+v, then %+v", got.State, got, again)
		}
	}
	return ""
}

func TestNextHost_neverWrong(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		if bad := firstBadHost(seed, 20_000, NextHost); bad != "" {
			t.Fatalf("seed %d: %s", seed, bad)
		}
	}
}

// Each planted bug must be caught, or the checker is worth nothing.
func TestNextHost_plantedBugs(t *testing.T) {
	t.Parallel()
	bugs := map[string]func(HostView) HostNext{
		"no grace":                        func(v HostView) HostNext { v.Policy.Grace = 0; return NextHost(v) },
		"trouble at once":                 func(v HostView) HostNext { v.IllAfter = 0; return NextHost(v) },
		"ignores fencing":                 func(v HostView) HostNext { v.Fencing = false; return NextHost(v) },
		"ignores blocks":                  func(v HostView) HostNext { v.Blocks = nil; return NextHost(v) },
		"ignores the role":                func(v HostView) HostNext { v.HasRole = false; return NextHost(v) },
		"does not wait for the host":      func(v HostView) HostNext { v.Heeds = true; return NextHost(v) },
		"forgets the wish":                func(v HostView) HostNext { v.Committed.Wish = fsm.Wish{}; return NextHost(v) },
		"invents the wish":                func(v HostView) HostNext { wanted(&v); return NextHost(v) },
		"takes any renewal for a new one": func(v HostView) HostNext { v.LastAnswer = time.Time{}; return NextHost(v) },
		"takes a proof of another life":   func(v HostView) HostNext { v.Seen.ProofGen, v.Storage.Generation = 4, 4; return NextHost(v) },
		"takes FAIL for DEAD": func(v HostView) HostNext {
			if v.Storage.Status == Fail {
				v.Storage.Status = Dead
			}
			return NextHost(v)
		},
		"takes the clock's word": func(v HostView) HostNext { v.Seen.Unprotected = false; return NextHost(v) },
		"ignores illness":        func(v HostView) HostNext { v.Ill, v.WellFor = "", time.Hour; return NextHost(v) },
		"ages in reasons": func(v HostView) HostNext {
			n := NextHost(v)
			n.Reason += fmt.Sprintf(" (%d)", len(v.Committed.Reason))
			return n
		},
	}
	for name, bug := range bugs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if firstBadHost(7, 50_000, bug) == "" {
				t.Fatal("the checker did not notice")
			}
		})
	}
}
