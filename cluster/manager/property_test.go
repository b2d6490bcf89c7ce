package manager

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// violation is the checker: it judges a decision without knowing how it was made. Empty means that it is safe.
func violation(in Inputs, d Decision) string {
	owner, s := in.byID(in.Lease.Owner), in.Storage[in.Lease.Owner]
	h := in.byName(d.Host)
	switch d.Action {
	case ActStart:
		return startViolation(in, h, owner, s, d)
	case ActFence:
		switch {
		case h == nil || h.Reachable:
			return "fences a host that answers"
		case !h.Fenceable || h.FenceIn > 0:
			return "fences without agent or within the quiet time"
		case h.Power != PowerOff && in.Lease.Held && in.Lease.Owner == h.HostID && s.Status == Live && (!in.Asked || in.AskedFor < in.Policy.YieldWait):
			return "fences the holder before it was asked through the storage"
		case h.Power != PowerOff && h.LostFor < in.Policy.Grace:
			return "fences within the grace time"
		case h.Power != PowerOff && in.ClearFor < in.Policy.Grace:
			return "fences before a grace time has passed since it was allowed"
		case notAsked(in):
			return "fences without having asked everybody"
		case !in.Policy.Fencing || in.DisarmedFor > 0:
			return "fences although that is forbidden"
		case h.Power != PowerOff && in.Policy.SkipIfLive && in.Storage[h.HostID].Renewing && (in.Policy.FenceLiveAfter == 0 || max(h.LostFor, h.SilentFor) < in.Policy.FenceLiveAfter):
			return "fences a host that is alive on storage"
		case in.Policy.SkipIfHalfDead && halfSilent(in):
			return "a minority fences"
		case h.Maintenance:
			return "fences a host in maintenance"
		}
	case ActFree:
		if h == nil || h.ProofGen == 0 || h.ProofGen != d.Generation {
			return "frees a host without proof of this generation"
		}
	case ActYield:
		wished := in.Desired.Stopped || in.Desired.Host != "" && in.Desired.Host != d.Host
		switch {
		case h == nil || h.Reachable || !in.Lease.Held || in.Lease.Owner != h.HostID:
			return "asks a host through the storage that answers or holds nothing"
		case h.LostFor < in.Policy.YieldAfter && !wished:
			return "asks at the first missed answer"
		case in.Asked:
			return "asks again and again"
		case d.Expect != in.Lease.Version:
			return "asks for another version"
		}
	case ActStop:
		if h == nil || !h.Reachable {
			return "stops a host that does not answer"
		}
		return moveViolation(in, h, d)
	}
	return ""
}

// moveViolation judges a hand-over that nothing forces: there must be somebody for it, and what is reached must not become less.
func moveViolation(in Inputs, x *Host, d Decision) string {
	if d.Row != RowMove && d.Row != RowMaintenance && d.Row != RowDoomed && d.Row != RowOutreach && d.Row != RowLate {
		return ""
	}
	heirs, reach := 0, -1
	for _, h := range in.Hosts {
		if h.Name != x.Name && h.Reachable && h.KeeperOK && h.MasterValid && !h.Maintenance && !h.Leaving && !h.Doomed && h.Priority >= 0 &&
			h.Role.State == RoleNone && h.RetryIn == 0 {
			heirs, reach = heirs+1, max(reach, h.Reach)
		}
	}
	switch {
	case heirs == 0:
		return "takes the role from a working host although nobody else can have it"
	case d.Row == RowMove && reach > in.byName(in.Desired.Host).Reach:
		return "moves for an operator, and the role goes to another host"
	case (d.Row == RowMove || d.Row == RowOutreach) && reach < x.Reach:
		return "moves to a host that reaches less"
	case d.Row == RowOutreach && (reach == x.Reach || !x.Reports || in.OutreachFor < in.OutreachAfter):
		return "moves for the reach without having looked for long enough, or for nothing"
	case d.Row == RowLate && x.Renewals != RenewalsFailing:
		return "moves off a host that renews"
	case d.Cause == "":
		return "moves without a cause"
	}
	return ""
}

// halfSilent counts for itself: of the hosts whose silence is not expected at least half are silent.
func halfSilent(in Inputs) bool {
	silent, answer := 0, 0
	for _, h := range in.Hosts {
		if h.Reachable {
			answer++
		} else if !h.Maintenance && h.ProofGen == 0 { // one that was not asked is notAsked's
			silent++
		}
	}
	return silent > 0 && silent >= answer
}

// notAsked counts for itself: a host whose word would count was not asked.
func notAsked(in Inputs) bool {
	for _, h := range in.Hosts {
		if h.Unasked && !h.Reachable && !h.Maintenance && h.ProofGen == 0 {
			return true
		}
	}
	return false
}

// startViolation judges a start.
func startViolation(in Inputs, h, owner *Host, s Storage, d Decision) string {
	gone := s.Witnesses > 0 && (s.Status == Dead || s.Status == Free || (s.Generation != 0 && s.Generation != in.Lease.Generation))
	switch {
	case in.Lease.Conflict || !in.Lease.Known:
		return "starts without knowing the owner"
	case in.Desired.Stopped:
		return "starts what the operator stopped"
	case h == nil || !h.Reachable || h.Priority < 0 || h.Maintenance || h.Leaving || h.Doomed || !h.KeeperOK || !h.MasterValid || h.RetryIn > 0:
		return "starts on a host that must not or cannot"
	case d.Expect != in.Lease.Version:
		return "starts without compare and set"
	case in.Lease.Held && !gone:
		return "starts while the owner may live"
	case in.Lease.Held && owner != nil && owner.Unprotected && !in.Policy.UnprotectedTakeover && s.Status == Dead &&
		(s.Generation == 0 || s.Generation == in.Lease.Generation) && (owner.ProofGen == 0 || owner.ProofGen != in.Lease.Generation):
		return "takes the role of a host that nothing has reset, without a proof"
	case in.Lease.Held && owner != nil && owner.Reachable && owner.KeeperOK && owner.Role.State != RoleNone:
		return "starts while the owner says it works"
	}
	return ""
}

// randomInputs draws from everything that can be seen, sense or not.
func randomInputs(r *rand.Rand) Inputs {
	in := world()
	flip := func(n int) bool { return r.IntN(n) == 0 }
	dur := func() time.Duration { return time.Duration(r.IntN(8000)) * time.Millisecond }
	in.Master = !flip(20)
	in.Lease = Lease{Known: !flip(20), Conflict: flip(20), Held: !flip(3), Owner: 1 + r.IntN(4),
		Generation: uint64(1 + r.IntN(3)), Version: uint64(6 + r.IntN(3)), SeenFor: dur()}
	in.Desired = Desired{Stopped: flip(6), Host: []string{"", "", "a", "b", "zz"}[r.IntN(5)]}
	in.TermAge, in.ClearFor = dur(), dur()
	in.Asked, in.AskedFor = flip(2), dur()
	in.Policy.FenceOthers, in.Policy.UnprotectedTakeover = flip(2), flip(2)
	in.Policy.SkipIfLive, in.Policy.SkipIfHalfDead, in.Policy.Fencing = !flip(4), !flip(4), !flip(8)
	if flip(8) {
		in.DisarmedFor = dur() + 1
	}
	if flip(4) {
		in.Policy.FenceLiveAfter = 0
	}
	for id := 1; id <= 4; id++ {
		in.Storage[id] = Storage{Status: []Liveness{Unseen, Unknown, Free, Live, Live, Fail, Dead}[r.IntN(7)],
			Witnesses: r.IntN(3), Generation: uint64(r.IntN(4)), Renewing: flip(2), DeadIn: dur(), Still: dur()}
	}
	in.Active, in.OutreachFor, in.OutreachAfter = 2, dur(), dur()
	for i := range in.Hosts {
		h := &in.Hosts[i]
		h.Priority, h.Reachable, h.Maintenance, h.Leaving = r.IntN(12)-1, !flip(3), flip(8), flip(6)
		h.Reports, h.Reach = !flip(4), r.IntN(3)
		h.Misses, h.Renewals = []string{"san1", "san2"}[h.Reach:], []string{RenewalsOK, RenewalsLate, RenewalsFailing}[r.IntN(3)]
		h.KeeperOK, h.MasterValid, h.Fenceable = !flip(5), !flip(5), !flip(4)
		h.Role = Role{[]string{RoleNone, RoleNone, RoleStarting, RoleServing, RoleStopping}[r.IntN(5)], uint64(6 + r.IntN(3))}
		h.RoleFor, h.Power = dur(), []Power{PowerUnknown, PowerOn, PowerOff}[r.IntN(3)]
		h.ProofGen, h.Unprotected, h.Doomed = uint64(r.IntN(4)), flip(2), flip(8)
		if !h.Reachable {
			h.LostFor, h.SilentFor, h.Unasked = dur(), 2*dur(), flip(8)
		}
		if flip(4) {
			h.RetryIn, h.Failures = dur(), r.IntN(3)
		}
		if flip(6) {
			h.FenceIn = dur()
		}
	}
	return in
}

// firstViolation runs decide over n random inputs.
func firstViolation(seed uint64, n int, decide func(Inputs) Decision) string {
	r := rand.New(rand.NewPCG(seed, 1))
	for range n {
		in := randomInputs(r)
		if v := violation(in, decide(in)); v != "" {
			return v
		}
	}
	return ""
}

func TestDecide_neverUnsafe(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		if v := firstViolation(seed, 20_000, Decide); v != "" {
			t.Fatalf("seed %d: %s", seed, v)
		}
		fence := func(in Inputs) Decision { d, _ := DecideFence(in); return d }
		if v := firstViolation(seed, 20_000, fence); v != "" {
			t.Fatalf("seed %d, others: %s", seed, v)
		}
	}
}

// Each planted bug must be caught, or the checker is worth nothing.
func TestDecide_plantedBugs(t *testing.T) {
	t.Parallel()
	bugs := map[string]func(Inputs) Decision{
		"elects when the owner does not answer": func(in Inputs) Decision {
			if h := in.byID(in.Lease.Owner); h != nil && !h.Reachable {
				in.Lease.Held = false
			}
			return Decide(in)
		},
		"ignores the generation of a proof": func(in Inputs) Decision {
			for i := range in.Hosts {
				if in.Hosts[i].ProofGen != 0 && in.Lease.Held && in.Lease.Owner == in.Hosts[i].HostID {
					return Decision{Action: ActFree, Host: in.Hosts[i].Name, Generation: in.Lease.Generation}
				}
			}
			return Decide(in)
		},
		"takes FAIL for DEAD": func(in Inputs) Decision {
			if s := in.Storage[in.Lease.Owner]; s.Status == Fail {
				s.Status = Dead
				c := map[int]Storage{in.Lease.Owner: s}
				in.Storage = c
			}
			return Decide(in)
		},
		"fences at once": func(in Inputs) Decision {
			in.Policy.Grace, in.Policy.SilentAfter = 0, 0
			return Decide(in)
		},
		"does not heed the disarming": func(in Inputs) Decision { in.DisarmedFor, in.Policy.Fencing = 0, true; return Decide(in) },
		"fences from a minority":      func(in Inputs) Decision { in.Policy.SkipIfHalfDead = false; return Decide(in) },
		"fences who lives on storage": func(in Inputs) Decision { in.Policy.SkipIfLive = false; return Decide(in) },
		"does not care who leaves": func(in Inputs) Decision {
			in.Hosts = slices.Clone(in.Hosts)
			for i := range in.Hosts {
				in.Hosts[i].Leaving = false
			}
			return Decide(in)
		},
		"does not care who is in maintenance": func(in Inputs) Decision {
			in.Hosts = slices.Clone(in.Hosts)
			for i := range in.Hosts {
				in.Hosts[i].Maintenance = false
			}
			return Decide(in)
		},
		"does not care what is reached": func(in Inputs) Decision {
			in.Hosts = slices.Clone(in.Hosts)
			for i := range in.Hosts {
				in.Hosts[i].Reach, in.Hosts[i].Misses = 1, nil
			}
			return Decide(in)
		},
		"moves for the reach at once": func(in Inputs) Decision { in.OutreachAfter = 0; return Decide(in) },
		"thinks that all renew badly": func(in Inputs) Decision {
			in.Hosts = slices.Clone(in.Hosts)
			if h := in.byID(in.Lease.Owner); h != nil {
				h.Renewals = RenewalsFailing
				in.Hosts[in.Lease.Owner%3].Renewals = RenewalsOK
			}
			return Decide(in)
		},
		"asks at once":                        func(in Inputs) Decision { in.Policy.YieldAfter = 0; return Decide(in) },
		"forgets to ask":                      func(in Inputs) Decision { in.Asked, in.AskedFor = true, time.Hour; return Decide(in) },
		"forgets that it asked":               func(in Inputs) Decision { in.Asked = false; return Decide(in) },
		"takes over from an unprotected host": func(in Inputs) Decision { in.Policy.UnprotectedTakeover = true; return Decide(in) },
		"starts what was stopped":             func(in Inputs) Decision { in.Desired.Stopped = false; return Decide(in) },
		"forgets compare and set":             func(in Inputs) Decision { d := Decide(in); d.Expect++; return d },
	}
	for name, bug := range bugs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if firstViolation(7, 50_000, bug) == "" {
				t.Fatal("the checker did not notice")
			}
		})
	}
}
