package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
)

// MethodPower asks a host to use power devices of another one on the leader's behalf; MethodPowerHealth to look at them.
const (
	MethodPower       = "host.power"
	MethodPowerHealth = "host.power_health"
)

// PowerRequest asks a proxy to use one group of power devices.
type PowerRequest struct {
	Host   string         `json:"host"`
	Order  int            `json:"order"` // of the group
	Action fencing.Action `json:"action"`
	// Op, Step and Term name the committed intent that an order stands on; a status needs none.
	Op   string `json:"op,omitempty"`
	Step int    `json:"step,omitempty"`
	Term uint64 `json:"term,omitempty"`
}

// PowerReply tells what the devices said.
type PowerReply struct {
	State    fencing.State    `json:"state,omitempty"` // of a status
	Evidence fencing.Evidence `json:"evidence,omitzero"`
	Detail   string           `json:"detail,omitempty"`
	Took     time.Duration    `json:"took_ns"`
}

// Switch is one group of power devices of a host as this host can use it. Off returns when the group's own status says off.
type Switch interface {
	Status(ctx context.Context) (fencing.State, string, error)
	Off(ctx context.Context) (fencing.Evidence, error)
	On(ctx context.Context) (string, error)
	Health(ctx context.Context) fencing.Health
}

// Switches are the power devices of all hosts.
type Switches interface {
	// Groups lists those of a host in the order in which they are tried; none: it has no power device.
	Groups(view *fsm.State, host string) []Group
	// Open makes one group ready to be used on this host.
	Open(view *fsm.State, host string, order int) (Switch, error)
}

// PowerProxy uses power devices of other hosts on a leader's behalf. It carries out an order only when its own mirror holds the
// intent of it as the last word of the operation: a leader whose term is over cannot reach a device through it once another
// leader has gone on.
type PowerProxy struct {
	Host     string
	View     func() *fsm.State
	Switches Switches
}

var (
	// ErrOrderOver says that an order is not, or no longer, what the operation is about: another leader went on, or it has ended.
	ErrOrderOver = errors.New("the order is over: look at the fence operation again")
	// ErrOrderUnknown says that this host's mirror does not have the intent of an order yet.
	ErrOrderUnknown = errors.New("this host has not heard of the order's intent; ask another one, or try again")
	// ErrOwnPower says that a host was asked to switch itself.
	ErrOwnPower = errors.New("a host does not switch itself; ask another one")
)

// Power carries out one request.
func (p *PowerProxy) Power(ctx context.Context, req PowerRequest) (PowerReply, error) {
	if req.Host == p.Host && req.Action != fencing.ActionStatus {
		return PowerReply{}, fmt.Errorf("host %s: %w", p.Host, ErrOwnPower)
	}
	begun := time.Now()
	if req.Action != fencing.ActionStatus {
		if err := p.awaitIntent(ctx, req); err != nil {
			return PowerReply{}, err
		}
		var done func()
		ctx, done = p.whileIntended(ctx, req)
		defer done()
	}
	sw, err := p.Switches.Open(p.View(), req.Host, req.Order)
	if err != nil {
		return PowerReply{}, err
	}
	var rep PowerReply
	switch req.Action {
	case fencing.ActionStatus:
		rep.State, rep.Detail, err = sw.Status(ctx)
	case fencing.ActionOff:
		rep.Evidence, err = sw.Off(ctx)
	case fencing.ActionOn:
		rep.Detail, err = sw.On(ctx)
	default:
		err = fmt.Errorf("power action %q: %w", req.Action, fencing.ErrUnsupported)
	}
	rep.Took = time.Since(begun)
	if stopped := context.Cause(ctx); errors.Is(stopped, errOrderStopped) {
		return PowerReply{Took: rep.Took}, errors.Join(stopped, err)
	}
	return rep, err
}

// errOrderStopped says that an order was given up here in the middle. It may have been carried out.
var errOrderStopped = errors.New("the fence operation went on while the order was carried out, which may have been done")

// stillIntended is how often a proxy looks whether an order that takes its time is still wanted.
const stillIntended = 50 * time.Millisecond

// whileIntended is ctx until the order's intent is not the last word of its operation any more: devices are slow, and what is ordered
// again and again until a status says so must not reach a host that was given up meanwhile. The caller calls done.
func (p *PowerProxy) whileIntended(ctx context.Context, req PowerRequest) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(stillIntended)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := mayOrder(p.View(), p.Host, req); err != nil {
				cancel(fmt.Errorf("%w: %v", errOrderStopped, err)) // not an ErrOrderOver: that one surely did nothing
				return
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled); <-ended }
}

// Handlers returns what the agent registers on its cluster port.
func (p *PowerProxy) Handlers() map[string]spm.Handler {
	return map[string]spm.Handler{MethodPower: handle(p.Power), MethodPowerHealth: handle(p.Health)}
}

// Health looks at all groups of a host, without switching anything.
func (p *PowerProxy) Health(ctx context.Context, req PowerRequest) (fencing.Health, error) {
	all := fencing.Health{At: time.Now()}
	view := p.View()
	groups := p.Switches.Groups(view, req.Host)
	if len(groups) == 0 {
		return all, fmt.Errorf("host %s: %w", req.Host, fencing.ErrNoAgent)
	}
	for _, g := range groups {
		sw, err := p.Switches.Open(view, req.Host, g.Order)
		if err != nil {
			all.Devices = append(all.Devices, fencing.DeviceHealth{Name: g.Label, Order: g.Order, State: fencing.Unknown, Error: err.Error()})
			continue
		}
		h := sw.Health(ctx)
		all.Off, all.On = all.Off || h.Off, all.On || h.On
		all.Devices = append(all.Devices, h.Devices...)
	}
	return all, nil
}

// awaitIntent waits until this host's mirror allows the order, or surely never will; it may be a commit behind the leader.
func (p *PowerProxy) awaitIntent(ctx context.Context, req PowerRequest) error {
	ctx, cancel := context.WithTimeout(ctx, proofWait)
	defer cancel()
	for {
		err := mayOrder(p.View(), p.Host, req)
		if !errors.Is(err, ErrOrderUnknown) {
			return err
		}
		if pause(ctx, 5*time.Millisecond); ctx.Err() != nil {
			return err
		}
	}
}

// mayOrder tells whether the mirror holds the intent of exactly this order, for this proxy, as the last word. Pure.
func mayOrder(view *fsm.State, self string, req PowerRequest) error {
	op, ok := view.Fences.Get(req.Op)
	switch {
	case !ok || op.Term < req.Term || len(op.Steps) <= req.Step:
		return fmt.Errorf("fence operation %s: %w", req.Op, ErrOrderUnknown)
	case !op.Open():
		return fmt.Errorf("fence operation %s has ended (%s): %w", req.Op, op.Outcome, ErrOrderOver)
	case op.Term > req.Term:
		return fmt.Errorf("fence operation %s belongs to term %d, the order came from term %d: %w", req.Op, op.Term, req.Term, ErrOrderOver)
	case len(op.Steps) != req.Step+1:
		return fmt.Errorf("fence operation %s went on after step %d: %w", req.Op, req.Step, ErrOrderOver)
	}
	st := op.Steps[req.Step]
	if st.Result != fsm.StepIntent || op.Host != req.Host || st.Proxy != self || st.Term != req.Term || rungOf(req.Action) != st.Rung {
		return fmt.Errorf("step %d of fence operation %s is %s of %s through %q, not %s of %s: %w", req.Step, req.Op, st.Rung, op.Host, st.Proxy, req.Action,
			req.Host, ErrOrderOver)
	}
	return nil
}

// rungOf is the rung that an order stands on.
func rungOf(a fencing.Action) string {
	switch a {
	case fencing.ActionOff:
		return RungPower
	case fencing.ActionOn:
		return RungOn
	}
	return ""
}

// agentSwitches makes Switches of one Agent that is the same on every host.
type agentSwitches struct {
	agent     fencing.Agent
	fenceable func(host string) bool
}

// AgentSwitches makes Switches of an Agent that every host has, like `process`: one group of one device.
func AgentSwitches(agent fencing.Agent, fenceable func(host string) bool) Switches {
	return agentSwitches{agent, fenceable}
}

// agentLabel is the name of the device that an Agent is.
const agentLabel = "process"

// Groups is the agent, if it serves the host.
func (a agentSwitches) Groups(_ *fsm.State, host string) []Group {
	if a.fenceable == nil || !a.fenceable(host) {
		return nil
	}
	return []Group{{Label: agentLabel, Local: true}}
}

// Open is the agent with one host.
func (a agentSwitches) Open(_ *fsm.State, host string, _ int) (Switch, error) {
	return AgentSwitch(a.agent, host), nil
}

// AgentSwitch is one host of an Agent.
func AgentSwitch(agent fencing.Agent, host string) Switch { return agentSwitch{agent, host} }

type agentSwitch struct {
	agent fencing.Agent
	host  string
}

func (a agentSwitch) Status(ctx context.Context) (fencing.State, string, error) {
	st, err := a.agent.Status(ctx, a.host)
	return st, "", err
}

func (a agentSwitch) Off(ctx context.Context) (fencing.Evidence, error) {
	return a.agent.Off(ctx, a.host)
}

func (a agentSwitch) On(ctx context.Context) (string, error) { return "", a.agent.On(ctx, a.host) }

// Health asks for the status.
func (a agentSwitch) Health(ctx context.Context) fencing.Health {
	m, err := fencing.NewMachine(a.host, []fencing.Member{{Name: agentLabel, Device: fencing.AgentDevice(a.agent, a.host)}}, fencing.DefaultTiming())
	if err != nil {
		return fencing.Health{At: time.Now()}
	}
	return m.Health(ctx)
}
