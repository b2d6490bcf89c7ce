package manager

import (
	"testing"
	"time"
)

// appendixTest is one row of the notes' decision table "who should be SPM", with the countdown that a person is shown.
type appendixTest struct {
	name   string
	in     Inputs
	row    Row
	action Action
	left   time.Duration // -1: nobody knows
}

// appendixTests name the inputs of a row: L the lease's owner on disk, S what the lockspace says of it, N whether it answers, D its own word,
// M whether it reads the master.
func appendixTests() []appendixTest {
	seen := func(s Liveness) func(*Inputs) {
		return func(in *Inputs) {
			in.Storage[1] = Storage{Status: s, Witnesses: 2, Generation: 4, DeadIn: 9 * sec, Renewing: s == Live}
			if s == Dead || s == Free {
				in.Storage[1] = Storage{Status: s, Witnesses: 2, Generation: 4}
			}
		}
	}
	unseen := func(in *Inputs) { in.Storage = map[int]Storage{} }
	noAgent := func(in *Inputs) { in.Hosts[0].Fenceable = false }
	idle := role(RoleNone, 0, time.Minute)
	hours := lost(time.Hour)
	asked := asked1(time.Minute)
	others := func(in *Inputs) { in.Hosts[1].Reachable, in.Hosts[1].LostFor = false, time.Hour }
	p := DefaultPolicy("dev")
	return []appendixTest{
		{"L none: elect", world(free0), RowFreeElect, ActStart, p.StartTimeout},
		{"L none, all in back-off", world(free0, func(in *Inputs) {
			for i := range in.Hosts {
				in.Hosts[i].RetryIn = 3 * sec
			}
		}), RowFreeNobody, ActWait, 3 * sec},
		{"L none, nobody can", world(free0, func(in *Inputs) {
			for i := range in.Hosts {
				in.Hosts[i].MasterValid = false
			}
		}), RowFreeNobody, ActWait, -1},

		{"L X, S LIVE, N yes, D SPM, M yes: adopt", world(), RowAdopt, ActNone, -1},
		{"L X, S LIVE, N yes, D SPM, M no: hand over", world(func(in *Inputs) { in.Hosts[0].MasterValid = false }), RowHandOver, ActStop, p.StopTimeout},
		{"L X, S LIVE, N yes, D Free: wait a moment", world(role(RoleNone, 0, p.ReleaseAfter/2)), RowStaleOwner, ActWait, p.ReleaseAfter / 2},
		{"L X, S LIVE, N yes, D Free: ask it to release", world(idle), RowStaleOwner, ActStop, p.StopTimeout},

		{"L X, S LIVE, N no: ask through the storage", world(hours), RowYield, ActYield, p.YieldWait},
		{"L X, S LIVE, N no: keep it", world(lost(2*sec), asked), RowLostAlive, ActWait, p.FenceLiveAfter - 2*sec},
		{"L X, S LIVE, N no, for long: fence", world(hours, asked), RowFence, ActFence, -1},
		{"L X, S LIVE, N no, for long, no agent: keep it", world(hours, asked, noAgent), RowLostDead, ActWait, -1},

		{"L X, S FAIL, N yes", world(seen(Fail), idle), RowFailing, ActWait, 9 * sec},
		{"L X, S FAIL, N yes, it says SPM", world(seen(Fail)), RowFailing, ActWait, 9 * sec},
		{"L X, S FAIL, N no", world(seen(Fail), lost(sec/2)), RowGrace, ActWait, p.Grace - sec/2},
		{"L X, S FAIL, N no, no agent", world(seen(Fail), hours, noAgent), RowLostDead, ActWait, 9 * sec},
		{"L X, S FAIL, N no, most do not answer", world(seen(Fail), hours, others), RowHold, ActWait, 9 * sec},
		{"L X, S FAIL, N no, fencing switched off", world(seen(Fail), hours, func(in *Inputs) { in.Policy.Fencing = false }), RowDisarmed, ActWait, 9 * sec},
		{"L X, S FAIL, N no, disarmed for a while", world(seen(Fail), hours, func(in *Inputs) { in.DisarmedFor = 2 * sec }), RowDisarmed, ActWait, 2 * sec},
		{"L X, S FAIL, N no, no agent, no watchdog", world(seen(Fail), hours, noAgent, bare), RowLostDead, ActWait, -1},
		{"L X, S FAIL, N no, to be fenced", world(seen(Fail), hours), RowFence, ActFence, 9 * sec},
		{"L X, S FAIL, N no, no watchdog, to be fenced", world(seen(Fail), hours, bare), RowFence, ActFence, -1},

		{"L X, S DEAD, N no: elect at once", world(seen(Dead), lost(sec/10)), RowGone, ActStart, p.StartTimeout},
		{"L X, S FREE, N no: elect at once", world(seen(Free), lost(sec/10)), RowGone, ActStart, p.StartTimeout},
		{"L X, generation differs, N no: elect at once", world(lost(sec/10), func(in *Inputs) { in.Lease.Generation = 3 }), RowGone, ActStart, p.StartTimeout},

		{"L X, S UNKNOWN, N yes", world(seen(Unknown), idle), RowUnknown, ActWait, p.SilentAfter},
		{"L X, S UNKNOWN, N no", world(seen(Unknown), lost(2*sec), asked), RowGrace, ActWait, p.SilentAfter - 2*sec},

		{"L X, S UNAVAILABLE on all, the lease too", world(func(in *Inputs) { in.Lease = Lease{} }, unseen), RowUnreadable, ActWait, -1},
		{"L X, S UNAVAILABLE on all, N yes", world(unseen, idle), RowUnknown, ActWait, p.SilentAfter},
		{"L X, S UNAVAILABLE on all, N no, no agent", world(unseen, hours, noAgent), RowLostDead, ActWait, -1},

		{"L >1 owners, one writes", world(func(in *Inputs) { in.Lease.Conflict = true }), RowConflict, ActAlarm, -1},
		{"L >1 owners, none writes", world(func(in *Inputs) { in.Lease.Conflict = true }, idle), RowConflict, ActAlarm, -1},
	}
}

// Every row of the notes' table, with what a person is told: why, what is awaited, and for how long where anybody can know.
func TestDecide_everyRowOfTheNotes(t *testing.T) {
	t.Parallel()
	for _, tc := range appendixTests() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := Decide(tc.in)
			if d.Row != tc.row || d.Action != tc.action {
				t.Fatalf("%s / %s (%s), want %s / %s", d.Row, d.Action, d.Reason, tc.row, tc.action)
			}
			awaits, left := explained(&tc.in, d)
			if d.Reason == "" || awaits == "" && d.Action != ActNone {
				t.Errorf("why %q, awaits %q", d.Reason, awaits)
			}
			if left != max(tc.left, 0) {
				t.Errorf("%s takes %s, want %s", awaits, left, tc.left)
			}
			if v := violation(tc.in, d); v != "" {
				t.Error(v)
			}
		})
	}
}

// In every picture something is said about what is awaited, unless the role is where it should be.
func TestDecide_neverSilent(t *testing.T) {
	t.Parallel()
	for _, tc := range append(placementTests(), unprotectedTests()...) {
		d := Decide(tc.in)
		if awaits, _ := explained(&tc.in, d); awaits == "" && d.Action != ActNone && d.Action != ActSettle {
			t.Errorf("%s: %s / %s awaits nothing", tc.name, d.Row, d.Action)
		}
	}
}
