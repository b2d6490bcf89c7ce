package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// ErrCameBack says that a host that was to be removed wrote to storage after it was taken for dead.
var ErrCameBack = errors.New("the host's record changed after it was taken for dead: the host lives")

// Removal takes a host out of the cluster that does not answer any more and cannot leave by itself.
type Removal struct {
	Host string
	By   string
	// Force takes the word of By, with the Reason, although storage does not say that the host is dead.
	Force  bool
	Reason string
}

// RemoveHost ends the membership of a host that is dead. Storage must say so in the lockspace of every domain, or a proof must;
// or a person does by Force. It works on the leader. Raft's server of that name goes right after.
func (m *Manager) RemoveHost(ctx context.Context, r Removal) (Confirmed, error) {
	var out Confirmed
	err := m.inTerm(ctx, func(t *term) (err error) {
		out, err = t.remove(ctx, r)
		return err
	})
	return out, err
}

// remove is the written order: ask the host, ask storage, commit the proof, free the records, commit the removal.
func (t *term) remove(ctx context.Context, r Removal) (Confirmed, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	h, ok := t.m.cfg.Cluster.View().Hosts.Get(r.Host)
	if !ok {
		return Confirmed{}, &fsm.RefusedError{Code: fsm.CodeNotFound, Message: "no host named " + r.Host}
	}
	dead, err := t.dead(ctx, h, r)
	if err != nil {
		return dead, err
	}
	for _, f := range dead.Freed {
		switch {
		case f.Verdict == VerdictVoid:
			return dead, fmt.Errorf("host %s, lockspace %s: %w", h.Name, f.Lockspace, ErrCameBack)
		case f.Err != nil && !r.Force:
			return dead, fmt.Errorf("freeing the record of host %s: %w", h.Name, f.Err)
		}
	}
	now := t.m.cfg.Now().UnixNano()
	if err := t.command(ctx, &fsm.HostRemove{Name: h.Name, Proof: &dead.Proof, Time: now}); err != nil {
		return dead, fmt.Errorf("removing host %s: %w", h.Name, err)
	}
	t.note(fsm.Event{Severity: fsm.Warning, Kind: "host.removed", Host: h.Name, Reason: cmp.Or(r.Reason, proofReason(dead.Proof)), Evidence: dead.Proof.Evidence,
		Message: fmt.Sprintf("%s took %s (host id %d) out of the cluster: %s", r.By, h.Name, h.HostID, dead.Proof.Evidence)})
	return dead, nil
}

// dead proves that the host writes nothing any more, and frees its records.
func (t *term) dead(ctx context.Context, h fsm.Host, r Removal) (Confirmed, error) {
	if r.Force {
		return t.confirm(ctx, Confirmation{Host: r.Host, Reason: r.Reason, By: r.By, Force: true})
	}
	if h.Name == t.m.cfg.Host || t.ask(ctx, h) != nil {
		return Confirmed{}, fmt.Errorf("host %s: %w", h.Name, ErrHostAnswers)
	}
	seen := t.sightFor(ctx, SightRequest{HostIDs: []int{h.HostID}, Disk: true, Unused: true})
	if err := t.unproven(h, seen); err != nil {
		return Confirmed{}, err
	}
	p := fsm.Proof{Kind: fsm.ProofDead, Host: h.Name, HostID: h.HostID, Generation: max(h.Generation, seen[t.master()].Record.Generation),
		Evidence: fmt.Sprintf("its leases are dead or free in all %d lockspaces", len(seen)), By: r.By,
		Time: t.m.cfg.Now().UnixNano(), Spaces: seen.records(seen)}
	if err := t.command(ctx, &fsm.ProofAdd{Proof: p}); err != nil {
		return Confirmed{}, fmt.Errorf("recording the proof: %w", err)
	}
	return Confirmed{Proof: p, Freed: t.freeEverywhere(ctx, p)}, nil
}

// unproven is the first lockspace of the pool, or of those seen, in which the host may still write; nil: there is none.
func (t *term) unproven(h fsm.Host, seen sights) error {
	view := t.m.cfg.Cluster.View()
	for _, d := range view.Domains.All() {
		if _, ok := seen[d.ID]; !ok {
			return &StorageLiveError{Host: h.Name, Lockspace: d.ID, State: leases.HostUnknown, Unread: true}
		}
	}
	if len(seen) == 0 {
		return &StorageLiveError{Host: h.Name}
	}
	var worst *StorageLiveError
	for ls, s := range seen {
		if s.Record.Timestamp == 0 || s.State == leases.HostDead || covered(view, t.master(), ls, s.Record) {
			continue
		}
		left := s.DeadIn
		if left <= 0 {
			left = max(t.m.cfg.Policy.LeaseLife-s.Silent, time.Second)
		}
		if worst == nil || left > worst.Left {
			worst = &StorageLiveError{Host: h.Name, Lockspace: ls, State: s.State, Silent: s.Silent, Left: left}
		}
	}
	if worst == nil {
		return nil
	}
	return worst
}

// covered tells whether a proof of death allows the record to be freed.
func covered(view *fsm.State, master, lockspace string, rec leases.HostRecord) bool {
	p, ok := view.ProofOf(rec.HostID, lockspace, rec.Generation)
	if !ok {
		return false
	}
	v := Judge(p, lockspace, master, rec)
	return v == VerdictFree || v == VerdictLate
}
