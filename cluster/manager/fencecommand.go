package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
)

var (
	// ErrHostRuns refuses to switch off a host that answers and is not in maintenance.
	ErrHostRuns = errors.New("the host answers: put it into maintenance first (holdfast host maintenance), or force it")
	// ErrHostRenews refuses to fence a host that is silent and renews its leases: its guests run.
	ErrHostRenews = errors.New("the host does not answer, but renews its leases on storage, so its guests may run: force it if that is what you want")
	// ErrHostUntold refuses to fence a host that has been silent for so short a time that storage does not tell yet whether it lives.
	ErrHostUntold = errors.New("the host does not answer, and storage does not tell yet whether it renews its leases: try again in a moment, or force it")
	// ErrHalfSilent refuses to fence while at least half the hosts do not answer.
	ErrHalfSilent = errors.New("at least half the hosts do not answer, so the fault may be here: look at the network, or force it")
	// ErrLeaderPower refuses to let the leader act on its own power.
	ErrLeaderPower = errors.New("the host leads the cluster, and no host acts on its own power: let another one lead (holdfast operator raft transfer)")
)

// QuietError refuses to act on the power of a host again so soon.
type QuietError struct {
	Host string
	Left time.Duration
}

// Error says how long it has to be left alone.
func (e *QuietError) Error() string {
	return fmt.Sprintf("the power of %s was acted on a short time ago; wait for another %s, or force it", e.Host, e.Left.Round(time.Second))
}

// ActionFence is a PowerOrder's action besides those of package fsm: off with a proof, then on if the policy says so.
const ActionFence = "fence"

// PowerOrder is what a person wants done with a host's power.
type PowerOrder struct {
	Host   string
	Action string // ActionFence, fsm.FenceOff, fsm.FenceOn or fsm.FenceRestart
	Reason string
	By     string
	// Force acts whether the host answers, renews on storage, was acted on a short time ago, or half the hosts are silent.
	Force bool
}

// Order carries an order out and waits until it has ended, or ctx does: then the operation goes on, and is returned as it is. It
// works on the leader.
func (m *Manager) Order(ctx context.Context, o PowerOrder) (fsm.FenceOp, error) {
	var op fsm.FenceOp
	err := m.inTerm(ctx, func(t *term) (err error) {
		ctx, done := t.within(ctx)
		defer done()
		op, err = t.beginOrder(ctx, o)
		return err
	})
	if err != nil {
		return op, err
	}
	return m.awaitOp(ctx, op), nil
}

// within is ctx until the term ends. The caller calls done.
func (t *term) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// awaitOp waits for the end of an operation.
func (m *Manager) awaitOp(ctx context.Context, op fsm.FenceOp) fsm.FenceOp {
	for {
		changed := m.cfg.Cluster.Changed()
		if now, ok := m.cfg.Cluster.View().Fences.Get(op.ID); ok {
			op = now
		}
		if !op.Open() {
			return op
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return op
		}
	}
}

// beginOrder checks an order and commits it. The loop carries it out.
func (t *term) beginOrder(ctx context.Context, o PowerOrder) (fsm.FenceOp, error) {
	view := t.m.cfg.Cluster.View()
	h, ok := view.Hosts.Get(o.Host)
	switch {
	case t.leads() != nil:
		return fsm.FenceOp{}, t.leads()
	case !ok:
		return fsm.FenceOp{}, &fsm.RefusedError{Code: fsm.CodeNotFound, Message: "no host named " + o.Host}
	case o.Host == t.m.cfg.Host:
		return fsm.FenceOp{}, fmt.Errorf("host %s: %w", o.Host, ErrLeaderPower)
	case len(t.m.cfg.Power.Groups(view, o.Host)) == 0:
		return fsm.FenceOp{}, fmt.Errorf("host %s: %w", o.Host, fencing.ErrNoAgent)
	}
	in := t.awaitAsked(ctx, view)
	op := fsm.FenceOp{Host: h.Name, HostID: h.HostID, Generation: max(h.Generation, in.Storage[h.HostID].Generation), Action: o.Action,
		Reason: cmp.Or(o.Reason, "ordered by "+o.By), By: o.By, ByPerson: true}
	if o.Action == ActionFence {
		op.Action = fsm.FenceOff
		if in.Policy.RestartAfterOff {
			op.Action = fsm.FenceRestart
		}
	}
	if op.Action != fsm.FenceOn {
		leave, err := t.mayForce(ctx, h, &in, o)
		if err != nil {
			return op, err
		}
		if leave {
			op.Steps = []fsm.FenceStep{{Rung: RungPerson, Result: fsm.StepOK, Time: t.m.cfg.Now().UnixNano(), Evidence: o.By + " wants it whatever is seen of the host"}}
		}
	}
	t.mu.Lock()
	busy := t.busy[keyFence(o.Host)]
	t.mu.Unlock()
	if _, open := view.OpenFence(o.Host); busy && !open {
		return op, &fsm.RefusedError{Code: fsm.CodeConflict, Message: "something is done with host " + o.Host + " after it was proven dead; try again in a moment"}
	}
	op, err := t.beginFence(ctx, op)
	if err != nil {
		return op, err
	}
	t.poke()
	return op, nil
}

// mayForce checks whether a host may be switched off, and whether that holds although it answers: a person forces it, or it is in
// maintenance.
func (t *term) mayForce(ctx context.Context, h fsm.Host, in *Inputs, o PowerOrder) (whatever bool, err error) {
	idle := h.State == fsm.HostMaintenance
	if o.Force || idle {
		return true, nil
	}
	off, _ := lastFences(t.m.cfg.Cluster.View())
	left := quietLeft(off[h.Name], in.Policy.FenceQuiet, t.m.cfg.Now())
	switch {
	case t.ask(ctx, h) != nil:
		return false, fmt.Errorf("host %s: %w", h.Name, ErrHostRuns)
	case left > 0:
		return false, &QuietError{Host: h.Name, Left: left}
	case in.Storage[h.HostID].Renewing:
		return false, fmt.Errorf("host %s: %w", h.Name, ErrHostRenews)
	case untold(in, h):
		return false, fmt.Errorf("host %s: %w", h.Name, ErrHostUntold)
	case in.mostLost():
		return false, fmt.Errorf("host %s: %w", h.Name, ErrHalfSilent)
	}
	return false, nil
}

// untold tells whether a host that does not answer may live as far as storage can say yet: renewals are told from old ones only after a
// while, and a new leader has not looked.
func untold(in *Inputs, h fsm.Host) bool {
	s, seen := in.Storage[h.HostID], in.byName(h.Name)
	switch {
	case seen == nil || seen.Power == PowerOff || max(seen.LostFor, s.Still) >= in.Policy.SilentAfter:
		return false
	}
	return s.Status == Live || s.Status == Unknown || s.Status == Unseen
}

// awaitAsked waits until every host was asked once, or its ping has had its time.
func (t *term) awaitAsked(ctx context.Context, view *fsm.State) Inputs {
	ctx, cancel := context.WithTimeout(ctx, 2*t.m.cfg.PingTimeout)
	defer cancel()
	for {
		in := t.inputs(view)
		if !in.unasked() || ctx.Err() != nil {
			return in
		}
		pause(ctx, t.m.cfg.Tick/4)
	}
}

// GroupStatus is what one group of a host's power devices says.
type GroupStatus struct {
	Devices string
	Order   int
	Proxy   string
	State   fencing.State
	Detail  string
	Error   string
}

// PowerStatus asks the power devices of a host, each group through the best proxy. It works on the leader.
func (m *Manager) PowerStatus(ctx context.Context, host string) ([]GroupStatus, error) {
	var out []GroupStatus
	err := m.inTerm(ctx, func(t *term) error {
		ctx, done := t.within(ctx)
		defer done()
		s, err := t.powerScene(host)
		if err != nil {
			return err
		}
		for _, g := range s.Groups {
			st := GroupStatus{Devices: g.Label, Order: g.Order, State: fencing.Unknown}
			if len(g.Proxies) > 0 {
				st.Proxy = g.Proxies[0]
			}
			var rep PowerReply
			err := t.power(ctx, t.m.cfg.StatusTimeout, st.Proxy, PowerRequest{Host: host, Order: g.Order, Action: fencing.ActionStatus}, &rep)
			if err != nil {
				st.Error = err.Error()
			} else {
				st.State, st.Detail = rep.State, rep.Detail
			}
			out = append(out, st)
		}
		return nil
	})
	return out, err
}

// PowerHealth looks at all power devices of a host through proxy, or the best one when that is empty. It works on the leader.
func (m *Manager) PowerHealth(ctx context.Context, host, proxy string) (through string, h fencing.Health, err error) {
	err = m.inTerm(ctx, func(t *term) error {
		ctx, done := t.within(ctx)
		defer done()
		s, err := t.powerScene(host)
		if err != nil {
			return err
		}
		all := s.Groups[0].Proxies
		if len(all) == 0 {
			return fmt.Errorf("no host could look at the power of %s now: %w", host, fencing.ErrUnreachable)
		}
		if proxy != "" && !slices.Contains(all, proxy) {
			return &fsm.RefusedError{Code: fsm.CodeConflict, Message: fmt.Sprintf("%s cannot look at the power of %s now; these can: %v", proxy, host, all)}
		}
		through = proxy
		if through == "" {
			through = all[0]
		}
		h, err = t.health(ctx, through, host)
		return err
	})
	return through, h, err
}

// health asks one proxy to look at a host's power devices.
func (t *term) health(ctx context.Context, proxy, host string) (h fencing.Health, err error) {
	req := PowerRequest{Host: host, Action: fencing.ActionStatus}
	if proxy != t.m.cfg.Host {
		err = t.call(ctx, t.m.cfg.StatusTimeout, proxy, MethodPowerHealth, req, &h)
		return h, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.m.cfg.StatusTimeout)
	defer cancel()
	return t.m.proxy.Health(ctx, req)
}

// powerScene is what a question about a host's power needs.
func (t *term) powerScene(host string) (Scene, error) {
	h, ok := t.m.cfg.Cluster.View().Hosts.Get(host)
	if !ok {
		return Scene{}, &fsm.RefusedError{Code: fsm.CodeNotFound, Message: "no host named " + host}
	}
	s := t.scene(fsm.FenceOp{Host: h.Name, HostID: h.HostID})
	if len(s.Groups) == 0 {
		return s, fmt.Errorf("host %s: %w", host, fencing.ErrNoAgent)
	}
	return s, nil
}
