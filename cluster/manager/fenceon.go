package manager

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
)

// powerOn switches fenced hosts on again once their records are freed and the role is settled. It may fail freely.
func (t *term) powerOn(view *fsm.State, in Inputs) {
	t.mu.Lock()
	calm := t.calm
	t.mu.Unlock()
	now := t.m.cfg.Now()
	off, on := lastFences(view)
	for i := range in.Hosts {
		f := &in.Hosts[i]
		h, ok := view.Hosts.Get(f.Name)
		fenced := off[f.Name]
		if !ok || !onWanted(h, f, fenced, on[f.Name]) || t.fencing(f.Name) || in.DisarmedFor > 0 {
			continue
		}
		if !calm && since(now, fenced.Ended) < in.Policy.StartTimeout {
			continue
		}
		if last := on[f.Name]; last.Began > fenced.Ended && since(now, last.Began) < onBackoff(view, fenced, in.Policy.FenceQuiet) {
			continue
		}
		t.once(keyFence(f.Name), func(ctx context.Context) {
			t.switchOn(ctx, h, "it was fenced and is off: "+fenced.Reason, byManager, false)
		})
	}
}

// onWanted tells whether a host was fenced to come back, is off, and was not switched on since.
func onWanted(h fsm.Host, f *Host, off, on fsm.FenceOp) bool {
	switch {
	case off.Action != fsm.FenceRestart || off.Outcome != fsm.FenceDone || off.ProofGeneration == 0 || off.HostID != h.HostID: // a namesake's
		return false
	case f.Maintenance || f.Leaving: // somebody may have their hands in it
		return false
	case f.Reachable || !f.Fenceable || f.Power != PowerOff || h.Generation > off.ProofGeneration:
		return false
	}
	return on.Began < off.Ended || on.Outcome != fsm.FenceDone || f.Power == PowerOff
}

// onBackoff is the time between two attempts to switch a host on: doubling from the quiet time to 16 times that.
func onBackoff(view *fsm.State, off fsm.FenceOp, quiet time.Duration) time.Duration {
	n := 0
	for _, op := range view.FencesOf(off.Host) {
		if op.Action == fsm.FenceOn && op.Began > off.Ended {
			n++
		}
	}
	return quiet << min(max(n-1, 0), 4)
}

// switchOn begins an operation that switches a host on, and carries it out.
func (t *term) switchOn(ctx context.Context, h fsm.Host, reason, by string, person bool) {
	op, err := t.beginFence(ctx, fsm.FenceOp{Host: h.Name, HostID: h.HostID, Generation: h.Generation, Action: fsm.FenceOn, Reason: reason, By: by,
		ByPerson: person})
	if err != nil {
		t.report(err, "beginning to switch "+h.Name+" on")
		pause(ctx, t.m.cfg.Tick)
		return
	}
	t.climb(ctx, h, op.ID)
}

// carryOn switches on through a proxy.
func (t *term) carryOn(ctx context.Context, op fsm.FenceOp, m Move) error {
	if err := t.inOffice(ctx, op); err != nil {
		return t.tell(op, m.Step, fsm.StepSkipped, "the order did not go out: "+err.Error())
	}
	s := t.scene(op)
	if end, over := s.over(); over {
		return t.tell(op, m.Step, fsm.StepSkipped, "the order did not go out: "+end.Why)
	}
	var rep PowerReply
	req := PowerRequest{Host: op.Host, Order: m.Order, Action: fencing.ActionOn, Op: op.ID, Step: len(op.Steps) - 1, Term: t.number}
	if err := t.power(ctx, t.m.cfg.FenceTimeout, m.Step.Proxy, req, &rep); err != nil {
		return t.tell(op, m.Step, resultOf(err), err.Error())
	}
	if err := t.tell(op, m.Step, fsm.StepOK, rep.Detail); err != nil {
		return err
	}
	return t.endFence(t.ctx, op, fsm.FenceDone, "switched on through "+m.Step.Proxy, nil)
}

// endedOn records what the end of an operation that was to switch a host on means for it.
func (t *term) endedOn(ctx context.Context, op fsm.FenceOp, outcome, why string) {
	if outcome != fsm.FenceDone {
		t.complain(ctx, fsm.Event{Severity: fsm.Warning, Kind: "fence.on_failed", Host: op.Host, Reason: op.Reason, Evidence: why,
			Message: fmt.Sprintf("switching %s on again: %s", op.Host, why)})
		return
	}
	t.wg.Go(func() {
		t.notes.Lock()
		defer t.notes.Unlock()
		t.report(t.fenceEvent(t.ctx, fsm.Info, "fence.on", op, op.Host+" was switched on again", why), "recording an event")
		t.report(t.rebooting(t.ctx, op.Host, why), "recording the state of "+op.Host)
	})
}

// rebooting commits that a host that was down has power and is awaited. One that answers already has its state from that.
func (t *term) rebooting(ctx context.Context, host, why string) error {
	h, ok := t.m.cfg.Cluster.View().Hosts.Get(host)
	if !ok || t.answers(host) {
		return nil
	}
	switch h.CurrentState() {
	case fsm.HostDown, fsm.HostNonResponsive, fsm.HostFencing, fsm.HostMaintenance:
	default:
		return nil
	}
	state, until := fsm.HostRebooting, t.m.cfg.Now().Add(t.m.cfg.Policy.RebootWait).UnixNano()
	return t.command(ctx, &fsm.HostUpdate{Name: host, State: &state, Reason: &why, Deadline: &until, Time: t.m.cfg.Now().UnixNano()})
}
