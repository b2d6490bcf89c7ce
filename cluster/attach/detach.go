package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Detach undoes Attach: the mappings end, what was written is flushed, the leases are given back. With an error that wraps
// ErrStillThere the lease stays until nothing can land any more, and Run goes on with it. Any other error is about data that
// could not be flushed, or nothing was done.
func (m *Manager) Detach(ctx context.Context, req Request) error {
	if !m.running() {
		return ErrNotRunning
	}
	leave, err := m.enter(ctx, req.Domain)
	if err != nil {
		return err
	}
	defer leave()
	n := m.node(req.Domain, req.Volume)
	if n == nil || !m.record(n).top() {
		return fmt.Errorf("volume %s: %w", req.Volume, ErrNotAttached)
	}
	if !req.Force {
		if err := m.unused(ctx, n); err != nil {
			return err
		}
	}
	var errs []error
	if p := m.record(n).Snapshot; p != nil && p.Volume != "" { // its guest is gone, and the chain on disk is whole
		errs = append(errs, m.release(ctx, req.Domain, p.Volume))
	}
	return errors.Join(append(errs, m.release(ctx, req.Domain, req.Volume))...)
}

// unused refuses a volume that somebody is connected to.
func (m *Manager) unused(ctx context.Context, n *node) error {
	m.mu.Lock()
	mapping, r := n.mapping, n.rec
	m.mu.Unlock()
	if mapping == nil || len(r.Users) > 1 {
		return nil
	}
	for left := leaveTime; ; left -= leavePoll {
		st, err := mapping.Status(ctx)
		if err != nil || st.Clients == 0 {
			return nil // one that does not answer is ended in any case
		}
		if left <= 0 {
			return fmt.Errorf("volume %s: %w: %s", r.Volume, ErrClients, users(mapping, st.Clients))
		}
		time.Sleep(leavePoll)
	}
}

// users says who is in the way, as far as that is known.
func users(mapping Mapping, clients int) string {
	if o, ok := mapping.(interface{ Openers() []string }); ok {
		if names := o.Openers(); len(names) > 0 {
			return fmt.Sprintf("%s is open in %s", mapping.Where().Path, strings.Join(names, ", "))
		}
	}
	return fmt.Sprintf("%d clients are connected", clients)
}

// Times for a client that has just ended: the mapping hears of it a moment later.
const (
	leaveTime = time.Second
	leavePoll = 20 * time.Millisecond
)

// release takes one user from all volumes of its chain, the top first. When that is gone, Run goes on with what is left of the others. The
// caller has the domain's turn.
func (m *Manager) release(ctx context.Context, domainID, top string) error {
	var errs []error
	for _, r := range m.chainRecords(domainID, top) {
		errs = append(errs, m.unuse(ctx, r, top))
	}
	err := errors.Join(errs...)
	if err != nil && len(errs) > 0 && errs[0] == nil && m.node(domainID, top) == nil {
		m.cfg.Log.Warn("a volume is detached, and what it is based on is not yet; trying again", "volume", top, "error", err)
		m.Kick()
		return nil
	}
	return err
}

// chainRecords are the records of what the top needs, the top first.
func (m *Manager) chainRecords(domainID, top string) []Record {
	var chain []Record
	for id := top; id != "" && len(chain) <= maxChain; {
		n := m.node(domainID, id)
		if n == nil {
			break
		}
		r := m.record(n)
		if slices.Contains(r.Users, top) {
			chain = append(chain, r)
		}
		id = r.Parent
	}
	// After a failed attach the top may have no record, and what lies below has.
	for _, r := range m.records() {
		if r.Domain == domainID && slices.Contains(r.Users, top) && !slices.ContainsFunc(chain, func(c Record) bool { return c.Volume == r.Volume }) {
			chain = append(chain, r)
		}
	}
	return chain
}

// unuse takes one user from a volume, and ends its mapping with the last one.
func (m *Manager) unuse(ctx context.Context, r Record, top string) error {
	if len(r.Users) > 1 {
		r.Users = slices.DeleteFunc(slices.Clone(r.Users), func(u string) bool { return u == top })
		return m.put(r)
	}
	if r.State != StateDetaching {
		r.State = StateDetaching
		if err := m.put(r); err != nil {
			return err
		}
	}
	lost, err := m.unmap(ctx, m.node(r.Domain, r.Volume), r)
	if err != nil {
		return fmt.Errorf("detaching volume %s: %w", r.Volume, err)
	}
	return errors.Join(lost, m.finish(ctx, r))
}

// unmap ends a mapping; lost is what became of the data, err means that it has not ended.
func (m *Manager) unmap(ctx context.Context, n *node, r Record) (lost, err error) {
	mapping := m.unwatch(n)
	if mapping == nil {
		found, err := m.find(ctx, r)
		if err != nil {
			return nil, m.clear(ctx, r) // it does not answer, or is gone
		}
		mapping = found
	}
	err = mapping.Detach(ctx)
	_ = mapping.Close() // of no use any more
	if errors.Is(err, ErrStillThere) {
		return nil, err
	}
	if err != nil {
		lost = fmt.Errorf("volume %s is %w: %w", r.Volume, ErrUnflushed, err)
	}
	return lost, nil
}

// finish is the end of a volume whose mapping has ended: the lease, then the record.
func (m *Manager) finish(ctx context.Context, r Record) error {
	if err := m.cfg.Leases.AwaitFree(ctx, r.Lease); err != nil {
		return fmt.Errorf("volume %s is not mapped any more, and its lease is not free yet: %w", r.Volume, err)
	}
	return m.forget(r)
}
