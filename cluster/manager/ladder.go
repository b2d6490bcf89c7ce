package manager

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// Rungs of the fence ladder, in the order in which they are climbed. Each asks for more than the one before, and each is
// bounded; a proof ends the climb wherever it is found.
const (
	RungRPC     = "rpc"        // ask the host
	RungStorage = "storage"    // ask it through the storage
	RungSoft    = "soft"       // an optional command that tries to bring it back
	RungKdump   = "kdump"      // wait while its crash kernel saves the memory
	RungPower   = "power_off"  // off, by each group of power devices in turn, and an independent status
	RungLease   = "lease_dead" // wait until its lease is DEAD and its watchdog has fired
	RungPerson  = "person"     // a person's word; as the first step: a person wants it whatever is seen

	RungOn       = "power_on" // not of the ladder: switched on again
	RungTakeover = "takeover" // not of the ladder: another leader goes on
)

// Do is what has to be done for the next rung.
type Do string

// Values of Do.
const (
	DoWait     Do = "wait"     // nothing yet
	DoTakeover Do = "takeover" // commit that the operation is this term's
	DoNote     Do = "note"     // commit a step that needs nothing to be done
	DoIntend   Do = "intend"   // commit the intent of an order; Next then says DoOrder
	DoOrder    Do = "order"    // carry out the intent that is the last step
	DoProve    Do = "prove"    // its lease is DEAD: make a proof of that
	DoEnd      Do = "end"      // close the operation without a proof
)

// Group is a set of power devices of one host that are used as one.
type Group struct {
	Order   int
	Label   string   // the devices, as steps name them
	Prefer  []string // proxies, the most wanted first
	Local   bool     // every host has it on its own machine: the leader asks it itself, and at each tick
	Proxies []string // hosts that could act now, the best first; filled in for Next
}

// Scene is everything that Next looks at.
type Scene struct {
	Op     fsm.FenceOp
	Term   uint64
	Now    time.Time
	Policy Policy

	Host       Host
	Storage    Storage
	HoldsLease bool // the SPM lease
	Asked      bool // through the storage, to give it up
	MostLost   bool
	Groups     []Group
	Soft       bool // there is a soft command
	Kdump      bool // there is a listener for crash kernels
	// Mine says that the last step is an intent of this very climb that has not gone out.
	Mine bool
}

// Move is what Next says.
type Move struct {
	Do      Do
	Step    fsm.FenceStep // for DoTakeover, DoNote and DoIntend: what is committed; for DoOrder: the intent
	Order   int           // of the group, for an order
	Outcome string        // for DoEnd
	Why     string        // for DoWait, DoProve and DoEnd
}

// Next is the fence ladder: what follows from what is committed and what is seen. Pure. One that says "wait" is asked again.
func Next(s Scene) Move {
	if s.Op.Term < s.Term {
		why := fmt.Sprintf("the leader of term %d goes on; before it was %s in term %d", s.Term, s.Op.Leader, s.Op.Term)
		if last, ok := lastStep(s.Op); ok && last.Result == fsm.StepIntent {
			why += ", whose last order (" + last.Rung + ") may have been carried out"
		}
		return s.step(DoTakeover, RungTakeover, fsm.StepOK, why)
	}
	if last, ok := lastStep(s.Op); ok && last.Result == fsm.StepIntent && last.Rung != RungLease {
		if !s.Mine || last.Term != s.Term {
			return s.note(last.Rung, fsm.StepUnknown, "the leader ended before it could tell what came of the order", last)
		}
		if end, ok := s.over(); ok {
			return s.note(last.Rung, fsm.StepSkipped, "the order did not go out: "+end.Why, last)
		}
		return Move{Do: DoOrder, Step: last, Order: s.orderOf(last.Device)}
	}
	if s.Op.Action == fsm.FenceOn {
		return s.nextOn()
	}
	if end, ok := s.over(); ok {
		return end
	}
	if s.Storage.Status == Dead && s.Storage.Generation == s.Op.Generation && s.deadIsProof() && !s.deadTried() {
		return Move{Do: DoProve, Why: s.Op.Host + "'s lease is DEAD and its watchdog has fired"}
	}
	for _, rung := range []func() (Move, bool){s.rpc, s.storage, s.soft, s.kdump, s.power, s.lease} {
		if m, ok := rung(); ok {
			return m
		}
	}
	return s.person()
}

// over tells why the operation needs no more orders: what it was for is over, or a policy is against it now.
func (s *Scene) over() (Move, bool) {
	end := func(outcome, why string) (Move, bool) { return Move{Do: DoEnd, Outcome: outcome, Why: why}, true }
	if s.Op.Action == fsm.FenceOn || forced(s.Op) {
		return Move{}, false
	}
	gen, off := s.Storage.Generation, s.Host.Power == PowerOff
	switch {
	case s.Host.Reachable:
		return end(fsm.FenceAbandoned, s.Op.Host+" answers again")
	case gen > s.Op.Generation:
		return end(fsm.FenceAbandoned, fmt.Sprintf("%s is back as generation %d; this is about %d", s.Op.Host, gen, s.Op.Generation))
	case s.Op.ByPerson:
		return Move{}, false
	case s.Storage.Status == Free && gen == s.Op.Generation && !off:
		return end(fsm.FenceAbandoned, s.Op.Host+" has left the lockspace by itself")
	case !s.Policy.Fencing:
		return end(fsm.FenceSkipped, "fencing is switched off")
	case s.Policy.disarmed(s.Now):
		return end(fsm.FenceSkipped, s.Policy.disarmedWords())
	case s.MostLost:
		return end(fsm.FenceSkipped, "at least half the hosts do not answer: nobody is fenced from here")
	case s.Policy.keepsLive(s.Storage, s.Host.LostFor) && !off:
		return end(fsm.FenceSkipped, s.Op.Host+" renews its lease on storage")
	}
	return Move{}, false
}

// rpc records that the host was asked and did not answer.
func (s *Scene) rpc() (Move, bool) {
	if s.has(RungRPC) {
		return Move{}, false
	}
	if forced(s.Op) {
		return s.skip(RungRPC, "a person wants it, whether the host answers or not")
	}
	return s.note(RungRPC, fsm.StepFailed, fmt.Sprintf("it has not answered for %s", s.Host.LostFor.Round(time.Millisecond)), fsm.FenceStep{}), true
}

// storage records whether the holder of the SPM lease was asked there. Who asks is Decide, long before anybody is fenced.
func (s *Scene) storage() (Move, bool) {
	switch {
	case s.has(RungStorage):
		return Move{}, false
	case !s.HoldsLease:
		return s.skip(RungStorage, "it does not hold the SPM lease, so there is nothing to ask it for")
	case s.Asked:
		return s.note(RungStorage, fsm.StepFailed, "it was asked through the storage to give the SPM lease up, and did not", fsm.FenceStep{}), true
	case forced(s.Op):
		return s.skip(RungStorage, "a person wants it off, whether it would give the SPM lease up or not")
	case s.Host.Power == PowerOff:
		return s.skip(RungStorage, "its power switch says off")
	}
	return s.skip(RungStorage, "its lease is "+string(s.Storage.Status)+", so nobody there would hear")
}

// soft tries the optional command, and waits a while for what it does.
func (s *Scene) soft() (Move, bool) {
	switch last, tried := s.last(RungSoft); {
	case tried && (last.Result == fsm.StepOK || last.Result == fsm.StepUnknown):
		return s.waitSince(last.Time, s.Policy.SoftWait, "the host to answer after the soft restart")
	case tried:
		return Move{}, false
	case !s.Soft:
		return s.skip(RungSoft, "no soft restart command is configured")
	case forced(s.Op) || s.Host.Power == PowerOff:
		return s.skip(RungSoft, "its power switch says off, or a person wants it off")
	}
	return s.step(DoIntend, RungSoft, fsm.StepIntent, ""), true
}

// kdump waits for a crash kernel. What it hears is evidence for people, never a proof: anybody can send it.
func (s *Scene) kdump() (Move, bool) {
	switch {
	case s.has(RungKdump):
		return Move{}, false
	case !s.Kdump:
		return s.skip(RungKdump, "no listener for crash kernels is configured")
	case forced(s.Op) || s.Host.Power == PowerOff:
		return s.skip(RungKdump, "its power switch says off, or a person wants it off")
	}
	return s.step(DoIntend, RungKdump, fsm.StepIntent, ""), true
}

// powerTries is how often the order is given to one group in one term: once through another proxy when there is one.
const powerTries = 2

// power goes through the groups, and through all of them once before one is tried again: a device that hangs holds up the next one no
// longer than once.
func (s *Scene) power() (Move, bool) {
	if len(s.Groups) == 0 {
		if s.has(RungPower) {
			return Move{}, false
		}
		return s.skip(RungPower, "it has no power device")
	}
	for tries := range powerTries {
		for _, g := range s.Groups {
			if tried := s.triedThrough(g.Label); len(tried) <= tries {
				if m, ok := s.tryGroup(g, tried); ok {
					return m, true
				}
			}
		}
	}
	return Move{}, false
}

// tryGroup gives the order to one group; false when it cannot be given now.
func (s *Scene) tryGroup(g Group, tried []string) (Move, bool) {
	switch {
	case len(g.Proxies) == 0 && slices.Contains(tried, ""):
		return Move{}, false
	case len(g.Proxies) == 0:
		m := s.step(DoNote, RungPower, fsm.StepSkipped, "no host could act as a proxy")
		m.Step.Device = g.Label
		return m, true
	case len(s.Op.Steps) >= fsm.MaxFenceSteps-4: // room for what came of it, and for the rungs that follow
		return Move{Do: DoEnd, Outcome: fsm.FenceFailed, Why: "the operation has too many steps"}, true
	}
	m := s.step(DoIntend, RungPower, fsm.StepIntent, "")
	m.Step.Device, m.Step.Proxy, m.Order = g.Label, untried(g.Proxies, tried), g.Order
	return m, true
}

// lease waits for DEAD, for no longer than it can take.
func (s *Scene) lease() (Move, bool) {
	last, begun := s.last(RungLease)
	switch {
	case begun && last.Result != fsm.StepIntent && last.Term == s.Op.Term && last.Result != fsm.StepUnknown:
		return Move{}, false
	case s.Storage.Renewing && s.Storage.Status == Live:
		return s.skip(RungLease, "it renews its lease on storage, so that does not die")
	case !s.deadIsProof():
		return s.skip(RungLease, "no watchdog resets it, so its lease alone proves nothing")
	case !begun:
		return s.step(DoNote, RungLease, fsm.StepIntent, "waits until its lease is DEAD, for at most "+s.Policy.DeadAfter.String()), true
	case s.Now.Sub(time.Unix(0, s.leaseSince())) < s.Policy.DeadAfter:
		return Move{Do: DoWait, Why: "its lease to be DEAD"}, true
	}
	return s.note(RungLease, fsm.StepFailed, "its lease is not DEAD after "+s.Policy.DeadAfter.String()+"; storage says: "+string(s.Storage.Status), fsm.FenceStep{}), true
}

// person is the end of the ladder.
func (s *Scene) person() Move {
	return Move{Do: DoEnd, Outcome: fsm.FenceFailed,
		Why: "nothing proves that " + s.Op.Host + " is dead: repair its power devices, or look at it and run holdfast host confirm-rebooted " + s.Op.Host}
}

// nextOn is the whole ladder of an operation that switches on.
func (s *Scene) nextOn() Move {
	if s.Host.Reachable {
		return Move{Do: DoEnd, Outcome: fsm.FenceDone, Why: s.Op.Host + " answers"}
	}
	for _, g := range s.Groups {
		tried := s.triedThrough(g.Label)
		if len(g.Proxies) == 0 || len(tried) >= powerTries {
			continue
		}
		m := s.step(DoIntend, RungOn, fsm.StepIntent, "")
		m.Step.Device, m.Step.Proxy, m.Order = g.Label, untried(g.Proxies, tried), g.Order
		return m
	}
	return Move{Do: DoEnd, Outcome: fsm.FenceFailed, Why: "no power device switched " + s.Op.Host + " on"}
}

// deadIsProof tells whether a DEAD lease proves that the machine no longer writes: something has reset it by then.
func (s *Scene) deadIsProof() bool { return !s.Host.Unprotected || s.Policy.UnprotectedTakeover }

// deadTried tells whether a proof of that was looked for lately in vain: a lockspace may not be readable.
func (s *Scene) deadTried() bool {
	last, ok := s.last(RungLease)
	return ok && last.Result == fsm.StepUnknown && s.Now.Sub(time.Unix(0, last.Time)) < s.Policy.SilentAfter
}

// leaseSince is when the wait for the lease began.
func (s *Scene) leaseSince() int64 {
	i := slices.IndexFunc(s.Op.Steps, func(st fsm.FenceStep) bool { return st.Rung == RungLease })
	return s.Op.Steps[i].Time
}
