package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// errAnswered says that a host that was about to be fenced answered.
var errAnswered = errors.New("the host answered; it is not fenced")

// performFence begins a fence operation, or the step after its proof. One per host at a time.
func (t *term) performFence(view *fsm.State, d Decision) {
	h, ok := view.Hosts.Get(d.Host)
	if !ok {
		return
	}
	t.once("fence "+d.Host, func(ctx context.Context) {
		defer t.stale()
		err := t.fence(ctx, h, d)
		if err != nil && !errors.Is(err, errAnswered) {
			t.complain(ctx, fsm.Error, "fence.failed", d.Host, fmt.Sprintf("fencing %s: %v", d.Host, err))
			pause(ctx, t.m.cfg.Policy.ReleaseAfter)
		}
	})
}

// fence is the written order: intent committed, a last question, off, status, proof committed, host id freed on disk.
// The term is checked before each step; a new leader begins again from what was committed.
func (t *term) fence(ctx context.Context, h fsm.Host, d Decision) error {
	if d.Action == ActFence {
		if err := t.switchOff(ctx, h, d); err != nil {
			return err
		}
	}
	return t.freeProven(ctx, h, d.Generation)
}

// switchOff commits the intent, switches the host off and commits the proof. The records of the host are read before it
// is off, for their generations, and after, for their times.
func (t *term) switchOff(ctx context.Context, h fsm.Host, d Decision) error {
	if err := t.intent(ctx, h, d); err != nil {
		return fmt.Errorf("committing the intent: %w", err)
	}
	before := make(chan sights, 1)
	t.wg.Go(func() { before <- t.sight(ctx, h.HostID) })
	err := t.ask(ctx, h)
	was := <-before
	if err != nil {
		return err
	}
	ev, err := t.off(ctx, h)
	if err != nil {
		state := t.hostState(context.WithoutCancel(ctx), h.Name, fsm.HostNonResponsive, "fencing failed: "+err.Error())
		return errors.Join(err, state)
	}
	if err := t.prove(ctx, h, d.Generation, ev, t.sight(ctx, h.HostID).records(was)); err != nil {
		return fmt.Errorf("committing the proof: %w", err)
	}
	return nil
}

// intent commits what is about to be done. Without a quorum nobody is fenced.
func (t *term) intent(ctx context.Context, h fsm.Host, d Decision) error {
	t.mu.Lock()
	if s := t.hosts[h.Name]; s != nil {
		s.fencedAt = t.m.cfg.Now()
	}
	t.mu.Unlock()
	message := fmt.Sprintf("fencing %s (host id %d, generation %d): %s", h.Name, h.HostID, d.Generation, d.Reason)
	if err := t.event(ctx, fsm.Warning, "fence.intent", h.Name, message, 0); err != nil {
		return err
	}
	return t.hostState(ctx, h.Name, fsm.HostFencing, d.Reason)
}

// ask asks the host one last time.
func (t *term) ask(ctx context.Context, h fsm.Host) error {
	var rep PingReply
	if err := t.call(ctx, t.m.cfg.PingTimeout, h.Name, MethodPing, struct{}{}, &rep); err == nil {
		return errAnswered
	}
	return nil
}

// off switches the host off and has that confirmed.
func (t *term) off(ctx context.Context, h fsm.Host) (fencing.Evidence, error) {
	if err := ctx.Err(); err != nil {
		return fencing.Evidence{}, fmt.Errorf("the leader's term is over: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, t.m.cfg.FenceTimeout)
	defer cancel()
	return fencing.OffConfirmed(ctx, t.m.cfg.Agent, t.m.cfg.Check, h.Name)
}

// prove commits the proof.
func (t *term) prove(ctx context.Context, h fsm.Host, generation uint64, ev fencing.Evidence, spaces []fsm.SpaceRecord) error {
	now := t.m.cfg.Now().UnixNano()
	err := t.command(ctx, &fsm.ProofAdd{Proof: fsm.Proof{Kind: ev.Kind, Host: h.Name, HostID: h.HostID,
		Generation: generation, Evidence: ev.Detail, By: t.m.cfg.Host, Time: now, Spaces: ofMaster(spaces, t.master(), generation)}})
	if err != nil {
		return err
	}
	return t.hostState(ctx, h.Name, fsm.HostFenced, "off is confirmed: "+ev.Detail)
}

// ofMaster leaves the master's lockspace out when it shows another generation than the one that the proof is about.
func ofMaster(spaces []fsm.SpaceRecord, master string, generation uint64) []fsm.SpaceRecord {
	return slices.DeleteFunc(spaces, func(s fsm.SpaceRecord) bool { return s.Lockspace == master && s.Generation != generation })
}

// freeProven frees the host's records in all lockspaces by the proof of this generation. What the SPM lease waits for is
// the master's; the others are tried again by watchProofs.
func (t *term) freeProven(ctx context.Context, h fsm.Host, generation uint64) error {
	p, ok := t.m.cfg.Cluster.View().Proofs.Get(fsm.ProofKey(h.Name, generation))
	if !ok {
		return fmt.Errorf("the proof about generation %d of %s is not in the mirror: %w", generation, h.Name, fsm.ErrNotFound)
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
		if e.Time < proof.Time {
			break
		}
		if e.Kind == kindFreed && e.Host == h.Name {
			return
		}
	}
	t.note(fsm.Info, kindFreed, h.Name, fmt.Sprintf("%s is proven dead; its host id %d is free", h.Name, h.HostID), 0)
}

// kindFreed is the kind of the event that ends a fence operation.
const kindFreed = "fence.done"

// powerOn switches fenced hosts on again once their records are freed and the role is settled. It may fail freely.
func (t *term) powerOn(view *fsm.State, in Inputs) {
	t.mu.Lock()
	calm := t.calm
	t.mu.Unlock()
	for _, f := range in.Hosts {
		h, ok := view.Hosts.Get(f.Name)
		if !ok || h.State != fsm.HostFenced || f.Reachable || !f.Fenceable || f.Power != PowerOff || t.fencing(f.Name) {
			continue
		}
		if settledFor := t.m.cfg.Now().Sub(time.Unix(0, h.Since)); !calm && settledFor < t.m.cfg.Policy.StartTimeout {
			continue
		}
		if t.onDue(f.Name) {
			t.once("on "+f.Name, func(ctx context.Context) { t.on(ctx, f.Name) })
		}
	}
}

// onDue reports whether a host may be switched on: once in a quiet time.
func (t *term) onDue(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.hosts[host]
	return s != nil && !t.busy["on "+host] && (s.onAt.IsZero() || t.m.cfg.Now().Sub(s.onAt) >= t.m.cfg.Policy.FenceQuiet)
}

// on switches one host on.
func (t *term) on(ctx context.Context, host string) {
	t.mu.Lock()
	if s := t.hosts[host]; s != nil {
		s.onAt = t.m.cfg.Now()
	}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, t.m.cfg.FenceTimeout)
	defer cancel()
	if err := t.m.cfg.Agent.On(ctx, host); err != nil {
		t.complain(ctx, fsm.Warning, "fence.on_failed", host, fmt.Sprintf("switching %s on again: %v", host, err))
		return
	}
	t.report(t.event(ctx, fsm.Info, "fence.on", host, host+" was switched on again", 0), "recording an event")
}
