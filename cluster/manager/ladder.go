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

	RungHandOver = "hand_over" // not of the ladder: the SPM role first, when a person has a host switched off that answers

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
	HoldsLease bool   // the SPM lease
	Asked      bool   // through the storage, to give it up
	HasRole    bool   // the SPM role by its own word, or the lease
	NoHeir     string // why no other host can take the role
	MostLost   bool
	Unasked    bool // not every host was asked in this term, so whether most are silent is not known
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
	if last, ok := lastStep(s.Op); ok && isOrder(last) {
		if !s.Mine || last.Term != s.Term {
			return s.note(last.Rung, fsm.StepUnknown, "the leader ended before it could tell what came of the order", last)
		}
		if end, ok := s.over(); ok {
			return s.note(last.Rung, fsm.StepSkipped, "the order did not go out: "+end.Why, last)
		}
		if why := s.tooSoon(); why != "" {
			return s.note(last.Rung, fsm.StepSkipped, "the order did not go out: it waits for "+why, last)
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
	if why := s.tooSoon(); why != "" {
		return Move{Do: DoWait, Why: why}
	}
	for _, rung := range []func() (Move, bool){s.handOver, s.rpc, s.storage, s.soft, s.kdump, s.power, s.lease} {
		if m, ok := rung(); ok {
			return m
		}
	}
	return s.person()
}

// over tells why the operation needs no more orders: what it was for is over, or a policy is against it now.
func (s *Scene) over() (Move, bool) {
	end := func(outcome, why string) (Move, bool) { return Move{Do: DoEnd, Outcome: outcome, Why: why}, true }
	if why := s.stayOff(); why != "" {
		return end(fsm.FenceAbandoned, why)
	}
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
	case s.Policy.keepsLive(s.Storage, s.Host.silence()) && !off:
		return end(fsm.FenceSkipped, s.Op.Host+" renews its lease on storage")
	}
	return Move{}, false
}

// tooSoon says what a leader waits for before it orders anything in an operation that it has inherited: it has asked everybody, and gives
// the host one full grace time of its own. A switch that says off needs no grace.
func (s *Scene) tooSoon() string {
	switch {
	case forced(s.Op) || s.Op.ByPerson || s.Op.Action == fsm.FenceOn:
		return ""
	case s.Unasked:
		return "every host to be asked once"
	case s.Host.Power != PowerOff && s.Host.LostFor < s.Policy.graceOf(&s.Host, s.HoldsLease):
		return "a full grace time of this leader's own"
	}
	return ""
}

// handOver waits for a host that answers and has the SPM role to hand it over, when a person has it switched off all the same and another
// host can take it: Decide moves it. What comes of it holds nothing up for longer than a stop may take.
func (s *Scene) handOver() (Move, bool) {
	last, begun := s.last(RungHandOver)
	switch {
	case !forced(s.Op) || begun && last.Result != fsm.StepIntent || !begun && !(s.HasRole && s.Host.Reachable):
		return Move{}, false
	case !begun && s.NoHeir != "":
		return s.skip(RungHandOver, "it has the SPM role, which no other host can take: "+s.NoHeir)
	case !begun:
		return s.step(DoNote, RungHandOver, fsm.StepIntent, "it has the SPM role and hands it over first, for which it has "+s.Policy.StopTimeout.String()), true
	case !s.HasRole:
		return s.note(RungHandOver, fsm.StepOK, "it has handed the SPM role over", fsm.FenceStep{}), true
	case !s.Host.Reachable:
		return s.note(RungHandOver, fsm.StepFailed, "it answers no more, with the SPM role", fsm.FenceStep{}), true
	case s.elapsed(last) < s.Policy.StopTimeout:
		return Move{Do: DoWait, Why: "it to hand the SPM role over"}, true
	}
	return s.note(RungHandOver, fsm.StepFailed, "it has not handed the SPM role over within "+s.Policy.StopTimeout.String()+": a person wants it off all the same", fsm.FenceStep{}), true
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
		return s.waitSince(last, s.Policy.SoftWait, "the host to answer after the soft restart")
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
	case s.elapsed(s.leaseBegun()) < s.Policy.DeadAfter:
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
	if end, ok := s.over(); ok {
		return end
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

// stayOff says why a host is not switched on without a person's order: somebody may have their hands in it. What the power-saving policy
// switches on it has in maintenance itself.
func (s *Scene) stayOff() string {
	if s.Op.Action == fsm.FenceOn && s.Op.By == byManager && !s.Op.ByPerson && (s.Host.Maintenance || s.Host.Leaving) {
		return s.Op.Host + " is wanted in maintenance: it is switched on by a person, or after it was activated"
	}
	return ""
}

// deadIsProof tells whether a DEAD lease proves that the machine no longer writes: something has reset it by then.
func (s *Scene) deadIsProof() bool { return !s.Host.Unprotected || s.Policy.UnprotectedTakeover }

// deadTried tells whether a proof of that was looked for lately in vain: a lockspace may not be readable.
func (s *Scene) deadTried() bool {
	last, ok := s.last(RungLease)
	return ok && last.Result == fsm.StepUnknown && s.elapsed(last) < s.Policy.SilentAfter
}

// leaseBegun is the step with which the wait for the lease began.
func (s *Scene) leaseBegun() fsm.FenceStep {
	i := slices.IndexFunc(s.Op.Steps, func(st fsm.FenceStep) bool { return st.Rung == RungLease })
	return s.Op.Steps[i]
}
