package fsm

import (
	"fmt"
	"slices"
)

// FenceAdvance adds a step to an open fence operation. Only the leader of the operation's term may; one of a newer term
// takes it over first, with Takeover. A command to a device goes out after its step of the present term is committed, so
// that two leaders cannot both act.
type FenceAdvance struct {
	base     `codec:"-"`
	ID       string    `codec:"i"`
	Term     uint64    `codec:"m"`
	Step     FenceStep `codec:"s"`
	Takeover bool      `codec:"k,omitempty"`
}

func (*FenceAdvance) kind() kind { return kindFenceAdvance }

func (c *FenceAdvance) apply(t *tables, _ uint64) Outcome {
	op, out := t.openFenceByID(c.ID, c.Term)
	if out.Code != "" {
		return out
	}
	if why := c.Step.invalid(); why != "" {
		return refuse(CodeInvalid, "fence operation "+c.ID+": "+why)
	}
	if c.Term > op.Term && !c.Takeover {
		return refuse(CodeConflict, fmt.Sprintf("fence operation %s belongs to the leader of term %d; take it over first", c.ID, op.Term))
	}
	if len(op.Steps) >= MaxFenceSteps {
		return refuse(CodeFull, fmt.Sprintf("fence operation %s has %d steps already; end it", c.ID, MaxFenceSteps))
	}
	step := c.Step
	step.Term = c.Term
	step = step.bounded(op.evidenceBytes())
	if c.Term > op.Term {
		op.Term, op.Leader = c.Term, step.Leader
	}
	if step.Proxy != "" {
		op.Proxy = step.Proxy
	}
	op.Steps = append(slices.Clone(op.Steps), step) // readers hold the old ones
	t.putFence(op)
	return Outcome{HostID: op.HostID}
}

// invalid says what is wrong with a step.
func (s FenceStep) invalid() string {
	switch {
	case s.Rung == "":
		return "a step needs the rung of the ladder that it stands on"
	case !slices.Contains(stepResults, s.Result):
		return fmt.Sprintf("a step's result %q: use one of %v", cut(s.Result, maxName), stepResults)
	}
	return ""
}

// openFenceByID finds an open operation that a leader of this term may still change.
func (t *tables) openFenceByID(id string, term uint64) (FenceOp, Outcome) {
	op, ok := t.fences.Get(id)
	switch {
	case !ok:
		return op, refuse(CodeNotFound, "no fence operation "+cut(id, maxFenceID))
	case !op.Open():
		return op, refuse(CodeConflict, fmt.Sprintf("fence operation %s has ended: %s", id, op.Outcome))
	case term < op.Term:
		return op, refuse(CodeStale, fmt.Sprintf("fence operation %s was taken over in term %d, term %d is over", id, op.Term, term))
	}
	return op, Outcome{}
}
