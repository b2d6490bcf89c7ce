package manager

import (
	"fmt"
	"time"
)

// Action is what the leader does next about the SPM role. There is at most one at a time.
type Action string

// Actions of a Decision.
const (
	ActNone   Action = "none"   // all is as it should be
	ActWait   Action = "wait"   // nothing may be done yet; Awaits says for what
	ActStart  Action = "start"  // StartSPM(Host, Expect)
	ActStop   Action = "stop"   // StopSPM(Host): hand over, release, or because the operator wants it
	ActYield  Action = "yield"  // ask the holder through the storage to hand over
	ActFence  Action = "fence"  // off, confirmed, proof
	ActFree   Action = "free"   // FreeHost on disk after a proof
	ActSettle Action = "settle" // the wish "host:NAME" is fulfilled and is taken back
	ActAlarm  Action = "alarm"  // two owners: all writers stop, a person must look
)

// Row names the line of the decision table that applied.
type Row string

// Rows of the decision table in DESIGN.md.
const (
	RowNoMaster     Row = "no master"
	RowLooking      Row = "lease not read yet"
	RowUnreadable   Row = "lease unreadable on all hosts"
	RowConflict     Row = "two owners"
	RowStaleClaim   Row = "claim without lease"
	RowFreeStopped  Row = "free, stopped by the operator"
	RowFreeStarting Row = "free, start under way"
	RowFreeElect    Row = "free, elect"
	RowFreeNobody   Row = "free, no candidate"
	RowGone         Row = "owner dead, free or of an older generation"
	RowProof        Row = "owner proven dead"
	RowAdopt        Row = "live, serving"
	RowUnwanted     Row = "live, serving, stopped by the operator"
	RowMove         Row = "live, serving, wanted elsewhere"
	RowHandOver     Row = "live, serving, master not valid"
	RowMaintenance  Row = "live, serving, its host goes to maintenance"
	RowDoomed       Row = "live, serving, a person switches its host off"
	RowOutreach     Row = "live, serving, another host reaches more"
	RowLate         Row = "live, serving, renewals fail"
	RowChanging     Row = "live, starting or stopping"
	RowStaleOwner   Row = "live, but not in the role"
	RowFailing      Row = "reachable, lease failing"
	RowUnknown      Row = "reachable, lease state unknown"
	RowYield        Row = "unreachable, ask through storage"
	RowAsked        Row = "unreachable, asked through storage"
	RowGrace        Row = "unreachable, grace"
	RowLostAlive    Row = "unreachable, renews on storage"
	RowLostDead     Row = "unreachable, awaiting dead"
	RowFence        Row = "unreachable, fence"
	RowHold         Row = "most hosts unreachable"
	RowDisarmed     Row = "unreachable, fencing disarmed"
	RowUnprotected  Row = "owner dead by its lease, unprotected, not proven"
)

// Decision is the answer of Decide, with its explanation.
type Decision struct {
	Action     Action
	Row        Row
	Host       string
	HostID     int
	Generation uint64
	Expect     uint64 // lease version that must still be on disk when the action starts
	Epoch      uint64 // for ActStop: the epoch that is to end; 0 any
	Holder     string // who holds the lease, as far as known
	Reason     string
	Cause      string // for ActStop: why the role moves, as spm.moved says it
	Awaits     string
	In         time.Duration // countdown of Awaits; 0 unknown
}

// Decide is the decision table "who should be SPM". It is pure. It decides who should; the lease decides who may.
func Decide(in Inputs) Decision {
	switch {
	case !in.Master:
		return wait(RowNoMaster, "the pool has no master domain yet", "a first data domain", 0)
	case in.Lease.Conflict:
		return conflict(&in)
	case !in.Lease.Known && in.Looking:
		return wait(RowLooking, "the lease is being read, after the last change or for the first time", "a look at the disk", 0)
	case !in.Lease.Known:
		return wait(RowUnreadable, "no host can read the SPM lease", "the master domain to be readable", 0)
	}
	if d, ok := staleClaim(&in); ok {
		return d
	}
	if !in.Lease.Held {
		return free(&in, RowFreeElect, "nobody holds the lease")
	}
	d := held(&in)
	if d.Holder == "" {
		d.Holder = in.ownerName()
	}
	return d
}

// wait makes a decision to do nothing yet.
func wait(row Row, reason, awaits string, in time.Duration) Decision {
	return Decision{Action: ActWait, Row: row, Reason: reason, Awaits: awaits, In: max(in, 0)}
}

// conflict stops every host that claims the role, one at a time, and calls a person.
func conflict(in *Inputs) Decision {
	why := "witnesses disagree about the owner of one lease version"
	for _, h := range in.Hosts {
		if h.Reachable && h.Role.State != RoleNone {
			return Decision{Action: ActAlarm, Row: RowConflict, Host: h.Name, HostID: h.HostID, Epoch: h.Role.Epoch,
				Reason: why + ": every writer is stopped", Awaits: h.Name + " to stop"}
		}
	}
	return Decision{Action: ActAlarm, Row: RowConflict, Reason: why + ": check the device paths of every host by hand",
		Awaits: "a person: the hosts have to see the same master domain"}
}

// staleClaim finds a host that says it serves while the lease says otherwise, for longer than answers can be late.
func staleClaim(in *Inputs) (Decision, bool) {
	if in.Lease.SeenFor < in.Policy.ReleaseAfter {
		return Decision{}, false
	}
	for _, h := range in.Hosts {
		owner := in.Lease.Held && in.Lease.Owner == h.HostID
		if owner || !h.Reachable || h.Role.State != RoleServing || h.RoleFor < in.Policy.ReleaseAfter {
			continue
		}
		return Decision{Action: ActStop, Row: RowStaleClaim, Host: h.Name, HostID: h.HostID, Epoch: h.Role.Epoch,
			Reason: "it says it is SPM and does not hold the lease"}, true
	}
	return Decision{}, false
}

// free decides when the lease can be had.
func free(in *Inputs, row Row, why string) Decision {
	if in.Desired.Stopped {
		return Decision{Action: ActNone, Row: RowFreeStopped, Reason: "stopped by the operator", Awaits: "spm start"}
	}
	for _, h := range in.Hosts {
		if h.Reachable && h.Role.State == RoleStarting && h.RoleFor < in.Policy.StartTimeout {
			return Decision{Action: ActWait, Row: RowFreeStarting, Host: h.Name, Reason: h.Name + " is starting the role",
				Awaits: "the start to end", In: in.Policy.StartTimeout - h.RoleFor}
		}
	}
	if !in.majorityKnown() {
		return wait(RowFreeNobody, why, "answers of the hosts", in.Policy.Grace-in.TermAge)
	}
	c, retry := candidates(in)
	if len(c) == 0 {
		return wait(RowFreeNobody, why+" and no host can take the role", nobodyAwaits(retry), retry)
	}
	return Decision{Action: ActStart, Row: row, Host: c[0].Name, HostID: c[0].HostID, Expect: in.Lease.Version,
		Reason: why + "; " + chosen(in, c)}
}

// chosen says why the best candidate is it.
func chosen(in *Inputs, c []Host) string {
	if len(c) == 1 {
		return c[0].Name + " is the only host that can take the role"
	}
	return fmt.Sprintf("%s comes first of %d hosts (%s)", c[0].Name, len(c), merits(in, &c[0]))
}

// nobodyAwaits says what an election without candidates waits for.
func nobodyAwaits(retry time.Duration) string {
	if retry > 0 {
		return "the back-off after failed starts"
	}
	return "a host that is up, with a working keeper and a readable master domain"
}

// held decides while the lease has an owner.
func held(in *Inputs) Decision {
	x, s := in.byID(in.Lease.Owner), in.Storage[in.Lease.Owner]
	if d, ok := unprotected(in, x, s); ok {
		return d
	}
	if gone(in, s) && !inRole(x) {
		return free(in, RowGone, fmt.Sprintf("the owner, %s, is %s", in.ownerName(), goneWord(in, s)))
	}
	if x == nil {
		return wait(RowLostDead, fmt.Sprintf("host id %d, not a member, holds the lease", in.Lease.Owner),
			"its lease to be dead", s.DeadIn)
	}
	if x.ProofGen != 0 && x.ProofGen == in.Lease.Generation {
		return Decision{Action: ActFree, Row: RowProof, Host: x.Name, HostID: x.HostID, Generation: x.ProofGen,
			Reason: x.Name + " is proven dead"}
	}
	if !x.Reachable {
		return unreachable(in, x, s)
	}
	return reachable(in, x, s)
}

// inRole reports whether the owner itself says that it has the role and a keeper that renews. Its word is younger
// than what the others read of its slot at their last renewal; if it is wrong, its guard stops it anyway.
func inRole(x *Host) bool {
	return x != nil && x.Reachable && x.KeeperOK && x.Role.State != RoleNone
}

// gone reports whether the lockspace says that the owner cannot write any more. Any sanlock would grant the lease.
func gone(in *Inputs, s Storage) bool {
	if s.Witnesses == 0 {
		return false
	}
	differs := s.Generation != 0 && in.Lease.Generation != 0 && s.Generation != in.Lease.Generation
	return s.Status == Dead || s.Status == Free || differs
}

// goneWord says in which way.
func goneWord(in *Inputs, s Storage) string {
	if s.Status == Dead || s.Status == Free {
		return string(s.Status)
	}
	return fmt.Sprintf("back as generation %d and held it as %d", s.Generation, in.Lease.Generation)
}

// ownerName names the lease's owner for people.
func (in *Inputs) ownerName() string {
	if h := in.byID(in.Lease.Owner); h != nil {
		return h.Name
	}
	return fmt.Sprintf("host id %d", in.Lease.Owner)
}
