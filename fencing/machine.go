package fencing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Member is one power device of a machine.
type Member struct {
	// Name is the device's name for people and records.
	Name string
	// Order sorts the devices; those with the same one are a group, which is used as one: two outlets of one machine.
	Order  int
	Device Device
}

// Machine is one host with all of its power devices. Groups are tried in turn until one succeeds; in a group all are used at
// the same time. Off needs the word of all of a group, on that of any, and every word is a status asked after the order.
type Machine struct {
	host   string
	groups [][]Member // by order, never empty, nor is one of them
	timing Timing
}

// NewMachine puts the devices of a host together. A host without devices gives ErrNoAgent.
func NewMachine(host string, members []Member, timing Timing) (*Machine, error) {
	if len(members) == 0 {
		return nil, fmt.Errorf("host %s: %w", host, ErrNoAgent)
	}
	if err := timing.Validate(); err != nil {
		return nil, err
	}
	sorted := slices.Clone(members)
	slices.SortStableFunc(sorted, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name))
	})
	m := &Machine{host: host, timing: timing}
	for i, mem := range sorted {
		if mem.Name == "" || mem.Device == nil {
			return nil, fmt.Errorf("power device %d of host %s has no name or is none: %w", i+1, host, ErrConfig)
		}
		if i > 0 && sorted[i-1].Order == mem.Order {
			last := len(m.groups) - 1
			m.groups[last] = append(m.groups[last], mem)
			continue
		}
		m.groups = append(m.groups, []Member{mem})
	}
	return m, nil
}

// Host is the name that the machine was made with.
func (m *Machine) Host() string { return m.host }

// Off switches the machine off and returns when that is confirmed. Only a nil error is proof; each other is an
// ErrNotConfirmed. A machine that is off already is a success with Skipped.
func (m *Machine) Off(ctx context.Context) (Result, error) {
	j := newJournal(ActionOff)
	skipped, err := m.off(ctx, j)
	return j.done(skipped), err
}

// On switches the machine on and returns when a device says that it is. The host may still be far from working.
func (m *Machine) On(ctx context.Context) (Result, error) {
	j := newJournal(ActionOn)
	skipped, err := m.on(ctx, j)
	return j.done(skipped), err
}

// Restart switches off, waits until that is confirmed, and switches on again. Without a confirmed off nothing is
// switched on. When only the second half fails the result has OffAt: the proof holds.
func (m *Machine) Restart(ctx context.Context) (Result, error) {
	j := newJournal(ActionRestart)
	err := m.restart(ctx, j)
	return j.done(false), err
}

func (m *Machine) restart(ctx context.Context, j *journal) error {
	if _, err := m.off(ctx, j); err != nil {
		return err
	}
	if err := settle(ctx, m.timing.Pause); err != nil {
		return fmt.Errorf("%s is off, and was not switched on again: %w", m.host, err)
	}
	if _, err := m.on(ctx, j); err != nil {
		return fmt.Errorf("%s is off, and did not come on again: %w", m.host, err)
	}
	return nil
}

// groupError is why none of the groups succeeded.
func (m *Machine) groupError(doing string, errs []error) error {
	return fmt.Errorf("%s %s: %w", doing, m.host, errors.Join(errs...))
}

// each calls fn for all members of a group at once and waits for all of them.
func each(group []Member, fn func(i int, m Member) error) []error {
	errs := make([]error, len(group))
	var wg sync.WaitGroup
	for i, m := range group {
		wg.Go(func() { errs[i] = fn(i, m) })
	}
	wg.Wait()
	return errs
}

// reach asks a device until it says want. The count of questions and of answers that say nothing is bounded.
func (m *Machine) reach(ctx context.Context, j *journal, mem Member, want State) error {
	unknowns, wait, said := 0, time.Duration(0), Unknown
	for n := range m.timing.Polls {
		if err := settle(ctx, max(wait, m.timing.wait(n))); err != nil {
			return fmt.Errorf("waiting until %s says %s: %w: %w", mem.Name, want, ErrNotConfirmed, err)
		}
		st, err := j.status(ctx, mem)
		if err == nil && st == want {
			return nil
		}
		wait = 0
		if said = st; st == Unknown {
			unknowns, wait = unknowns+1, m.timing.Longest
		}
		if Futile(err) || unknowns > m.timing.Unknowns {
			return fmt.Errorf("%s does not say whether it is %s: %w", mem.Name, want, errors.Join(ErrNotConfirmed, err))
		}
	}
	return fmt.Errorf("%s still says %s after %d questions: %w", mem.Name, said, m.timing.Polls, ErrNotConfirmed)
}
