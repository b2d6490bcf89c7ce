package manager

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// freeProven frees the host's records in all lockspaces by the proof of this generation. What the SPM lease waits for is
// the master's; the others are tried again by watchProofs.
func (t *term) freeProven(ctx context.Context, h fsm.Host, generation uint64) error {
	p, ok := t.m.cfg.Cluster.View().Proofs.Get(fsm.ProofKey(h.Name, generation))
	if !ok || p.HostID != h.HostID {
		return fmt.Errorf("the proof about generation %d of %s, host id %d, is not in the mirror: %w", generation, h.Name, h.HostID, fsm.ErrNotFound)
	}
	master := t.master()
	if _, ok := p.Space(master, master); !ok {
		p.Spaces = append(slices.Clone(p.Spaces), fsm.SpaceRecord{Lockspace: master, Generation: generation})
	}
	var err error
	for _, out := range t.freeEverywhere(ctx, p) {
		switch {
		case out.Lockspace != master:
			t.report(out.Err, "freeing a host that is proven dead")
		case out.Err != nil:
			err = out.Err
		case out.Verdict == VerdictVoid:
			err = fmt.Errorf("the record of host id %d changed after the proof: %w", h.HostID, leases.ErrChanged)
		default:
			t.noteFreed(h, generation)
		}
	}
	return err
}

// noteFreed records the end of a fence operation once for each proof, whoever led when and however often the record was
// freed.
func (t *term) noteFreed(h fsm.Host, generation uint64) {
	view := t.m.cfg.Cluster.View()
	proof, _ := view.Proofs.Get(fsm.ProofKey(h.Name, generation))
	for _, e := range slices.Backward(view.Events()) {
		// Not every event stands in the order of its time: those that could not be recorded at once come later.
		if e.Kind == kindFreed && e.Host == h.Name && e.Time >= proof.Time {
			return
		}
	}
	t.note(fsm.Event{Severity: fsm.Info, Kind: kindFreed, Host: h.Name, Reason: proofReason(proof), Evidence: proof.Evidence,
		Message: fmt.Sprintf("%s is proven dead; its host id %d is free", h.Name, h.HostID)})
}

// proofReason says what a proof is.
func proofReason(p fsm.Proof) string {
	s := fmt.Sprintf("proof of death of generation %d: %s", p.Generation, p.Kind)
	if p.By != "" {
		s += ", by " + p.By
	}
	return s
}

// kindFreed is the kind of the event that ends a fence operation.
const kindFreed = "fence.done"
