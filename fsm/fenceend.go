package fsm

import (
	"fmt"
	"slices"
)

// FenceEnd closes a fence operation and records the proof that came of it, in one entry: there is no moment at which the
// host is known to be dead without the reason, or the other way round.
type FenceEnd struct {
	base    `codec:"-"`
	ID      string `codec:"i"`
	Term    uint64 `codec:"m"`
	Outcome string `codec:"o"`
	Detail  string `codec:"d"`
	Time    int64  `codec:"t"`
	Proof   *Proof `codec:"p,omitempty"`
}

func (*FenceEnd) kind() kind { return kindFenceEnd }

func (c *FenceEnd) apply(t *tables, _ uint64) Outcome {
	op, out := t.openFenceByID(c.ID, c.Term)
	if out.Code != "" {
		return out
	}
	if !slices.Contains(fenceOutcomes, c.Outcome) {
		return refuse(CodeInvalid, fmt.Sprintf("fence operation %s cannot end with %q: use one of %v", c.ID, cut(c.Outcome, maxName), fenceOutcomes))
	}
	if c.Proof != nil {
		if out := c.checkProof(op); out.Code != "" {
			return out
		}
		t.addProof(*c.Proof)
		op.ProofGeneration = c.Proof.Generation
	}
	op.Term = c.Term
	t.endFence(op, c.Outcome, c.Detail, c.Time)
	return Outcome{HostID: op.HostID}
}

// checkProof refuses a proof about anything but the host of the operation, of its generation or a later one.
func (c *FenceEnd) checkProof(op FenceOp) Outcome {
	p := *c.Proof
	switch {
	case p.Kind == "":
		return refuse(CodeInvalid, "a proof needs a kind")
	case p.Host != op.Host || p.HostID != op.HostID:
		return refuse(CodeInvalid, fmt.Sprintf("fence operation %s is about host %s (id %d), its proof about %s (id %d)", op.ID, op.Host, op.HostID, p.Host, p.HostID))
	case p.Generation < op.Generation:
		return refuse(CodeStale, fmt.Sprintf("the proof is about generation %d of host %s, the operation about %d", p.Generation, op.Host, op.Generation))
	case len(p.Spaces) > maxSpaces:
		return refuse(CodeInvalid, fmt.Sprintf("a proof names at most %d lockspaces", maxSpaces))
	}
	return Outcome{}
}

// forgetPower ends what is under way for a host that is removed, and drops its fence devices with their secrets.
func (t *tables) forgetPower(host string, now int64) {
	for _, d := range devicesOf(t.fenceDevices.Table, host) {
		t.fenceDevices.remove(FenceDeviceKey(host, d.Name))
	}
	if id, ok := t.openFences.Get(host); ok {
		op, _ := t.fences.Get(id)
		t.endFence(op, FenceAbandoned, "the host was removed", now)
	}
}
