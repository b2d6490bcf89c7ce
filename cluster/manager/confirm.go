package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

var (
	// ErrNotLeading says that this host does not lead, or not any more.
	ErrNotLeading = errors.New("this host does not lead the cluster")
	// ErrHostAnswers says that a host whose reboot is to be confirmed answers.
	ErrHostAnswers = errors.New("the host answers, so nothing waits for it")
)

// StorageLiveError refuses a person's word because a lockspace says otherwise.
type StorageLiveError struct {
	Host, Lockspace string
	State           leases.HostState
	Silent          time.Duration // since its record was seen to change
	Left            time.Duration // until the lockspace says something else if it stays silent; 0 unknown
	Unread          bool          // no host could read the record
}

// Error says what storage says.
func (e *StorageLiveError) Error() string {
	if e.Unread {
		return fmt.Sprintf("no host can read what the lockspace %s says about %s", e.Lockspace, e.Host)
	}
	if e.Lockspace == "" {
		return fmt.Sprintf("no host can read what storage says about %s", e.Host)
	}
	return fmt.Sprintf("storage says that %s is %s: its record in lockspace %s changed %s ago", e.Host, e.State, e.Lockspace,
		e.Silent.Round(100*time.Millisecond))
}

// Confirmation is a person's word that a host was rebooted or is off, and writes nothing any more.
type Confirmation struct {
	Host   string
	Reason string
	By     string
	// Force takes the person's word although storage says that the host lives, or says nothing.
	Force bool
}

// Confirmed is what followed from a Confirmation.
type Confirmed struct {
	Proof fsm.Proof
	Freed []FreeOutcome
}

// ConfirmRebooted records a person's word as a proof and frees the host in every lockspace. It works on the leader.
func (m *Manager) ConfirmRebooted(ctx context.Context, c Confirmation) (Confirmed, error) {
	var out Confirmed
	err := m.inTerm(ctx, func(t *term) (err error) {
		out, err = t.confirm(ctx, c)
		return err
	})
	return out, err
}

// inTerm runs fn in the present term and waits for it.
func (m *Manager) inTerm(ctx context.Context, fn func(t *term) error) error {
	done := make(chan error, 1)
	select {
	case m.asks <- func(t *term) { done <- fn(t) }:
	case <-ctx.Done():
		return fmt.Errorf("%w (%w)", ErrNotLeading, ctx.Err())
	}
	return <-done // a term waits for what it was asked, and everything in it ends with the term
}

// confirm is the written order: ask the host, ask storage, commit the proof and who gave it, free the records.
func (t *term) confirm(ctx context.Context, c Confirmation) (Confirmed, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	h, ok := t.m.cfg.Cluster.View().Hosts.Get(c.Host)
	if !ok {
		return Confirmed{}, &fsm.RefusedError{Code: fsm.CodeNotFound, Message: "no host named " + c.Host}
	}
	if c.Host == t.m.cfg.Host || t.ask(ctx, h) != nil {
		return Confirmed{}, fmt.Errorf("host %s: %w", c.Host, ErrHostAnswers)
	}
	seen := t.sight(ctx, h.HostID)
	alive := alive(h, seen, t.m.cfg.Policy)
	if alive != nil && !c.Force {
		return Confirmed{}, alive
	}
	p := fsm.Proof{Kind: fsm.ProofPerson, Host: h.Name, HostID: h.HostID, Generation: max(h.Generation, seen[t.master()].Record.Generation),
		Evidence: c.Reason, By: c.By, Time: t.m.cfg.Now().UnixNano(), Spaces: seen.records(seen)}
	if err := t.recordConfirmation(ctx, h, c, p, alive); err != nil {
		return Confirmed{}, err
	}
	out := Confirmed{Proof: p, Freed: t.freeEverywhere(ctx, p)}
	for _, f := range out.Freed {
		if f.Lockspace == t.master() && f.Err == nil && f.Verdict != VerdictVoid {
			t.noteFreed(h, p.Generation)
		}
	}
	t.stale()
	return out, nil
}

// recordConfirmation commits who gave their word for what, before anything follows from it.
func (t *term) recordConfirmation(ctx context.Context, h fsm.Host, c Confirmation, p fsm.Proof, alive *StorageLiveError) error {
	storage := "it does not answer, and no storage says that it is alive"
	message := fmt.Sprintf("%s gives their word that %s (host id %d) was rebooted and writes nothing any more: %s", c.By, h.Name, h.HostID, c.Reason)
	if alive != nil {
		storage = "forced although " + alive.Error()
		message += "; " + storage
	}
	if err := t.record(ctx, fsm.Event{Severity: fsm.Warning, Kind: "host.confirmed", Host: h.Name, Message: message, Reason: c.Reason, Evidence: storage}); err != nil {
		return fmt.Errorf("recording the confirmation: %w", err)
	}
	if err := t.recordWord(ctx, h, p); err != nil {
		return fmt.Errorf("recording the proof: %w", err)
	}
	return t.fenceState(ctx, h.Name, fsm.HostDown, "its reboot was confirmed by "+c.By+": "+c.Reason)
}

// recordWord commits a person's proof. It ends a fence operation that is under way: the last rung of the ladder.
func (t *term) recordWord(ctx context.Context, h fsm.Host, p fsm.Proof) error {
	op, open := t.m.cfg.Cluster.View().OpenFence(h.Name)
	if !open || op.Action == fsm.FenceOn || p.Generation < op.Generation {
		return t.command(ctx, &fsm.ProofAdd{Proof: p})
	}
	err := t.command(ctx, &fsm.FenceEnd{ID: op.ID, Term: t.number, Outcome: fsm.FenceDone, Detail: p.By + " gave their word: " + p.Evidence,
		Time: p.Time, Proof: &p})
	if errors.Is(err, fsm.ErrConflict) { // it has ended since
		return t.command(ctx, &fsm.ProofAdd{Proof: p})
	}
	return err
}

// alive is what speaks against a person's word; nil: nothing does.
func alive(h fsm.Host, seen sights, p Policy) *StorageLiveError {
	if len(seen) == 0 {
		return &StorageLiveError{Host: h.Name}
	}
	var worst *StorageLiveError
	for ls, s := range seen {
		if s.Record.Timestamp == 0 || s.State != leases.HostLive && s.State != leases.HostUnknown {
			continue
		}
		if worst == nil || s.Silent < worst.Silent {
			worst = &StorageLiveError{Host: h.Name, Lockspace: ls, State: s.State, Silent: s.Silent, Left: max(p.LeaseLife-s.Silent, 0)}
		}
	}
	return worst
}
