package fsm

import (
	"cmp"
	"slices"
)

// Actions of a fence operation.
const (
	FenceOff     = "off"
	FenceOn      = "on"
	FenceRestart = "restart"
	FenceSoft    = "soft"
	FenceKdump   = "kdump"
)

var fenceActions = []string{FenceOff, FenceOn, FenceRestart, FenceSoft, FenceKdump}

// How a fence operation ended. An open one has none.
const (
	FenceDone      = "done"
	FenceFailed    = "failed"
	FenceAbandoned = "abandoned" // what it was for is over
	FenceSkipped   = "skipped"   // a policy was against it
)

var fenceOutcomes = []string{FenceDone, FenceFailed, FenceAbandoned, FenceSkipped}

// Results of a step.
const (
	StepIntent  = "intent" // committed before the command goes out
	StepOK      = "ok"
	StepFailed  = "failed"
	StepUnknown = "unknown" // it may have happened
	StepSkipped = "skipped"
)

var stepResults = []string{StepIntent, StepOK, StepFailed, StepUnknown, StepSkipped}

// FenceOp is the committed intent to act on a host's power, with all that came of it.
type FenceOp struct {
	ID         string      `codec:"i" json:"id"` // ids sort by time
	Host       string      `codec:"h" json:"host"`
	HostID     int         `codec:"n" json:"host_id"`
	Generation uint64      `codec:"e" json:"generation"`
	Action     string      `codec:"a" json:"action"`
	Reason     string      `codec:"r" json:"reason"`
	By         string      `codec:"b" json:"by"`
	ByPerson   bool        `codec:"p,omitempty" json:"by_person,omitempty"`
	Began      int64       `codec:"t" json:"began"`
	Term       uint64      `codec:"m" json:"term"` // of the leader that may act
	Steps      []FenceStep `codec:"s,omitempty" json:"steps,omitempty"`
	Ended      int64       `codec:"x,omitempty" json:"ended,omitempty"`
	Outcome    string      `codec:"o,omitempty" json:"outcome,omitempty"` // empty while it is open
	Detail     string      `codec:"d,omitempty" json:"detail,omitempty"`
	Leader     string      `codec:"l,omitempty" json:"leader,omitempty"`
	Proxy      string      `codec:"y,omitempty" json:"proxy,omitempty"` // the last one that acted
	// ProofGeneration is the Generation of the proof that it gave; see ProofKey.
	ProofGeneration uint64 `codec:"g,omitempty" json:"proof_generation,omitempty"`
}

// FenceStep is one step of a fence operation.
type FenceStep struct {
	Rung     string `codec:"r" json:"rung"`
	Device   string `codec:"d,omitempty" json:"device,omitempty"`
	Proxy    string `codec:"y,omitempty" json:"proxy,omitempty"`
	Term     uint64 `codec:"m" json:"term"`
	Leader   string `codec:"l,omitempty" json:"leader,omitempty"`
	Time     int64  `codec:"t" json:"time"`
	Result   string `codec:"s" json:"result"`
	Evidence string `codec:"w,omitempty" json:"evidence,omitempty"`
}

// Open says whether the operation still goes on.
func (o FenceOp) Open() bool { return o.Outcome == "" }

// Bounds of fence operations.
const (
	MaxFenceSteps = 64       // of one operation
	maxEndedOps   = 256      // kept, the last ended ones
	maxOpEvidence = 64 << 10 // of one operation: beyond this a step keeps little
	leastEvidence = 256      // what a step keeps in any case
	maxFenceID    = 64
)

// bounded is s with its texts cut. taken is how much evidence the operation holds already.
func (s FenceStep) bounded(taken int) FenceStep {
	s.Rung, s.Device, s.Proxy, s.Leader = cut(s.Rung, maxName), cut(s.Device, maxName), cut(s.Proxy, maxName), cut(s.Leader, maxName)
	s.Evidence = cut(s.Evidence, min(MaxEvidence, max(leastEvidence, maxOpEvidence-taken)))
	return s
}

func (o FenceOp) evidenceBytes() int {
	n := 0
	for _, s := range o.Steps {
		n += len(s.Evidence)
	}
	return n
}

// putFence stores an operation and keeps the index of open ones in step.
func (t *tables) putFence(op FenceOp) {
	t.fences.put(op.ID, op)
	if op.Open() {
		t.openFences.put(op.Host, op.ID)
	} else if id, ok := t.openFences.Get(op.Host); ok && id == op.ID {
		t.openFences.remove(op.Host)
	}
}

// endFence closes an operation and forgets the ones that ended longest ago.
func (t *tables) endFence(op FenceOp, outcome, detail string, now int64) {
	op.Outcome, op.Detail, op.Ended = outcome, cut(detail, MaxReason), now
	t.putFence(op)
	var ended []FenceOp
	for _, o := range t.fences.All() {
		if !o.Open() && o.ID != op.ID {
			ended = append(ended, o)
		}
	}
	slices.SortStableFunc(ended, func(a, b FenceOp) int { return cmp.Compare(a.Ended, b.Ended) })
	for ; len(ended) >= maxEndedOps; ended = ended[1:] {
		t.fences.remove(ended[0].ID)
	}
}

// OpenFence is the operation that is under way for a host.
func (s *State) OpenFence(host string) (FenceOp, bool) {
	id, ok := s.openFences.Get(host)
	if !ok {
		return FenceOp{}, false
	}
	return s.Fences.Get(id)
}

// OpenFences lists the operations that are under way, by host.
func (s *State) OpenFences() []FenceOp {
	var out []FenceOp
	for _, id := range s.openFences.All() {
		if op, ok := s.Fences.Get(id); ok {
			out = append(out, op)
		}
	}
	return out
}

// FencesOf lists the operations on a host that are remembered, oldest first.
func (s *State) FencesOf(host string) []FenceOp {
	var out []FenceOp
	for _, op := range s.Fences.All() {
		if op.Host == host {
			out = append(out, op)
		}
	}
	return out
}
