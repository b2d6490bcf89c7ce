package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/plant"
)

// errAnswered says that a host that was about to be fenced answered.
var errAnswered = errors.New("the host answered; it is not fenced")

// keyFence is the key of everything that acts on a host's power or frees its records: one such action per host at a time.
func keyFence(host string) string { return "fence " + host }

// performFence begins a fence operation, or the step after its proof.
func (t *term) performFence(view *fsm.State, d Decision) {
	h, ok := view.Hosts.Get(d.Host)
	if !ok {
		return
	}
	if _, open := view.OpenFence(d.Host); open && d.Action == ActFence {
		return // resumeFences goes on with it
	}
	t.once(keyFence(d.Host), func(ctx context.Context) {
		defer t.stale()
		if d.Action == ActFree {
			t.finish(ctx, h, t.freeProven(ctx, h, d.Generation))
			return
		}
		t.beginAndClimb(ctx, h, d)
	})
}

// finish records the failure of an action on a host, and waits a little before it is tried again.
func (t *term) finish(ctx context.Context, h fsm.Host, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	t.complain(ctx, fsm.Event{Severity: fsm.Error, Kind: kindFenceFailed, Host: h.Name, Reason: "a step of it failed", Evidence: err.Error(),
		Message: fmt.Sprintf("fencing %s: %v", h.Name, err)})
	pause(ctx, t.m.cfg.Policy.ReleaseAfter)
}

// beginAndClimb commits the intent and goes on from there.
func (t *term) beginAndClimb(ctx context.Context, h fsm.Host, d Decision) {
	policy := t.m.cfg.Policy.Under(t.m.cfg.Cluster.View())
	op := fsm.FenceOp{Host: h.Name, HostID: h.HostID, Generation: d.Generation, Action: fsm.FenceOff, Reason: d.Reason, By: byManager}
	if policy.RestartAfterOff {
		op.Action = fsm.FenceRestart
	}
	op, err := t.beginFence(ctx, op)
	switch {
	case errors.Is(err, ErrNotLeading), errors.Is(err, fsm.ErrStale), errors.Is(err, fsm.ErrConflict), errors.Is(err, fsm.ErrDisarmed):
		t.report(err, "beginning to fence "+h.Name) // what was seen is old; the next look decides anew
		pause(ctx, t.m.cfg.Tick)
	case err != nil:
		t.finish(ctx, h, fmt.Errorf("committing the intent: %w", err))
	default:
		if plant.On(plant.FreeNoProof) { // planted: its records are freed before anything is proven
			t.freeRecord(ctx, fsm.Proof{Host: h.Name, HostID: h.HostID}, fsm.SpaceRecord{Lockspace: t.master(), Generation: d.Generation})
		}
		t.climb(ctx, h, op.ID)
	}
}

// orderUnasked is the planted mistake fence-no-intent: this host uses the switch itself, and nothing is committed.
func (t *term) orderUnasked(ctx context.Context, host string, order int) {
	sw, err := t.m.cfg.Power.Open(t.m.cfg.Cluster.View(), host, order)
	if err == nil {
		_, err = sw.Off(ctx)
	}
	t.report(err, "switching off "+host)
}

// byManager is who begins operations that no person asked for.
const byManager = "manager"

// beginFence commits a new operation with all the rungs that need nothing to be done, and the intent of the first order: without
// a quorum nobody is fenced.
func (t *term) beginFence(ctx context.Context, op fsm.FenceOp) (fsm.FenceOp, error) {
	if err := t.leads(); err != nil {
		return op, err
	}
	now := t.m.cfg.Now()
	op.ID, op.Began, op.Leader, op.Term = opID(now, op.HostID), now.UnixNano(), t.m.cfg.Host, t.number
	steps, m := opening(t.scene(op))
	for i := range steps {
		steps[i].Leader = t.m.cfg.Host
	}
	op.Steps = steps
	if m.Do == DoIntend {
		t.intend(op.ID, len(steps)-1)
	}
	if plant.On(plant.FenceNoIntent) && m.Step.Rung == RungPower { // planted: the order comes before its intent
		t.orderUnasked(ctx, op.Host, m.Order)
	}
	if err := t.commit(ctx, &fsm.FenceBegin{Op: op, Term: t.number}); err != nil {
		return op, err
	}
	kind, state := "fence.intent", fsm.HostFencing
	if op.Action == fsm.FenceOn {
		return op, nil
	}
	h, _ := t.m.cfg.Cluster.View().Hosts.Get(op.Host)
	seen := said(op.Steps)
	if len(h.Witnesses) > 0 {
		seen = append([]string{witnessed(h.Witnesses)}, seen...)
	}
	message := fmt.Sprintf("fencing %s (host id %d, generation %d): %s", op.Host, op.HostID, op.Generation, op.Reason)
	t.wg.Go(func() { // beside what follows: the intent is committed already
		t.notes.Lock()
		defer t.notes.Unlock()
		t.report(t.fenceEvent(t.ctx, fsm.Warning, kind, op, message, strings.Join(seen, "; ")), "recording an event")
		if _, open := t.m.cfg.Cluster.View().OpenFence(op.Host); open {
			t.report(t.fenceState(t.ctx, op.Host, state, op.Reason), "recording the state of "+op.Host)
		}
	})
	return op, nil
}

// commit commits a command and waits until this host's mirror has it: the next look must not be at an older one.
func (t *term) commit(ctx context.Context, cmd fsm.Command) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	out, err := t.m.cfg.Cluster.Apply(ctx, cmd)
	if err != nil {
		return err
	}
	if err := out.Err(); err != nil {
		return err
	}
	for {
		changed := t.m.cfg.Cluster.Changed()
		if t.m.cfg.Cluster.View().Index >= out.Index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// resumeFences goes on with every open operation: those of this term, and those that it inherits.
func (t *term) resumeFences(view *fsm.State) {
	for _, op := range view.OpenFences() {
		h, ok := view.Hosts.Get(op.Host)
		if !ok || !t.heardOf(op.Host) {
			continue
		}
		t.once(keyFence(op.Host), func(ctx context.Context) {
			defer t.stale()
			t.climb(ctx, h, op.ID)
		})
	}
}

// heardOf tells whether this term has asked a host at least once: before that its silence means nothing.
func (t *term) heardOf(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.hosts[host]
	return s != nil && s.asked
}

// climb carries an operation out, rung by rung, until it has ended or the term has.
func (t *term) climb(ctx context.Context, h fsm.Host, id string) {
	for ctx.Err() == nil {
		op, ok := t.m.cfg.Cluster.View().Fences.Get(id)
		if !ok || !op.Open() {
			break
		}
		if err := t.move(ctx, h, op, Next(t.scene(op))); err != nil {
			t.report(err, "fencing "+h.Name)
			pause(ctx, t.m.cfg.Tick)
		}
	}
	t.intend(id, -1)
}

// move does one thing of the ladder.
func (t *term) move(ctx context.Context, h fsm.Host, op fsm.FenceOp, m Move) error {
	switch m.Do {
	case DoTakeover:
		return t.advance(ctx, op, m.Step, true)
	case DoNote:
		return t.advance(ctx, op, m.Step, false)
	case DoIntend:
		t.intend(op.ID, len(op.Steps))
		return t.advance(ctx, op, m.Step, false)
	case DoOrder:
		t.intend(op.ID, -1) // whatever comes of it, it goes out once
		return t.carry(ctx, h, op, m)
	case DoProve:
		return t.proveDead(ctx, h, op)
	case DoEnd:
		return t.endFence(ctx, op, m.Outcome, m.Why, nil)
	case DoWait:
	}
	pause(ctx, t.m.cfg.Tick)
	return nil
}

// intend remembers which step of an operation is an intent of this term that has not gone out; -1: none.
func (t *term) intend(id string, step int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if step < 0 {
		delete(t.intents, id)
		return
	}
	t.intents[id] = step
}

// advance commits one step.
func (t *term) advance(ctx context.Context, op fsm.FenceOp, step fsm.FenceStep, takeover bool) error {
	if err := t.leads(); err != nil {
		return err
	}
	step.Leader, step.Time = t.m.cfg.Host, t.m.cfg.Now().UnixNano()
	if err := t.commit(ctx, &fsm.FenceAdvance{ID: op.ID, Term: t.number, Step: step, Takeover: takeover}); err != nil {
		return fmt.Errorf("committing a step of fence operation %s: %w", op.ID, err)
	}
	if step.Rung == RungPower && (step.Result == fsm.StepFailed || step.Result == fsm.StepUnknown) {
		t.complain(ctx, fsm.Event{Severity: fsm.Error, Kind: kindFenceFailed, Host: op.Host, Reason: op.Reason, Evidence: step.Evidence,
			Message: fmt.Sprintf("switching %s off by %s through %s: %s", op.Host, step.Device, step.Proxy, step.Evidence)})
	}
	return nil
}

// scene makes the picture that Next sees.
func (t *term) scene(op fsm.FenceOp) Scene {
	view := t.m.cfg.Cluster.View()
	in := t.inputs(view)
	s := Scene{Op: op, Term: t.number, Now: t.m.cfg.Now(), Policy: in.Policy, Storage: in.Storage[op.HostID], MostLost: in.mostLost(),
		Unasked: in.unasked(), HoldsLease: in.Lease.Held && in.Lease.Owner == op.HostID, Asked: in.Asked, Soft: t.m.cfg.Soft != nil, Kdump: t.m.cfg.Kdump != nil}
	if h := in.byName(op.Host); h != nil {
		s.Host, s.HasRole = *h, hasRole(&in, h)
		if s.HasRole && forced(op) {
			s.NoHeir = noHeir(&in, h)
		}
	}
	for _, g := range t.m.cfg.Power.Groups(view, op.Host) {
		g.Proxies = pickProxies(in.Hosts, g, op.Host, t.m.cfg.Host)
		s.Groups = append(s.Groups, g)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	step, ok := t.intents[op.ID]
	s.Mine = ok && step == len(op.Steps)-1
	return s
}

// endFence closes an operation, with the proof that came of it.
func (t *term) endFence(ctx context.Context, op fsm.FenceOp, outcome, why string, proof *fsm.Proof) error {
	err := t.commit(ctx, &fsm.FenceEnd{ID: op.ID, Term: t.number, Outcome: outcome, Detail: why, Time: t.m.cfg.Now().UnixNano(), Proof: proof})
	if err != nil {
		return fmt.Errorf("ending fence operation %s: %w", op.ID, err)
	}
	if op.Action == fsm.FenceOn {
		t.endedOn(ctx, op, outcome, why)
		return nil
	}
	t.mu.Lock()
	t.busy[keyFenced(op.Host)] = true
	t.mu.Unlock()
	t.wg.Go(func() { // the role does not wait for the words about it
		t.notes.Lock()
		defer t.notes.Unlock()
		t.ended(t.ctx, op, outcome, why)
		t.mu.Lock()
		delete(t.busy, keyFenced(op.Host))
		t.mu.Unlock()
		t.poke()
	})
	return nil
}

// keyFenced is the key of the last words about an operation on a host that has ended.
func keyFenced(host string) string { return "fenced " + host }

// fencingEnded says what came of an operation.
func fencingEnded(host, outcome, why string) string {
	return fmt.Sprintf("fencing %s has ended (%s): %s", host, outcome, why)
}

// fenceState commits what a fence operation makes of a host. One in maintenance stays there, on or off; down is no word about one that
// answers again already.
func (t *term) fenceState(ctx context.Context, host, state, reason string) error {
	h, ok := t.m.cfg.Cluster.View().Hosts.Get(host)
	if !ok || h.CurrentState() == fsm.HostMaintenance || state == fsm.HostDown && t.answers(host) {
		return nil
	}
	return t.hostState(ctx, host, state, reason)
}

// answers tells whether a host answered the last ping.
func (t *term) answers(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.hosts[host]
	return s != nil && s.reachable
}

// ended records what came of an operation. When that is no proof, NextHost says what the host is now: storage may tell more.
func (t *term) ended(ctx context.Context, op fsm.FenceOp, outcome, why string) {
	message := fencingEnded(op.Host, outcome, why)
	switch outcome {
	case fsm.FenceDone:
		t.report(t.fenceState(ctx, op.Host, fsm.HostDown, why), "recording the state of "+op.Host)
	case fsm.FenceAbandoned:
		t.report(t.fenceEvent(ctx, fsm.Info, "fence.abandoned", op, message, why), "recording an event")
	case fsm.FenceSkipped:
		t.report(t.fenceEvent(ctx, fsm.Warning, "fence.skipped", op, message, why), "recording an event")
	default:
		t.complain(ctx, fsm.Event{Severity: fsm.Error, Kind: kindFenceFailed, Host: op.Host, Reason: op.Reason, Evidence: why, Message: message})
	}
}

// kindFenceFailed is the kind of the event about a fence operation, or an order in it, that failed.
const kindFenceFailed = "fence.failed"

// said is what the rungs of the ladder found so far.
func said(steps []fsm.FenceStep) (out []string) {
	for _, s := range steps {
		if s.Result != fsm.StepIntent && s.Evidence != "" {
			out = append(out, s.Rung+" "+s.Result+": "+s.Evidence)
		}
	}
	return out
}

// fenceEvent records one line of history about an operation.
func (t *term) fenceEvent(ctx context.Context, severity, kind string, op fsm.FenceOp, message, evidence string) error {
	return t.record(ctx, fsm.Event{Kind: kind, Severity: severity, Host: op.Host, Message: message, Reason: op.Reason, Evidence: evidence})
}

// since is the time that has passed since a committed moment.
func since(now time.Time, ns int64) time.Duration { return now.Sub(time.Unix(0, ns)) }
