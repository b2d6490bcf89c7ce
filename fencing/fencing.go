// Package fencing turns "we cannot reach that host" into "that host can no longer write", with evidence.
//
// An Agent is a power switch. Off is a proof only after a Status that does not come from the same answer agrees;
// OffConfirmed does both and waits out what a dead host's requests may still do. What is decided, and the Raft
// record that names the proof, is the manager's business, not this package's.
package fencing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// State is what a power switch says about a host.
type State string

// States of a host as its power switch sees them.
const (
	Unknown State = "unknown" // the switch cannot tell
	On      State = "on"      // powered, or a process of the host still runs
	Off     State = "off"     // no power, or every process of the host has exited
)

var (
	// ErrNoAgent says that the host has no power switch: the only proof of its death is its lease, or a person.
	ErrNoAgent = errors.New("the host has no fence agent: wait until its lease is dead, or confirm its reboot by hand")
	// ErrUnknownHost says that the switch does not know the host.
	ErrUnknownHost = errors.New("the fence agent does not know the host")
	// ErrNotConfirmed says that off was ordered and the check afterwards did not see the host off. It is no proof.
	ErrNotConfirmed = errors.New("power-off is not confirmed: the host must still be taken for alive")
)

// Evidence is what an Off leaves behind for the fence record.
type Evidence struct {
	// Kind names the proof: exit, power_off (the kinds of fsm.Proof).
	Kind string `json:"kind"`
	// Detail is what was seen, for people: pids, exit states, the agent's output.
	Detail string `json:"detail"`
	// Settle is how long requests that the host sent before it died may still be carried out. It is not zero when
	// the LUN is reached through a socket (nbd://): there the exit of a process ends nothing at the server.
	Settle time.Duration `json:"settle_ns"`
	// At is when the host was seen off.
	At time.Time `json:"at"`
}

// Agent is a power switch for hosts.
type Agent interface {
	// Status asks, and changes nothing.
	Status(ctx context.Context, host string) (State, error)
	// Off switches the host off and returns when it is off. Off of a host that is off succeeds.
	Off(ctx context.Context, host string) (Evidence, error)
	// On switches the host on; it does not wait until the host works.
	On(ctx context.Context, host string) error
}

// OffConfirmed switches the host off through agent, asks check independently, and waits out the evidence's Settle.
// Only a nil error is proof. check may be the same agent; it is asked by a new request in any case.
func OffConfirmed(ctx context.Context, agent, check Agent, host string) (Evidence, error) {
	if plant.On(plant.FenceNoWait) { // planted: the proof comes before the power-off, which never does
		return Evidence{Kind: KindProcessExit, Detail: "nobody looked", At: time.Now()}, nil
	}
	ev, err := agent.Off(ctx, host)
	if err != nil {
		return Evidence{}, fmt.Errorf("switching off %s: %w", host, err)
	}
	st, err := check.Status(ctx, host)
	if err != nil {
		return Evidence{}, fmt.Errorf("checking that %s is off: %w: %w", host, ErrNotConfirmed, err)
	}
	if st != Off {
		return Evidence{}, fmt.Errorf("checking that %s is off: it is %s: %w", host, st, ErrNotConfirmed)
	}
	if err := settle(ctx, ev.Settle); err != nil {
		return Evidence{}, fmt.Errorf("waiting until requests of %s are over: %w: %w", host, ErrNotConfirmed, err)
	}
	return ev, nil
}

// settle waits d, or fails with ctx.
func settle(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// None is the agent of hosts without a power switch.
type None struct{}

// Status cannot tell.
func (None) Status(context.Context, string) (State, error) { return Unknown, nil }

// Off always fails with ErrNoAgent.
func (None) Off(context.Context, string) (Evidence, error) { return Evidence{}, ErrNoAgent }

// On always fails with ErrNoAgent.
func (None) On(context.Context, string) error { return ErrNoAgent }
