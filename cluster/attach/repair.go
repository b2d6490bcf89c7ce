package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// repairTimeout bounds the repair of one volume.
const repairTimeout = 30 * time.Second

// repairAll makes everything as it is recorded; false: something is not yet. A domain that hangs holds up its own volumes only.
func (m *Manager) repairAll(ctx context.Context) bool {
	byDomain := map[string][]Record{}
	for _, r := range m.records() {
		byDomain[r.Domain] = append(byDomain[r.Domain], r)
	}
	var bad atomic.Bool
	var all sync.WaitGroup
	for _, list := range byDomain {
		all.Go(func() {
			for _, r := range list {
				if err := m.repair(ctx, r.Domain, r.Volume); err != nil && ctx.Err() == nil {
					bad.Store(true)
					m.cfg.Log.Debug("an attached volume is not as it should be", "volume", r.Volume, "error", err)
				}
			}
		})
	}
	all.Wait()
	return !bad.Load()
}

// repair makes one volume as it is recorded.
func (m *Manager) repair(ctx context.Context, domainID, volume string) error {
	ctx, cancel := context.WithTimeout(ctx, repairTimeout)
	defer cancel()
	leave, err := m.enter(ctx, domainID)
	if err != nil {
		return err
	}
	defer leave()
	n := m.node(domainID, volume)
	if n == nil {
		return nil
	}
	m.mu.Lock()
	r, there := n.rec, n.mapping != nil
	m.mu.Unlock()
	switch gone := m.goneUser(r); {
	case gone != "" && (r.State == StateAttached || r.State == StateBroken):
		return m.unuse(ctx, m.record(n), gone)
	case r.State == StateAttaching, r.State == StateDetaching:
		lost, err := m.unmap(ctx, n, r)
		if err != nil {
			return err
		}
		return errors.Join(lost, m.finish(ctx, r))
	case r.State == StateBroken:
		return nil
	case there:
		return m.finishSnapshot(ctx, m.record(n))
	}
	err = m.restore(ctx, n, m.record(n))
	if err != nil {
		m.mu.Lock()
		n.problem = err.Error()
		m.mu.Unlock()
	}
	return err
}

// goneUser is a volume that is recorded as needing this one, and is not attached itself: something stopped its attach or detach in the middle.
// Empty: there is none. The caller has the domain's turn, so nothing is under way.
func (m *Manager) goneUser(r Record) string {
	for _, u := range r.Users {
		pending := func(o Record) bool { return o.Domain == r.Domain && o.Snapshot != nil && o.Snapshot.Volume == u }
		if m.node(r.Domain, u) == nil && !slices.ContainsFunc(m.records(), pending) {
			return u
		}
	}
	return ""
}

// restore takes up the mapping of an earlier agent, which its clients still use, or makes it again.
func (m *Manager) restore(ctx context.Context, n *node, r Record) error {
	mapping, err := m.find(ctx, r)
	if err == nil {
		m.cfg.Log.Info("an attached volume was found again", "volume", r.Volume)
		if err := m.mapped(n, mapping); err != nil {
			return err
		}
		return m.finishSnapshot(ctx, m.record(n))
	}
	if !errors.Is(err, ErrNotMapped) {
		return err
	}
	if err := m.end(ctx, r); err != nil { // it does not answer and may still write
		return err
	}
	return m.again(ctx, n, r)
}

// again maps a volume whose mapping has ended. For writing that is right only if nobody had its lease meanwhile: the clients
// of the old mapping come back and go on with what they remember.
func (m *Manager) again(ctx context.Context, n *node, r Record) error {
	v, err := m.cfg.Disks.Volume(ctx, r.Domain, r.Volume)
	if err != nil {
		return err
	}
	mapper, err := m.mapperOf(r)
	if err != nil {
		return err
	}
	p, err := mapper.Prepare(ctx, v, r.ReadOnly)
	if err != nil {
		return err
	}
	r.Process = p.Process()
	if err := m.put(r); err != nil {
		return errors.Join(err, cancel(ctx, p))
	}
	mapping, err := m.bring(ctx, p, &r, true)
	if err == nil {
		err = m.mapped(n, mapping)
	}
	if err != nil {
		err = errors.Join(err, cancel(ctx, p))
		if errors.Is(err, ErrTakenMeanwhile) || errors.Is(err, ErrChanged) {
			return errors.Join(err, m.broken(r, err))
		}
		return err
	}
	m.cfg.Log.Warn("the mapping of an attached volume had ended and was made again", "volume", r.Volume)
	m.cfg.Report(Event{Kind: EventRestored, Warning: true, Subject: r.Volume, Message: "the mapping of the attached volume had ended and was made again"})
	return nil
}

// broken gives a volume up until somebody detaches it.
func (m *Manager) broken(r Record, why error) error {
	r.State, r.Reason = StateBroken, why.Error()
	m.cfg.Log.Error("an attached volume cannot be made usable again; detach it", "volume", r.Volume, "error", why)
	m.cfg.Report(Event{Kind: EventBroken, Warning: true, Subject: r.Volume, Message: r.Reason})
	if err := m.put(r); err != nil {
		return err
	}
	return m.failed(r)
}

// failed lets the clients of a broken volume know. Whoever detaches it does the same.
func (m *Manager) failed(r Record) error {
	p, err := m.mapperOf(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), repairTimeout)
	defer cancel()
	return p.Fail(ctx, r)
}

// EndAll ends every mapping of this host, and returns when none can write any more. It is for a keeper that is new: the leases
// of the last one were held for these processes, and are about to be takeable by others. Run makes them again afterwards.
func (m *Manager) EndAll(ctx context.Context) error {
	var errs []error
	for _, r := range m.records() {
		if err := m.end(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", r.Volume, err))
		}
	}
	return errors.Join(errs...)
}
