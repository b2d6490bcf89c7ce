package manager

import (
	"fmt"
	"strings"
	"time"
)

// States of the role, as hosts and the mirror name them.
const (
	RoleNone     = "none"
	RoleStarting = "starting"
	RoleServing  = "serving"
	RoleStopping = "stopping"
)

// reachable decides about an owner that answers.
func reachable(in *Inputs, x *Host, s Storage) Decision {
	switch {
	case s.Status == Fail:
		return wait(RowFailing, x.Name+" cannot renew its lease and stops by itself", "its lease to be dead", s.DeadIn)
	case !x.KeeperOK && x.Role.State == RoleNone:
		return wait(RowFailing, x.Name+" has lost its lease keeper", "its keeper to be back, or its lease to be dead", s.DeadIn)
	case s.Status == Live || x.Role.State != RoleNone:
		return live(in, x)
	}
	return wait(RowUnknown, "the state of "+x.Name+"'s lease is not known yet", "two renewals", in.Policy.SilentAfter)
}

// live decides about an owner that answers and renews.
func live(in *Inputs, x *Host) Decision {
	switch {
	case x.Role.State == RoleServing && x.Role.Epoch == in.Lease.Version:
		return serving(in, x)
	case x.Role.State == RoleStarting && x.RoleFor < in.Policy.StartTimeout:
		return wait(RowChanging, x.Name+" is starting the role", "the start to end", in.Policy.StartTimeout-x.RoleFor)
	case x.Role.State == RoleStopping && x.RoleFor < in.Policy.StopTimeout:
		return wait(RowChanging, x.Name+" is stopping the role", "the stop to end", in.Policy.StopTimeout-x.RoleFor)
	}
	if quiet := min(x.RoleFor, in.Lease.SeenFor); quiet < in.Policy.ReleaseAfter {
		return wait(RowStaleOwner, x.Name+" holds the lease and is not in the role", "a second look", in.Policy.ReleaseAfter-quiet)
	}
	return Decision{Action: ActStop, Row: RowStaleOwner, Host: x.Name, HostID: x.HostID,
		Reason: fmt.Sprintf("%s holds the lease and says its role is %s: asked to release", x.Name, x.Role.State)}
}

// unprotected decides about an owner whose lease is dead, but whose machine nothing has reset: what it had on its way may
// still land, so its death by the clock is no proof. A host that left, or that has joined anew since, is another matter.
func unprotected(in *Inputs, x *Host, s Storage) (Decision, bool) {
	switch {
	case x == nil || !x.Unprotected || in.Policy.UnprotectedTakeover || inRole(x):
		return Decision{}, false
	case s.Witnesses == 0 || s.Status != Dead || s.Generation != 0 && in.Lease.Generation != 0 && s.Generation != in.Lease.Generation:
		return Decision{}, false
	case x.ProofGen != 0 && x.ProofGen == in.Lease.Generation:
		return Decision{}, false // proven
	}
	if !x.Reachable && x.Fenceable {
		return unreachable(in, x, s), true // until it is fenced
	}
	return wait(RowUnprotected, x.Name+"'s lease is dead, but no watchdog resets its machine: it may still write",
		"a proof: fencing, or a person's word (holdfast host confirm-rebooted "+x.Name+")", 0), true
}

// serving decides about an SPM that works.
func serving(in *Inputs, x *Host) Decision {
	stop := Decision{Action: ActStop, Host: x.Name, HostID: x.HostID, Epoch: x.Role.Epoch}
	switch {
	case in.Desired.Stopped:
		stop.Row, stop.Reason, stop.Cause = RowUnwanted, "stopped by the operator", MovedOperator
		return stop
	case !x.MasterValid && !x.MasterOwed:
		stop.Row, stop.Reason, stop.Cause = RowHandOver, x.Name+" cannot read the master domain", MovedMaster
		return stop
	case x.Leaving || x.Doomed:
		return leave(in, x, stop)
	}
	if d, ok := handLate(in, x, stop); ok {
		return d
	}
	if d, ok := handOutreach(in, x, stop); ok {
		return d
	}
	switch in.Desired.Host {
	case "":
		return keep(in, x)
	case x.Name:
		return Decision{Action: ActSettle, Row: RowAdopt, Host: x.Name, HostID: x.HostID, Epoch: x.Role.Epoch,
			Reason: "the role is where the operator wants it"}
	}
	return move(in, x, stop)
}

// keep leaves the role where it is.
func keep(_ *Inputs, x *Host) Decision {
	return Decision{Action: ActNone, Row: RowAdopt, Host: x.Name, HostID: x.HostID, Epoch: x.Role.Epoch,
		Reason: "it holds the lease and serves"}
}

// leave moves the role off a host that goes to maintenance, or that a person has switched off. It stays as long as nobody else can have it: a pool without SPM is worse.
func leave(in *Inputs, x *Host, stop Decision) Decision {
	c, retry := candidates(in)
	stop.Row, stop.Cause, stop.Reason = RowMaintenance, MovedMaintenance, x.Name+" goes to maintenance"
	if x.Doomed {
		stop.Row, stop.Cause, stop.Reason = RowDoomed, MovedOperator, "a person has "+x.Name+" switched off"
	}
	if len(c) > 0 {
		return stop
	}
	d := keep(in, x)
	d.Reason += "; " + stop.Reason + ", and no other host can take the role"
	d.Awaits, d.In = nobodyAwaits(retry), retry
	return d
}

// move stops x when the wanted host could take over at once, and would be chosen; the role never leaves a working host for a broken
// one, nor for one that reaches less.
func move(in *Inputs, x *Host, stop Decision) Decision {
	y := in.byName(in.Desired.Host)
	c, _ := candidates(in)
	var why string
	switch {
	case y == nil:
		why = in.Desired.Host + " to be a member"
	case y.Reach < x.Reach:
		why = fmt.Sprintf("%s to reach as much as %s: it cannot reach %s", y.Name, x.Name, strings.Join(y.Misses, ", "))
	case unfit(y) != "":
		why = fmt.Sprintf("%s to be able to take the role: %s", y.Name, unfit(y))
	case y.RetryIn > 0 || len(c) == 0:
		why = "the back-off of " + y.Name + " after failed starts"
	case c[0].Name != y.Name:
		why = fmt.Sprintf("%s to reach as much as %s: it cannot reach %s", y.Name, c[0].Name, strings.Join(y.Misses, ", "))
	default:
		stop.Row, stop.Reason, stop.Cause = RowMove, "the operator moves the role to "+y.Name, MovedOperator
		return stop
	}
	d := keep(in, x)
	d.Awaits = why
	if y != nil {
		d.In = y.RetryIn
	}
	return d
}

// unreachable decides about an owner that does not answer and whose lease is not dead yet.
func unreachable(in *Inputs, x *Host, s Storage) Decision {
	row, left, why := fenceWait(in, x, s)
	if d, ok := askFirst(in, x, s, why); ok {
		return d
	}
	switch {
	case x.Maintenance:
		return wait(RowLostDead, x.Name+" is in maintenance and is not fenced", "its lease to be dead", s.DeadIn)
	case row == RowFence:
		return Decision{Action: ActFence, Row: RowFence, Host: x.Name, HostID: x.HostID, Generation: in.Lease.Generation, Reason: why}
	case row == RowLostDead:
		awaits, left := deathOf(in, x, s)
		return wait(row, why, awaits, left)
	case row == RowHold || row == RowDisarmed && left == 0:
		awaits, left := deathOf(in, x, s)
		return wait(row, why, "the host to answer, or "+awaits, left)
	default:
		return wait(row, why, "the host to answer", left)
	}
}

// deathOf is what ends the wait for an owner that is not fenced, and how long that takes if it stays silent. A host that renews does not die.
func deathOf(in *Inputs, x *Host, s Storage) (string, time.Duration) {
	switch {
	case x.Unprotected && !in.Policy.UnprotectedTakeover:
		return "a proof that it is off, or a person's word (holdfast host confirm-rebooted " + x.Name + "): no watchdog resets its machine", 0
	case s.Renewing && s.Status == Live:
		return "its lease to be dead, which it renews", 0
	}
	return "its lease to be dead", s.DeadIn
}
