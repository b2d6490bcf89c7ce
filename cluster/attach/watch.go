package attach

import (
	"context"
	"errors"
)

// mapped takes a mapping in and watches it. The caller has the domain's turn.
func (m *Manager) mapped(n *node, mapping Mapping) error {
	m.mu.Lock()
	run := m.run
	m.mu.Unlock()
	if run == nil {
		return errors.Join(ErrNotRunning, mapping.Close())
	}
	g, err := m.watchGuest(run, m.record(n), mapping)
	if err != nil { // the volume is usable all the same
		m.cfg.Log.Warn("the guest of an attached volume is not watched", "volume", n.rec.Volume, "error", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run == nil {
		g.end()
		return errors.Join(ErrNotRunning, mapping.Close())
	}
	ctx, cancel := context.WithCancel(run)
	n.mapping, n.problem, n.stop, n.stopped, n.guest = mapping, "", cancel, make(chan struct{}), g
	last := func() error { return outlast(ctx, mapping) }
	if n.rec.Grows && !n.rec.ReadOnly {
		n.grower = m.growerOf(n.rec, withGuest(mapping, g))
		g := n.grower
		last = func() error { return g.run(ctx) }
	}
	stopped := n.stopped
	m.watch.Go(func() {
		defer close(stopped)
		defer g.end()
		defer cancel()
		if err := last(); ctx.Err() == nil {
			m.ended(n, mapping, err)
		}
	})
	return nil
}

// withGuest is the mapping as it and its guest see it; without a guest it is the mapping itself.
func withGuest(mapping Mapping, g *guest) Mapping {
	if g == nil {
		return mapping
	}
	return &guested{Mapping: mapping, guest: g.vol}
}

// growerOf makes what grows a volume.
func (m *Manager) growerOf(r Record, mapping Mapping) *grower {
	return &grower{rec: r, rules: m.cfg.Growth, mapping: mapping, disks: m.cfg.Disks, extender: m.cfg.Extender, observe: m.cfg.Observe,
		times: &m.times, report: m.cfg.Report, log: m.cfg.Log, high: func(high int64) { m.keepHigh(r.key(), high) }}
}

// outlast waits for the end of a mapping that does not grow.
func outlast(ctx context.Context, mapping Mapping) error {
	for seq := uint64(0); ; {
		st, err := mapping.Watch(ctx, seq)
		if err != nil {
			return err
		}
		seq = st.Seq
	}
}

// ended is the end of a mapping that nobody asked for.
func (m *Manager) ended(n *node, mapping Mapping, err error) {
	m.mu.Lock()
	volume := n.rec.Volume
	if n.mapping == mapping {
		n.mapping, n.grower, n.guest, n.problem = nil, nil, nil, err.Error()
	}
	m.mu.Unlock()
	m.cfg.Log.Warn("a mapping is gone", "volume", volume, "error", err)
	_ = mapping.Close() // it is broken
	m.Kick()
}

// unwatch takes a mapping out; nil if there is none. The caller has the domain's turn.
func (m *Manager) unwatch(n *node) Mapping {
	m.mu.Lock()
	mapping, stop, stopped := n.mapping, n.stop, n.stopped
	n.mapping, n.grower, n.guest, n.stop, n.stopped = nil, nil, nil, nil, nil
	m.mu.Unlock()
	if stop != nil {
		stop()
		<-stopped
	}
	return mapping
}

// keepHigh records the highest byte written, for an export that has to be made again.
func (m *Manager) keepHigh(key string, high int64) {
	m.mu.Lock()
	n := m.nodes[key]
	m.mu.Unlock()
	if n == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if high > n.rec.HighBytes {
		n.rec.HighBytes = high // written with the next change of the record; losing it costs one extension too late
	}
}
