package fsm

import (
	"fmt"
	"slices"
	"time"
)

// FenceBegin opens a fence operation. A host has one open operation at most. While the pool is disarmed only a person's is
// taken.
type FenceBegin struct {
	base `codec:"-"`
	Op   FenceOp `codec:"o"`
	Term uint64  `codec:"m"`
}

func (*FenceBegin) kind() kind { return kindFenceBegin }

func (c *FenceBegin) apply(t *tables, _ uint64) Outcome {
	op := c.Op
	if why := op.invalid(); why != "" {
		return refuse(CodeInvalid, "fence operation: "+why)
	}
	h, ok := t.hosts.Get(op.Host)
	if !ok {
		return refuse(CodeNotFound, "no host named "+op.Host)
	}
	if out := c.check(t, h); out.Code != "" {
		return out
	}
	steps := op.Steps
	op.Term, op.Steps = c.Term, nil
	for _, s := range steps {
		s.Term = c.Term
		op.Steps = append(op.Steps, s.bounded(op.evidenceBytes()))
	}
	op.Ended, op.Outcome, op.Detail, op.ProofGeneration = 0, "", "", 0
	op.Reason, op.By = cut(op.Reason, MaxReason), cut(op.By, maxName)
	op.Leader, op.Proxy = cut(op.Leader, maxName), cut(op.Proxy, maxName)
	t.putFence(op)
	return Outcome{HostID: op.HostID}
}

// invalid says what is wrong with a new operation.
func (o FenceOp) invalid() string {
	switch {
	case o.ID == "" || len(o.ID) > maxFenceID:
		return fmt.Sprintf("its id has 1 to %d bytes", maxFenceID)
	case !slices.Contains(fenceActions, o.Action):
		return fmt.Sprintf("action %q: use one of %v", cut(o.Action, maxName), fenceActions)
	case o.Began <= 0:
		return "it needs the time when it begins"
	case len(o.Steps) > MaxFenceSteps:
		return fmt.Sprintf("it has at most %d steps", MaxFenceSteps)
	}
	for _, s := range o.Steps {
		if why := s.invalid(); why != "" {
			return why
		}
	}
	return ""
}

// check holds the operation against the host as it is recorded.
func (c *FenceBegin) check(t *tables, h Host) Outcome {
	op := c.Op
	if t.fences.Has(op.ID) {
		return refuse(CodeExists, "there is a fence operation "+op.ID)
	}
	if op.HostID != h.HostID {
		return refuse(CodeConflict, fmt.Sprintf("host %s has id %d, not %d; look again", h.Name, h.HostID, op.HostID))
	}
	if op.Generation < h.Generation {
		return refuse(CodeStale, fmt.Sprintf("host %s came back: its generation is %d, not %d; look again", h.Name, h.Generation, op.Generation))
	}
	if id, open := t.openFences.Get(h.Name); open {
		return refuse(CodeConflict, fmt.Sprintf("fence operation %s is under way for host %s; wait for its end", id, h.Name))
	}
	if newest := t.lastFenceTerm(h.Name); c.Term < newest {
		return refuse(CodeStale, fmt.Sprintf("term %d is over: host %s was acted on in term %d", c.Term, h.Name, newest))
	}
	if op.ByPerson {
		return Outcome{}
	}
	return t.armed(op.Began)
}

// lastFenceTerm is the newest term in which somebody acted on the host, as far as it is remembered.
func (t *tables) lastFenceTerm(host string) uint64 {
	var newest uint64
	for _, op := range t.fences.All() {
		if op.Host == host {
			newest = max(newest, op.Term)
		}
	}
	return newest
}

// armed refuses while the pool is disarmed.
func (t *tables) armed(now int64) Outcome {
	value, _ := t.config.Get(ConfigDisarmedUntil)
	until, ok := disarmedUntil(value)
	if !ok {
		return refuse(CodeDisarmed, fmt.Sprintf("fencing is disarmed: %s is %q, which is no time; remove it to arm", ConfigDisarmedUntil, cut(value, 64)))
	}
	if until > now {
		return refuse(CodeDisarmed, fmt.Sprintf("fencing is disarmed until %s", time.Unix(0, until).UTC().Format(time.RFC3339)))
	}
	return Outcome{}
}
