package fencing

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// off tries the groups until one has the machine confirmed off.
func (m *Machine) off(ctx context.Context, j *journal) (skipped bool, err error) {
	var errs []error
	for i, g := range m.groups {
		skipped, err := m.offGroup(ctx, j, g, i < len(m.groups)-1)
		if err == nil {
			err = errors.Join(each(g, func(_ int, mem Member) error { return j.settle(ctx, mem) })...)
		}
		if err == nil {
			j.confirmedOff()
			return skipped, nil
		}
		errs = append(errs, err)
	}
	return false, m.groupError("switching off", append(errs, ErrNotConfirmed))
}

// offGroup switches off all of a group. When another group is left, a group that does not answer is not given orders: one
// outlet of two that goes off does no good.
func (m *Machine) offGroup(ctx context.Context, j *journal, g []Member, more bool) (skipped bool, err error) {
	before, errs := askAll(ctx, j, g)
	if combine(before) == Off {
		return true, nil
	}
	if err := errors.Join(errs...); err != nil && (more || Futile(err)) {
		return false, err
	}
	errs = each(g, func(i int, mem Member) error {
		if before[i] == Off {
			return nil
		}
		return m.offOne(ctx, j, mem)
	})
	if err := errors.Join(errs...); err != nil {
		return false, err
	}
	if len(g) == 1 {
		return false, nil
	}
	return false, mustBeOff(ctx, j, g)
}

// offOne orders off and asks until the device says so. An order that failed may have been carried out: the status tells.
func (m *Machine) offOne(ctx context.Context, j *journal, mem Member) error {
	ordered := j.order(ctx, mem, ActionOff)
	if Futile(ordered) || plant.On(plant.ProofNoStatus) { // planted: an order that was taken is an order that was carried out
		return ordered
	}
	if err := m.reach(ctx, j, mem, Off); err != nil {
		return joinOrder(ordered, err)
	}
	return nil
}

// joinOrder tells of the failed order too, when there was one.
func joinOrder(ordered, reached error) error {
	if ordered == nil {
		return reached
	}
	return fmt.Errorf("%w; before that the order failed: %w", reached, ordered)
}
