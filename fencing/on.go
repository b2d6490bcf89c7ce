package fencing

import (
	"context"
	"errors"
	"slices"
)

// on tries the groups until one says that the machine is on.
func (m *Machine) on(ctx context.Context, j *journal) (skipped bool, err error) {
	var errs []error
	for i, g := range m.groups {
		skipped, err := m.onGroup(ctx, j, g, i < len(m.groups)-1)
		if err == nil {
			return skipped, nil
		}
		errs = append(errs, err)
	}
	return false, m.groupError("switching on", errs)
}

// onGroup switches on whatever of a group is not, and is content with the first device that says so. The others have got
// their orders by then, so that a machine with two supplies has both.
func (m *Machine) onGroup(ctx context.Context, j *journal, g []Member, more bool) (skipped bool, err error) {
	before, errs := askAll(ctx, j, g)
	if !slices.ContainsFunc(before, func(s State) bool { return s != On }) {
		return true, nil
	}
	if more && !slices.ContainsFunc(before, func(s State) bool { return s != Unknown }) {
		return false, errors.Join(append(errs, ErrNotConfirmed)...)
	}
	polling, enough := context.WithCancel(ctx)
	defer enough()
	errs = each(g, func(i int, mem Member) error {
		if before[i] != On {
			if err := m.onOne(ctx, polling, j, mem); err != nil {
				return err
			}
		}
		enough()
		return nil
	})
	if slices.Contains(errs, nil) {
		return false, nil
	}
	return false, errors.Join(errs...)
}

// onOne orders on, asks until the device says so, and orders again: some BMCs lose an order while they start themselves.
func (m *Machine) onOne(ctx, polling context.Context, j *journal, mem Member) error {
	var err error
	for range m.timing.OnOrders {
		ordered := j.order(ctx, mem, ActionOn)
		if Futile(ordered) {
			return ordered
		}
		reached := m.reach(polling, j, mem, On)
		if reached == nil {
			return nil
		}
		err = joinOrder(ordered, reached)
		if polling.Err() != nil {
			break
		}
	}
	return err
}
