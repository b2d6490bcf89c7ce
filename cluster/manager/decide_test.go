package manager

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sec = time.Second

// world is a pool of three well hosts, a holding the lease with version 7 and serving.
func world(change ...func(*Inputs)) Inputs {
	in := Inputs{
		Master: true,
		Lease:  Lease{Known: true, Held: true, Owner: 1, Generation: 4, Version: 7, SeenFor: time.Minute},
		Storage: map[int]Storage{
			1: {Status: Live, Witnesses: 2, Generation: 4, Renewing: true, DeadIn: 9 * sec},
			2: {Status: Live, Witnesses: 2, Generation: 1, Renewing: true},
			3: {Status: Live, Witnesses: 2, Generation: 1, Renewing: true},
		},
		TermAge: time.Minute, ClearFor: time.Minute,
		Policy: DefaultPolicy("dev"),
	}
	for i, name := range []string{"a", "b", "c"} {
		in.Hosts = append(in.Hosts, Host{Name: name, HostID: i + 1, Priority: 5, Reachable: true, Answered: true,
			Role: Role{State: RoleNone}, RoleFor: time.Minute, KeeperOK: true, MasterValid: true, Fenceable: true})
	}
	in.Hosts[0].Role = Role{State: RoleServing, Epoch: 7}
	for _, fn := range change {
		fn(&in)
	}
	return in
}

func free0(in *Inputs) { in.Lease.Held = false; in.Hosts[0].Role = Role{State: RoleNone} }

func lost(d time.Duration) func(*Inputs) {
	return func(in *Inputs) { in.Hosts[0].Reachable, in.Hosts[0].LostFor = false, d }
}

func asked1(d time.Duration) func(*Inputs) {
	return func(in *Inputs) { in.Asked, in.AskedFor = true, d }
}

func status(l Liveness, renewing bool) func(*Inputs) {
	return func(in *Inputs) {
		s := in.Storage[1]
		s.Status, s.Renewing = l, renewing
		in.Storage[1] = s
	}
}

func role(state string, epoch uint64, d time.Duration) func(*Inputs) {
	return func(in *Inputs) { in.Hosts[0].Role, in.Hosts[0].RoleFor = Role{state, epoch}, d }
}

// decideTest is one picture and what follows from it.
type decideTest struct {
	name   string
	in     Inputs
	row    Row
	action Action
	host   string
}

// bare makes the owner unprotected in a pool that waits for proof.
func bare(in *Inputs) { in.Hosts[0].Unprotected, in.Policy.UnprotectedTakeover = true, false }

func unprotectedTests() []decideTest {
	noAgent := func(in *Inputs) { in.Hosts[0].Fenceable = false }
	return []decideTest{
		{"dead, unprotected, no agent", world(lost(time.Hour), status(Dead, false), bare, noAgent), RowUnprotected, ActWait, ""},
		{"dead, unprotected, to be fenced", world(lost(time.Hour), status(Dead, false), bare), RowFence, ActFence, "a"},
		{"dead, unprotected, answers", world(role(RoleNone, 0, time.Minute), status(Dead, false), bare), RowUnprotected, ActWait, ""},
		{"dead, unprotected, says it works", world(status(Dead, false), bare), RowAdopt, ActNone, "a"},
		{"dead, unprotected, proven", world(lost(time.Hour), status(Dead, false), bare, noAgent, func(in *Inputs) { in.Hosts[0].ProofGen = 4 }), RowGone, ActStart, ""},
		{"dead, unprotected, the pool allows it", world(lost(time.Hour), status(Dead, false), bare, func(in *Inputs) { in.Policy.UnprotectedTakeover = true }), RowGone, ActStart, ""},
		{"left, unprotected", world(lost(time.Hour), status(Free, false), bare), RowGone, ActStart, ""},
		{"unprotected, joined anew", world(role(RoleNone, 0, 0), status(Dead, false), bare, func(in *Inputs) { in.Lease.Generation = 3 }), RowGone, ActStart, ""},
		{"dead, protected", world(lost(time.Hour), status(Dead, false), bare, func(in *Inputs) { in.Hosts[0].Unprotected = false }), RowGone, ActStart, ""},
	}
}

// reaches says how many of two active domains the hosts reach, in order.
func reaches(n ...int) func(*Inputs) {
	return func(in *Inputs) {
		in.Active, in.OutreachAfter = 2, sec
		for i := range in.Hosts {
			h := &in.Hosts[i]
			h.Reports, h.Reach, h.Misses = true, n[i], []string{"san1", "san2"}[n[i]:]
		}
	}
}

func outreachFor(d time.Duration) func(*Inputs) { return func(in *Inputs) { in.OutreachFor = d } }

func leaves(i int) func(*Inputs) { return func(in *Inputs) { in.Hosts[i].Leaving = true } }

func renewals(s ...string) func(*Inputs) {
	return func(in *Inputs) {
		for i := range in.Hosts {
			in.Hosts[i].Renewals = s[i]
		}
	}
}

func desired(host string) func(*Inputs) { return func(in *Inputs) { in.Desired.Host = host } }

// placementTests are about where the role should be while somebody has it, and where it goes when nobody has.
func placementTests() []decideTest {
	nobody := func(in *Inputs) { in.Hosts[1].Priority, in.Hosts[2].KeeperOK = -1, false }
	best := func(in *Inputs) { in.Hosts[1].Priority = 9 }
	return []decideTest{
		{"free, the one that reaches more comes before priority", world(free0, reaches(1, 1, 2), best), RowFreeElect, ActStart, "c"},
		{"free, it comes before the operator's wish too", world(free0, reaches(1, 1, 2), desired("b")), RowFreeElect, ActStart, "c"},
		{"free, all reach the same: priority", world(free0, reaches(1, 1, 1), best), RowFreeElect, ActStart, "b"},
		{"free, a leaves", world(free0, leaves(0), func(in *Inputs) { in.Hosts[0].Priority = 10 }, best), RowFreeElect, ActStart, "b"},
		{"goes to maintenance", world(leaves(0)), RowMaintenance, ActStop, "a"},
		{"goes to maintenance, nobody else can", world(leaves(0), nobody), RowAdopt, ActNone, "a"},
		{"goes to maintenance, the only other one leaves too", world(leaves(0), leaves(1), func(in *Inputs) { in.Hosts[2].Priority = -1 }), RowAdopt, ActNone, "a"},
		{"goes to maintenance although it is wanted there", world(leaves(0), desired("a")), RowMaintenance, ActStop, "a"},
		{"reaches less, just now", world(reaches(1, 2, 2), outreachFor(sec/2)), RowAdopt, ActNone, "a"},
		{"reaches less, for long enough", world(reaches(1, 2, 2), outreachFor(sec)), RowOutreach, ActStop, "a"},
		{"reaches less, nobody reaches more", world(reaches(1, 1, 1), outreachFor(time.Hour)), RowAdopt, ActNone, "a"},
		{"reaches less, who reaches more is never SPM", world(reaches(1, 2, 1), outreachFor(time.Hour), func(in *Inputs) { in.Hosts[1].Priority = -1 }), RowAdopt, ActNone, "a"},
		{"reaches all, for ever", world(reaches(2, 2, 2), outreachFor(time.Hour)), RowAdopt, ActNone, "a"},
		{"does not say what it reaches", world(reaches(0, 2, 2), outreachFor(time.Hour), func(in *Inputs) { in.Hosts[0].Reports = false }), RowAdopt, ActNone, "a"},
		{"wanted elsewhere, where less is reached", world(reaches(2, 1, 2), desired("b")), RowAdopt, ActNone, "a"},
		{"wanted elsewhere, another one reaches more", world(reaches(1, 1, 2), desired("b"), outreachFor(sec/2)), RowAdopt, ActNone, "a"},
		{"wanted elsewhere, same reach", world(reaches(1, 1, 1), desired("b")), RowMove, ActStop, "a"},
		{"wanted where nobody is", world(desired("zz")), RowAdopt, ActNone, "a"},
		{"renewals late", world(renewals(RenewalsLate, RenewalsOK, RenewalsOK)), RowAdopt, ActNone, "a"},
		{"renewals fail", world(renewals(RenewalsFailing, RenewalsLate, RenewalsOK)), RowLate, ActStop, "a"},
		{"renewals fail everywhere", world(renewals(RenewalsFailing, RenewalsLate, RenewalsFailing)), RowAdopt, ActNone, "a"},
		{"in maintenance by force, holds the lease, does not answer", world(lost(time.Hour), status(Live, false), asked1(time.Hour), func(in *Inputs) { in.Hosts[0].Maintenance = true }), RowLostDead, ActWait, ""},
	}
}

func TestDecide_table(t *testing.T) {
	t.Parallel()
	tests := append(placementTests(), []decideTest{
		{"no master", world(func(in *Inputs) { in.Master = false }), RowNoMaster, ActWait, ""},
		{"not read yet", world(func(in *Inputs) { in.Lease, in.Looking = Lease{}, true }), RowLooking, ActWait, ""},
		{"unreadable", world(func(in *Inputs) { in.Lease = Lease{} }), RowUnreadable, ActWait, ""},
		{"two owners, writers stop", world(func(in *Inputs) { in.Lease.Conflict = true }), RowConflict, ActAlarm, "a"},
		{"two owners, none writes", world(func(in *Inputs) { in.Lease.Conflict = true }, role(RoleNone, 0, sec)), RowConflict, ActAlarm, ""},
		{"claim without lease", world(func(in *Inputs) { in.Hosts[1].Role = Role{RoleServing, 6} }), RowStaleClaim, ActStop, "b"},
		{"claim without lease, just moved", world(func(in *Inputs) {
			in.Hosts[1].Role = Role{RoleServing, 6}
			in.Lease.SeenFor = time.Millisecond
		}), RowAdopt, ActNone, "a"},
		{"free", world(free0, func(in *Inputs) { in.Hosts[2].Priority = 9 }), RowFreeElect, ActStart, "c"},
		{"free, a never again", world(free0, func(in *Inputs) {
			in.Hosts[0].Priority, in.Hosts[1].MasterValid = -1, false
		}), RowFreeElect, ActStart, "c"},
		{"free, wanted on b", world(free0, func(in *Inputs) {
			in.Hosts[2].Priority, in.Desired.Host = 9, "b"
		}), RowFreeElect, ActStart, "b"},
		{"free, wanted on b, b is lost", world(free0, func(in *Inputs) {
			in.Hosts[2].Priority, in.Desired.Host, in.Hosts[1].Reachable = 9, "b", false
		}), RowFreeElect, ActStart, "c"},
		{"free, best one failed lately", world(free0, func(in *Inputs) {
			in.Hosts[2].Priority, in.Hosts[2].Failures = 9, 1
			in.Hosts[0].Priority = 6
		}), RowFreeElect, ActStart, "a"},
		{"free, stopped", world(free0, func(in *Inputs) { in.Desired.Stopped = true }), RowFreeStopped, ActNone, ""},
		{"free, b starts", world(free0, func(in *Inputs) {
			in.Hosts[1].Role, in.Hosts[1].RoleFor = Role{RoleStarting, 0}, sec/10
		}), RowFreeStarting, ActWait, "b"},
		{"free, nobody fit", world(free0, func(in *Inputs) {
			for i := range in.Hosts {
				in.Hosts[i].KeeperOK = false
			}
		}), RowFreeNobody, ActWait, ""},
		{"free, all in back-off", world(free0, func(in *Inputs) {
			for i := range in.Hosts {
				in.Hosts[i].RetryIn = sec
			}
		}), RowFreeNobody, ActWait, ""},
		{"free, term too young", world(free0, func(in *Inputs) {
			in.TermAge = time.Millisecond
			in.Hosts[1].Reachable, in.Hosts[2].Reachable = false, false
		}), RowFreeNobody, ActWait, ""},
		{"dead", world(lost(sec), status(Dead, false)), RowGone, ActStart, ""},
		{"left", world(lost(sec), status(Free, false)), RowGone, ActStart, ""},
		{"older generation", world(role(RoleNone, 0, 0), func(in *Inputs) { in.Lease.Generation = 3 }), RowGone, ActStart, ""},
		{"others not up to date", world(status(Free, false)), RowAdopt, ActNone, "a"},
		{"foreign owner", world(func(in *Inputs) {
			in.Lease.Owner, in.Storage[9] = 9, Storage{Status: Live, Witnesses: 2, Generation: 4}
			in.Hosts[0].Role.State = RoleNone
		}), RowLostDead, ActWait, ""},
		{"proof", world(lost(sec), status(Live, false), func(in *Inputs) { in.Hosts[0].ProofGen = 4 }), RowProof, ActFree, "a"},
		{"proof of another generation", world(lost(sec/2), status(Live, false), func(in *Inputs) { in.Hosts[0].ProofGen = 3 }), RowGrace, ActWait, ""},
		{"adopt", world(), RowAdopt, ActNone, "a"},
		{"adopt, lease not judged yet", world(status(Unknown, false)), RowAdopt, ActNone, "a"},
		{"settle", world(func(in *Inputs) { in.Desired.Host = "a" }), RowAdopt, ActSettle, "a"},
		{"unwanted", world(func(in *Inputs) { in.Desired.Stopped = true }), RowUnwanted, ActStop, "a"},
		{"move", world(func(in *Inputs) { in.Desired.Host = "b" }), RowMove, ActStop, "a"},
		{"move to a host that cannot", world(func(in *Inputs) {
			in.Desired.Host, in.Hosts[1].MasterValid = "b", false
		}), RowAdopt, ActNone, "a"},
		{"move to a stranger", world(func(in *Inputs) { in.Desired.Host = "zz" }), RowAdopt, ActNone, "a"},
		{"hand over", world(func(in *Inputs) { in.Hosts[0].MasterValid = false }), RowHandOver, ActStop, "a"},
		{"new master, not looked at yet", world(func(in *Inputs) { in.Hosts[0].MasterValid, in.Hosts[0].MasterOwed = false, true }), RowAdopt, ActNone, "a"},
		{"starting", world(role(RoleStarting, 0, sec/10)), RowChanging, ActWait, ""},
		{"stopping", world(role(RoleStopping, 7, sec/10)), RowChanging, ActWait, ""},
		{"stuck in starting", world(role(RoleStarting, 0, time.Hour)), RowStaleOwner, ActStop, "a"},
		{"stale owner, first look", world(role(RoleNone, 0, time.Millisecond)), RowStaleOwner, ActWait, ""},
		{"stale owner", world(role(RoleNone, 0, time.Minute)), RowStaleOwner, ActStop, "a"},
		{"failing", world(status(Fail, false)), RowFailing, ActWait, ""},
		{"keeper gone", world(role(RoleNone, 0, time.Minute), func(in *Inputs) { in.Hosts[0].KeeperOK = false }), RowFailing, ActWait, ""},
		{"unknown", world(status(Unknown, false), role(RoleNone, 0, time.Minute)), RowUnknown, ActWait, ""},
		{"ask through storage", world(lost(sec)), RowYield, ActYield, "a"},
		{"ask through storage, not judged yet", world(lost(sec), status(Unknown, false)), RowYield, ActYield, "a"},
		{"asked", world(lost(sec), asked1(sec)), RowAsked, ActWait, ""},
		{"asked in vain", world(lost(8*sec), asked1(5*sec)), RowLostAlive, ActWait, ""},
		{"asked in vain, silent", world(lost(8*sec), status(Live, false), asked1(5*sec)), RowFence, ActFence, "a"},
		{"wanted elsewhere, asked at once", world(lost(sec/10), func(in *Inputs) { in.Desired.Host = "b" }), RowYield, ActYield, "a"},
		{"stopped, asked at once", world(lost(sec/10), func(in *Inputs) { in.Desired.Stopped = true }), RowYield, ActYield, "a"},
		{"failing is not asked", world(lost(2*sec), status(Fail, false)), RowGrace, ActWait, ""},
		{"grace", world(lost(sec/10), status(Live, false)), RowGrace, ActWait, ""},
		{"grace, longer for what it uses", world(lost(8*sec), asked1(5*sec), status(Live, false), func(in *Inputs) {
			in.Policy.GracePerUse, in.Hosts[0].Uses = sec, 20
		}), RowGrace, ActWait, ""},
		{"storage silent, not long enough", world(lost(2*sec), asked1(5*sec), status(Live, false)), RowGrace, ActWait, ""},
		{"storage silent", world(lost(8*sec), asked1(5*sec), status(Live, false)), RowFence, ActFence, "a"},
		{"failing and silent", world(lost(8*sec), status(Fail, false)), RowFence, ActFence, "a"},
		{"power is off", world(lost(sec/10), status(Live, true), func(in *Inputs) { in.Hosts[0].Power = PowerOff }), RowFence, ActFence, "a"},
		{"alive on storage", world(lost(2*sec), asked1(5*sec)), RowLostAlive, ActWait, ""},
		{"alive on storage, too long", world(lost(time.Hour), asked1(5*sec)), RowFence, ActFence, "a"},
		{"alive on storage, never fenced", world(lost(time.Hour), asked1(5*sec), func(in *Inputs) { in.Policy.FenceLiveAfter = 0 }), RowLostAlive, ActWait, ""},
		{"no agent", world(lost(time.Hour), asked1(5*sec), func(in *Inputs) { in.Hosts[0].Fenceable = false }), RowLostDead, ActWait, ""},
		{"fenced a moment ago", world(lost(time.Hour), asked1(5*sec), func(in *Inputs) { in.Hosts[0].FenceIn = sec }), RowGrace, ActWait, ""},
		{"disarmed", world(lost(time.Hour), asked1(5*sec), status(Live, false), func(in *Inputs) { in.DisarmedFor = sec }), RowDisarmed, ActWait, ""},
		{"switched off", world(lost(time.Hour), asked1(5*sec), status(Live, false), func(in *Inputs) { in.Policy.Fencing = false }), RowDisarmed, ActWait, ""},
		{"live, and the policy does not care", world(lost(2*sec), asked1(5*sec), func(in *Inputs) { in.Policy.SkipIfLive = false }), RowFence, ActFence, "a"},
		{"one lost, one in maintenance answers", world(lost(time.Hour), asked1(5*sec), status(Live, false), func(in *Inputs) { in.Hosts[1].Maintenance = true }), RowFence, ActFence, "a"},
		{"one lost, one in maintenance is off", world(lost(time.Hour), asked1(5*sec), status(Live, false), func(in *Inputs) {
			in.Hosts[1].Maintenance, in.Hosts[1].Reachable = true, false
		}), RowHold, ActWait, ""},
		{"most lost, and the policy does not care", world(lost(time.Hour), asked1(5*sec), status(Live, false), func(in *Inputs) {
			in.Hosts[1].Reachable, in.Policy.SkipIfHalfDead = false, false
		}), RowFence, ActFence, "a"},
		{"most lost", world(lost(time.Hour), asked1(5*sec), status(Live, false), func(in *Inputs) { in.Hosts[1].Reachable = false }), RowHold, ActWait, ""},
	}...)
	tests = append(tests, unprotectedTests()...)
	tests = append(tests, waitingTests()...)
	seen := map[Row]bool{}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			d := Decide(tc.in)
			if d.Row != tc.row || d.Action != tc.action || (tc.host != "" && d.Host != tc.host) {
				t.Fatalf("got %s / %s / %q (%s), want %s / %s / %q", d.Row, d.Action, d.Host, d.Reason, tc.row, tc.action, tc.host)
			}
			if d.Reason == "" || (d.Action == ActWait && d.Awaits == "") {
				t.Fatalf("a decision without an explanation: %+v", d)
			}
			if v := violation(tc.in, d); v != "" {
				t.Fatalf("%s: %+v", v, d)
			}
		})
		seen[tc.row] = true
	}
	for _, r := range allRows {
		if !seen[r] {
			t.Errorf("row %q has no test", r)
		}
	}
}

// waitingTests are about what is waited for before anybody is fenced, besides the host's own silence.
func waitingTests() []decideTest {
	clear := func(d time.Duration) func(*Inputs) { return func(in *Inputs) { in.ClearFor = d } }
	other := func(change func(h *Host)) func(*Inputs) { return func(in *Inputs) { change(&in.Hosts[1]) } }
	unasked := other(func(h *Host) { h.Reachable, h.Unasked = false, true })
	off := func(in *Inputs) { in.Hosts[0].Power = PowerOff }
	silentFor := func(d time.Duration) func(*Inputs) { return func(in *Inputs) { in.Hosts[0].SilentFor = d } }
	still := func(d time.Duration) func(*Inputs) {
		return func(in *Inputs) { s := in.Storage[1]; s.Still = d; in.Storage[1] = s }
	}
	doom := func(in *Inputs) { in.Hosts[0].Doomed = true }
	return []decideTest{
		{"most were silent a moment ago", world(lost(time.Hour), asked1(5*sec), status(Live, false), clear(sec/2)), RowGrace, ActWait, ""},
		{"most were silent a grace time ago", world(lost(time.Hour), asked1(5*sec), status(Live, false), clear(sec)), RowFence, ActFence, "a"},
		{"most were silent a moment ago, and its switch says off", world(lost(time.Hour), status(Live, false), off, clear(0)), RowFence, ActFence, "a"},
		{"another one was not asked yet", world(lost(sec*2), asked1(5*sec), status(Live, false), unasked), RowGrace, ActWait, ""},
		{"another one was not asked yet, and its switch says off", world(lost(sec/10), status(Live, false), off, unasked), RowGrace, ActWait, ""},
		{"another one was not asked yet, in maintenance", world(lost(time.Hour), asked1(5*sec), status(Live, false), unasked,
			other(func(h *Host) { h.Maintenance = true }), func(in *Inputs) { in.Hosts = append(in.Hosts, Host{Name: "d", HostID: 4, Reachable: true}) }),
			RowFence, ActFence, "a"},
		{"renews, silent for long under another leader", world(lost(2*sec), asked1(5*sec), silentFor(13*sec)), RowFence, ActFence, "a"},
		{"renews, silent for less under another leader", world(lost(2*sec), asked1(5*sec), silentFor(11*sec)), RowLostAlive, ActWait, ""},
		{"renews, silent for long under another leader, and not for a grace time under this one", world(lost(sec/2), asked1(5*sec), silentFor(time.Hour)),
			RowGrace, ActWait, ""},
		{"does not renew, as a keeper knows", world(lost(sec), asked1(5*sec), status(Live, false), still(9*sec)), RowFence, ActFence, "a"},
		{"does not renew, as a keeper knows, and no grace time has passed", world(lost(sec/2), asked1(5*sec), status(Live, false), still(time.Hour)),
			RowGrace, ActWait, ""},
		{"does not renew, as a keeper does not know yet", world(lost(sec), asked1(5*sec), status(Live, false), still(5*sec)), RowGrace, ActWait, ""},
		{"a person switches it off", world(doom), RowDoomed, ActStop, "a"},
		{"a person switches it off, and nobody else can take the role", world(doom, func(in *Inputs) {
			in.Hosts[1].MasterValid, in.Hosts[2].KeeperOK = false, false
		}), RowAdopt, ActNone, ""},
		{"a person switches the best candidate off", world(free0, func(in *Inputs) { in.Hosts[0].Doomed, in.Hosts[1].Doomed = true, true }), RowFreeElect, ActStart, "c"},
	}
}

var allRows = []Row{RowNoMaster, RowLooking, RowUnreadable, RowConflict, RowStaleClaim, RowFreeStopped, RowFreeStarting, RowFreeElect,
	RowFreeNobody, RowGone, RowProof, RowAdopt, RowUnwanted, RowMove, RowHandOver, RowMaintenance, RowDoomed, RowOutreach, RowLate, RowChanging, RowStaleOwner, RowFailing,
	RowUnknown, RowYield, RowAsked, RowGrace, RowLostAlive, RowLostDead, RowFence, RowHold, RowUnprotected, RowDisarmed}
