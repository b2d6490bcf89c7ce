package fencing

import (
	"context"
	"fmt"
)

// Machines finds the machine of a host; it makes an Agent of machines. A host that it does not know gives ErrUnknownHost,
// one without devices ErrNoAgent.
type Machines func(host string) (*Machine, error)

// Status asks the host's devices.
func (f Machines) Status(ctx context.Context, host string) (State, error) {
	m, err := f(host)
	if err != nil {
		return Unknown, err
	}
	st, _, err := m.Status(ctx)
	return st, err
}

// Off switches the host off; the evidence tells every step.
func (f Machines) Off(ctx context.Context, host string) (Evidence, error) {
	m, err := f(host)
	if err != nil {
		return Evidence{}, err
	}
	r, err := m.Off(ctx)
	if err != nil {
		return Evidence{}, err
	}
	ev, ok := r.Evidence()
	if !ok {
		return Evidence{}, fmt.Errorf("switching off %s: %w", host, ErrNotConfirmed)
	}
	return ev, nil
}

// On switches the host on, and waits until its power is.
func (f Machines) On(ctx context.Context, host string) error {
	m, err := f(host)
	if err != nil {
		return err
	}
	_, err = m.On(ctx)
	return err
}
