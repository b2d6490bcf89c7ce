package manager

import "time"

// fenceWait says whether an unreachable host may be fenced now (RowFence), or which row says why not and for how long.
// The order matters: what keeps from fencing comes first, except a power switch that already says off.
func fenceWait(in *Inputs, x *Host, s Storage) (row Row, left time.Duration, why string) {
	p, lost := in.Policy, x.LostFor
	grace := p.graceOf(x, in.Lease.Held && in.Lease.Owner == x.HostID)
	switch still := max(lost, s.Still); {
	case x.Fenceable && !p.Fencing:
		return RowDisarmed, 0, x.Name + " does not answer, and fencing is switched off"
	case x.Fenceable && in.DisarmedFor > 0:
		return RowDisarmed, in.DisarmedFor, x.Name + " does not answer, and " + p.disarmedWords()
	case x.Fenceable && in.unasked():
		return RowGrace, max(grace-lost, 0), x.Name + " does not answer, and not every host has been asked yet"
	case x.Fenceable && x.Power == PowerOff && x.FenceIn == 0 && !in.mostLost():
		return RowFence, 0, x.Name + " does not answer and its power switch says off"
	case lost < grace:
		return RowGrace, grace - lost, x.Name + " does not answer"
	case !x.Fenceable:
		return RowLostDead, 0, x.Name + " does not answer and has no fence agent"
	case in.mostLost():
		return RowHold, 0, "at least half the hosts do not answer: nobody is fenced from here"
	case in.ClearFor < grace: // what was silent with the others may come back with them
		return RowGrace, grace - in.ClearFor, x.Name + " does not answer; until a short time ago nobody was to be fenced"
	case p.keepsLive(s, x.silence()):
		return RowLostAlive, max(p.FenceLiveAfter-x.silence(), 0), x.Name + " does not answer but renews its lease on storage"
	case !s.Renewing && still < p.SilentAfter:
		return RowGrace, p.SilentAfter - still, x.Name + " does not answer; storage does not tell yet whether it lives"
	case x.FenceIn > 0:
		return RowGrace, x.FenceIn, x.Name + " was fenced a short time ago"
	}
	return RowFence, 0, x.Name + " does not answer"
}

// DecideFence names a host that does not own the lease and should be fenced, or freed after a proof, or false. Pure, like Decide.
// A host that left the lockspace cleanly or is dead there needs no fencing: its id is free. Unless it is dead by the clock alone.
func DecideFence(in Inputs) (Decision, bool) {
	if all := decideFences(in); len(all) > 0 {
		return all[0], true
	}
	return Decision{}, false
}

// decideFences names all of them: one that hangs in its operation holds up no other.
func decideFences(in Inputs) []Decision {
	if !in.Policy.FenceOthers {
		return nil
	}
	var all []Decision
	for i := range in.Hosts {
		if d, ok := decideFence(&in, &in.Hosts[i]); ok {
			all = append(all, d)
		}
	}
	return all
}

func decideFence(in *Inputs, h *Host) (Decision, bool) {
	s := in.Storage[h.HostID]
	owner := in.Lease.Held && in.Lease.Owner == h.HostID
	alive := s.Status == Live || s.Status == Fail || s.Status == Unknown || s.Status == Dead && mayStillWrite(in, h)
	if h.Reachable || h.Maintenance || owner || !alive || h.LostFor < in.Policy.Grace {
		return Decision{}, false
	}
	if h.ProofGen != 0 && h.ProofGen == s.Generation {
		return Decision{Action: ActFree, Row: RowProof, Host: h.Name, HostID: h.HostID, Generation: h.ProofGen,
			Reason: h.Name + " is proven dead"}, true
	}
	if row, _, why := fenceWait(in, h, s); row == RowFence {
		return Decision{Action: ActFence, Row: row, Host: h.Name, HostID: h.HostID, Generation: s.Generation, Reason: why}, true
	}
	return Decision{}, false
}

// mayStillWrite tells whether nothing has reset the machine of a host whose lease is dead, and nothing proves that it is off.
func mayStillWrite(in *Inputs, h *Host) bool {
	return h.Unprotected && !in.Policy.UnprotectedTakeover && h.Fenceable && h.ProofGen == 0
}
