package manager

import (
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/fsm"
)

// A host that answers, with a keeper that renews, as the very generation whose end somebody vouched for, was never off: its power devices
// belong to another machine, or a person was wrong. The proof is void for this term, so nothing more is freed by it, and people are told.
// What was freed on disk the host's keeper sees there and stops by itself.

// provenOff is the proof by a power device or a person about a host's present generation. A proof by the lease is another matter: the
// program may run on without its leases.
func (t *term) provenOff(host string) (fsm.Proof, bool) {
	view := t.m.cfg.Cluster.View()
	if view.Proofs.Len() == 0 {
		return fsm.Proof{}, false
	}
	h, ok := view.Hosts.Get(host)
	if !ok {
		return fsm.Proof{}, false
	}
	p, ok := view.ProofFor(h)
	return p, ok && p.Kind != fsm.ProofDead && p.Kind != fsm.ProofReleased
}

// disproves tells whether an answer to a question that was asked after the proof was recorded contradicts it.
func disproves(p fsm.Proof, rep *PingReply) bool {
	return rep.KeeperOK && rep.Generation != 0 && rep.Generation == p.Generation
}

// disproved takes the proof for void and tells, once whoever leads.
func (t *term) disproved(p fsm.Proof) {
	key := slot{t.master(), p.HostID, p.Generation}
	t.mu.Lock()
	first := !t.void[key]
	t.void[key] = true
	t.mu.Unlock()
	if !first {
		return
	}
	message := fmt.Sprintf("%s answers as generation %d, whose end was proven (%s): that proof was wrong. See whether its power devices belong "+
		"to another machine, and whether anything of it runs elsewhere", p.Host, p.Generation, p.Kind)
	for _, e := range slices.Backward(t.m.cfg.Cluster.View().Events()) {
		if e.Kind == kindVoid && e.Host == p.Host && e.Message == message {
			return
		}
	}
	t.note(fsm.Event{Severity: fsm.Error, Kind: kindVoid, Host: p.Host, Message: message, Reason: "the host answers as the generation whose end was proven",
		Evidence: proofReason(p) + ": " + p.Evidence})
}
