package fencing

import "context"

// Device is the power switch of one machine: a BMC, an outlet, a fence agent. Its orders only order; whether they were
// carried out is asked with Status afterwards, by whoever needs to know (Machine does). Every call ends soon after its
// context does. Devices are safe for concurrent use.
//
// What a device saw on its way, and is worth keeping as evidence, it tells with Note.
type Device interface {
	// Status asks, and changes nothing. An answer that is neither on nor off is Unknown, without an error.
	Status(ctx context.Context) (State, error)
	// Off orders the power off. A nil error is no proof that it is.
	Off(ctx context.Context) error
	// On orders the power on.
	On(ctx context.Context) error
	// Reset orders a hard reset. It never proves anything: a machine that was reset is on before and after.
	Reset(ctx context.Context) error
}

// Checker is a Device that can check more than a status shows, without touching the power: Machine.Health asks it.
type Checker interface {
	Check(ctx context.Context) error
}

// Settler is a Device whose machine may have sent requests that are carried out after it is off. Settle is called when the
// device has said off, whoever switched it off, and returns when they are over; an error means that off proves nothing yet.
type Settler interface {
	Settle(ctx context.Context) error
}

// Action is what a device can be asked for.
type Action string

// Actions. Restart is none of a device's: Machine makes it of off and on, with a status after each.
const (
	ActionStatus  Action = "status"
	ActionOff     Action = "off"
	ActionOn      Action = "on"
	ActionReset   Action = "reset"
	ActionSettle  Action = "settle" // Settler
	ActionRestart Action = "restart"
)

// noDevice is what a machine without a power switch has.
type noDevice struct{}

// NoDevice returns the device of a machine that has none: its status is unknown, its orders fail with ErrNoAgent.
func NoDevice() Device { return noDevice{} }

func (noDevice) Status(context.Context) (State, error) { return Unknown, ErrNoAgent }
func (noDevice) Off(context.Context) error             { return ErrNoAgent }
func (noDevice) On(context.Context) error              { return ErrNoAgent }
func (noDevice) Reset(context.Context) error           { return ErrNoAgent }

// agentDevice is one host of an Agent as a Device.
type agentDevice struct {
	agent Agent
	host  string
}

// AgentDevice makes a Device of an Agent and one of its hosts, so that `process` stands beside the real switches.
func AgentDevice(agent Agent, host string) Device { return agentDevice{agent, host} }

func (d agentDevice) Status(ctx context.Context) (State, error) { return d.agent.Status(ctx, d.host) }

func (d agentDevice) Off(ctx context.Context) error {
	_, err := d.off(ctx)
	return err
}

// Settle asks the agent for its evidence of a host that is off, and waits as long as that says.
func (d agentDevice) Settle(ctx context.Context) error {
	ev, err := d.off(ctx)
	if err != nil {
		return err
	}
	return settle(ctx, ev.Settle)
}

func (d agentDevice) off(ctx context.Context) (Evidence, error) {
	ev, err := d.agent.Off(ctx, d.host)
	if err == nil && ev.Detail != "" {
		Note(ctx, ev.Detail)
	}
	return ev, err
}

func (d agentDevice) On(ctx context.Context) error { return d.agent.On(ctx, d.host) }

// Reset is not among an Agent's abilities.
func (agentDevice) Reset(context.Context) error { return ErrUnsupported }
