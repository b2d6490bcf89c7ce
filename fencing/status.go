package fencing

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Status asks the groups in turn, and returns the first clear answer. Unknown comes with an error unless every device
// answered, and none of them knew.
func (m *Machine) Status(ctx context.Context) (State, Result, error) {
	j := newJournal(ActionStatus)
	var errs []error
	for _, g := range m.groups {
		st, err := groupStatus(ctx, j, g)
		if st != Unknown {
			return st, j.done(false), nil
		}
		errs = append(errs, err)
	}
	if errors.Join(errs...) == nil {
		return Unknown, j.done(false), nil
	}
	return Unknown, j.done(false), m.groupError("asking the power devices of", errs)
}

// groupStatus asks all of a group: on if any is on, off only if all are, else unknown.
func groupStatus(ctx context.Context, j *journal, g []Member) (State, error) {
	states, errs := askAll(ctx, j, g)
	return combine(states), errors.Join(errs...)
}

// askAll asks each device of a group once.
func askAll(ctx context.Context, j *journal, g []Member) ([]State, []error) {
	states := make([]State, len(g))
	errs := each(g, func(i int, mem Member) (err error) {
		states[i], err = j.status(ctx, mem)
		return err
	})
	return states, errs
}

// combine makes one state of those of a group. A device that failed counts as Unknown: what it switches may be on.
func combine(states []State) State {
	switch {
	case slices.Contains(states, On):
		return On
	case len(states) > 0 && !slices.Contains(states, Unknown):
		return Off
	default:
		return Unknown
	}
}

// mustBeOff asks a group once more, as one.
func mustBeOff(ctx context.Context, j *journal, g []Member) error {
	st, err := groupStatus(ctx, j, g)
	if st != Off {
		return fmt.Errorf("asked together once more the devices say %s: %w", st, errors.Join(ErrNotConfirmed, err))
	}
	return nil
}
