package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/plant"
)

// carry carries an intent out that is committed.
func (t *term) carry(ctx context.Context, h fsm.Host, op fsm.FenceOp, m Move) error {
	ctx, done := t.untilOver(ctx, op)
	defer done()
	switch m.Step.Rung {
	case RungSoft:
		return t.carrySoft(ctx, h, op, m.Step)
	case RungKdump:
		return t.carryKdump(ctx, h, op, m.Step)
	case RungOn:
		return t.carryOn(ctx, op, m)
	}
	return t.carryOff(ctx, h, op, m)
}

// carryOff is the written order: the records read for their generations, a last question, the order, an independent status,
// the records read again for their times, the proof.
func (t *term) carryOff(ctx context.Context, h fsm.Host, op fsm.FenceOp, m Move) error {
	before := make(chan sights, 1)
	t.wg.Go(func() { before <- t.sight(t.ctx, h.HostID) })
	err := t.stillOn(ctx, h, op)
	was := <-before
	if err != nil {
		return t.tell(op, m.Step, fsm.StepSkipped, "the order did not go out: "+err.Error())
	}
	ev, err := t.off(ctx, h, op, m)
	if err != nil {
		return t.tell(op, m.Step, resultOf(err), err.Error())
	}
	if err := t.tell(op, m.Step, fsm.StepOK, ev.Detail); err != nil {
		return err
	}
	t.hushed(h.Name)
	proof := t.proofOf(h, op, ev, t.sight(t.ctx, h.HostID).records(was))
	if err := t.endFence(t.ctx, op, fsm.FenceDone, "off is confirmed: "+ev.Detail, &proof); err != nil {
		return err
	}
	t.finish(t.ctx, h, t.freeProven(t.ctx, h, proof.Generation))
	return nil
}

// hushed forgets that a host answered before its power was off. One that answers after that says so at its next ping.
func (t *term) hushed(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.hosts[host]; s != nil {
		s.reachable = false
	}
}

// stillOn is the last look before an order goes out: the term, the operation, and the host, which is asked once more.
func (t *term) stillOn(ctx context.Context, h fsm.Host, op fsm.FenceOp) error {
	if !forced(op) {
		if err := t.ask(ctx, h); err != nil {
			return err
		}
		s := t.scene(op)
		if end, over := s.over(); over { // the ping loop may have heard it meanwhile
			return errors.New(end.Why)
		}
		if why := s.tooSoon(); why != "" {
			return errors.New("it waits for " + why)
		}
	}
	return t.inOffice(ctx, op)
}

// leads tells whether this is still the leader's term. The log takes commands from anybody, so a leader looks before it proposes
// anything about a host's power.
func (t *term) leads() error {
	if now := t.m.cfg.Term(); now == 0 || now != t.number {
		return fmt.Errorf("the leader's term %d is over: %w", t.number, ErrNotLeading)
	}
	return nil
}

// inOffice tells whether this term may still act on the operation.
func (t *term) inOffice(ctx context.Context, op fsm.FenceOp) error {
	now, ok := t.m.cfg.Cluster.View().Fences.Get(op.ID)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case t.leads() != nil:
		return t.leads()
	case !ok || !now.Open() || now.Term != t.number || len(now.Steps) != len(op.Steps):
		return fmt.Errorf("fence operation %s went on without this leader", op.ID)
	}
	return nil
}

// ask asks the host one last time.
func (t *term) ask(ctx context.Context, h fsm.Host) error {
	var rep PingReply
	if err := t.call(ctx, t.m.cfg.PingTimeout, h.Name, MethodPing, struct{}{}, &rep); err == nil {
		return errAnswered
	}
	return nil
}

// off switches the host off through a proxy, and has that confirmed through another one when there is one.
func (t *term) off(ctx context.Context, h fsm.Host, op fsm.FenceOp, m Move) (fencing.Evidence, error) {
	if plant.On(plant.FenceNoWait) { // planted: the proof comes before the power-off, which never does
		return fencing.Evidence{Kind: fencing.KindProcessExit, Detail: "nobody looked", At: t.m.cfg.Now()}, nil
	}
	var rep PowerReply
	req := PowerRequest{Host: op.Host, Order: m.Order, Action: fencing.ActionOff, Op: op.ID, Step: len(op.Steps) - 1, Term: t.number}
	if err := t.power(ctx, t.m.cfg.FenceTimeout, m.Step.Proxy, req, &rep); err != nil {
		return fencing.Evidence{}, err
	}
	ev := rep.Evidence
	if ev.Kind == "" {
		return ev, fmt.Errorf("%s gave no evidence: %w", m.Step.Proxy, fencing.ErrNotConfirmed)
	}
	said := make(chan error, 1)
	t.wg.Go(func() { said <- t.ask(ctx, h) })
	by, err := t.confirmOff(ctx, op, m)
	if answered := <-said; answered != nil && !plant.On(plant.ProofNoStatus) {
		return fencing.Evidence{}, fmt.Errorf("its power devices say off, and %s answers: they may be wired to another machine: %w", op.Host, fencing.ErrNotConfirmed)
	}
	if err != nil {
		return fencing.Evidence{}, err
	}
	ev.Detail = fmt.Sprintf("%s (through %s; status through %s: off)", ev.Detail, m.Step.Proxy, by)
	if pause(ctx, ev.Settle); ctx.Err() != nil && ev.Settle > 0 {
		return fencing.Evidence{}, fmt.Errorf("waiting until requests of %s are over: %w: %w", op.Host, fencing.ErrNotConfirmed, context.Cause(ctx))
	}
	return ev, nil
}

// confirmOff asks for the status by a request of its own. One clear "on" is enough to believe nothing.
func (t *term) confirmOff(ctx context.Context, op fsm.FenceOp, m Move) (by string, err error) {
	if plant.On(plant.ProofNoStatus) { // planted: whoever took the order will have carried it out
		return "nobody", nil
	}
	s := t.scene(op)
	proxies := []string{m.Step.Proxy}
	for _, g := range s.Groups {
		if g.Order == m.Order {
			proxies = checkers(g.Proxies, m.Step.Proxy)
		}
	}
	err = fmt.Errorf("the status after the off: %w", fencing.ErrNotConfirmed)
	for _, p := range proxies {
		var rep PowerReply
		failed := t.power(ctx, t.m.cfg.StatusTimeout, p, PowerRequest{Host: op.Host, Order: m.Order, Action: fencing.ActionStatus}, &rep)
		switch {
		case failed != nil:
			err = errors.Join(err, fmt.Errorf("through %s: %w", p, failed))
		case rep.State == fencing.Off:
			return p, nil
		case rep.State == fencing.On:
			return p, fmt.Errorf("the off was carried out through %s, but asked through %s it is on: %w", m.Step.Proxy, p, fencing.ErrNotConfirmed)
		default:
			err = errors.Join(err, fmt.Errorf("through %s: %s %s", p, rep.State, rep.Detail))
		}
	}
	return "", err
}

// power asks a proxy; this host itself without a way over the network.
func (t *term) power(ctx context.Context, bound time.Duration, proxy string, req PowerRequest, rep *PowerReply) error {
	if proxy != t.m.cfg.Host {
		return t.call(ctx, bound, proxy, MethodPower, req, rep)
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var err error
	*rep, err = t.m.proxy.Power(ctx, req)
	return err
}

// resultOf tells whether an order surely failed or may have been carried out.
func resultOf(err error) string {
	if fencing.Futile(err) || errors.Is(err, ErrOrderOver) || errors.Is(err, ErrOrderUnknown) {
		return fsm.StepFailed
	}
	return fsm.StepUnknown
}

// tell commits what came of an intent. It does not end with what the order ended with.
func (t *term) tell(op fsm.FenceOp, intent fsm.FenceStep, result, evidence string) error {
	step := fsm.FenceStep{Rung: intent.Rung, Device: intent.Device, Proxy: intent.Proxy, Result: result, Evidence: evidence}
	return t.advance(t.ctx, op, step, false)
}

// proofOf makes the proof of a confirmed off.
func (t *term) proofOf(h fsm.Host, op fsm.FenceOp, ev fencing.Evidence, spaces []fsm.SpaceRecord) fsm.Proof {
	return fsm.Proof{Kind: ev.Kind, Host: h.Name, HostID: h.HostID, Generation: op.Generation, Evidence: ev.Detail, By: t.m.cfg.Host,
		Time: t.m.cfg.Now().UnixNano(), Spaces: ofMaster(spaces, t.master(), op.Generation)}
}

// ofMaster leaves the master's lockspace out when it shows another generation than the one that the proof is about.
func ofMaster(spaces []fsm.SpaceRecord, master string, generation uint64) []fsm.SpaceRecord {
	return slices.DeleteFunc(spaces, func(s fsm.SpaceRecord) bool { return s.Lockspace == master && s.Generation != generation })
}

// untilOver is ctx until the operation has ended, or a proof or an answer of the host makes what is being done needless. The caller
// calls done.
func (t *term) untilOver(ctx context.Context, op fsm.FenceOp) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	t.wg.Go(func() {
		defer close(ended)
		tick := time.NewTicker(t.m.cfg.Tick)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if why := t.needless(op); why != "" {
				cancel(errors.New("it was given up: " + why))
				return
			}
		}
	})
	return ctx, func() { cancel(context.Canceled); <-ended }
}

// needless says why what is being done for an operation needs not be done any more; empty: it does.
func (t *term) needless(op fsm.FenceOp) string {
	now, ok := t.m.cfg.Cluster.View().Fences.Get(op.ID)
	if !ok || !now.Open() {
		return "the operation has ended"
	}
	s := t.scene(now)
	if end, over := s.over(); over {
		return end.Why
	}
	if op.Action != fsm.FenceOn && s.Storage.Status == Dead && s.Storage.Generation == op.Generation && s.deadIsProof() && !s.deadTried() {
		return "its lease is DEAD"
	}
	return ""
}

// proveDead makes a proof of a lease that is DEAD, if it is dead or free in every lockspace.
func (t *term) proveDead(ctx context.Context, h fsm.Host, op fsm.FenceOp) error {
	seen := t.sightFor(ctx, SightRequest{HostIDs: []int{h.HostID}, Disk: true, Unused: true})
	if err := t.unproven(h, seen); err != nil {
		return t.advance(ctx, op, fsm.FenceStep{Rung: RungLease, Result: fsm.StepUnknown, Evidence: "its lease is DEAD on the master, but: " + err.Error()}, false)
	}
	why := fmt.Sprintf("its leases are dead or free in all %d lockspaces, and its watchdog has fired", len(seen))
	if err := t.advance(ctx, op, fsm.FenceStep{Rung: RungLease, Result: fsm.StepOK, Evidence: why}, false); err != nil {
		return err
	}
	proof := t.proofOf(h, op, fencing.Evidence{Kind: fsm.ProofDead, Detail: why}, seen.records(seen))
	if err := t.endFence(ctx, op, fsm.FenceDone, why, &proof); err != nil {
		return err
	}
	t.finish(ctx, h, t.freeProven(ctx, h, proof.Generation))
	return nil
}
