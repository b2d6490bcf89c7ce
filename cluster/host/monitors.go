package host

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// monitors are this host's, one for each domain of the mirror that is not in maintenance. They live as long as the membership:
// what a host can reach is to be known also while its own storage is down.
type monitors struct {
	open openFunc
	use  useFunc
	// edge is told, in a goroutine of its own, that a domain became valid or invalid here.
	edge func(ctx context.Context, domainID string, valid bool)
	log  *slog.Logger

	all sync.WaitGroup // monitors and edges

	mu   sync.Mutex // guards what follows
	byID map[string]*monitor
	seq  uint64 // grows with every look that ends; never the same as in an earlier life of this host
}

func newMonitors(open openFunc, use useFunc, edge func(context.Context, string, bool), log *slog.Logger) *monitors {
	return &monitors{open: open, use: use, edge: edge, log: log, byID: map[string]*monitor{}, seq: uint64(time.Now().UnixNano())}
}

// run keeps a monitor for each domain of the mirror until ctx ends, and waits for all of them then.
func (ms *monitors) run(ctx context.Context, m mirror) {
	defer ms.all.Wait()
	for {
		changed := m.Changed()
		ms.follow(ctx, m.View())
		select {
		case <-ctx.Done():
			ms.stop()
			return
		case <-changed:
		}
	}
}

// follow starts and ends monitors.
func (ms *monitors) follow(ctx context.Context, st *fsm.State) {
	pool, ok := st.Pool()
	profile, err := leases.ProfileByName(pool.Profile)
	if !ok || err != nil {
		return
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for id, d := range st.Domains.All() {
		switch m := ms.byID[id]; {
		case d.Status == fsm.DomainMaintenance:
		case m != nil:
			m.follow(d)
		default:
			ms.startLocked(ctx, d, profile)
		}
	}
	for id, m := range ms.byID {
		if d, ok := st.Domains.Get(id); !ok || d.Status == fsm.DomainMaintenance {
			m.cancel()
			delete(ms.byID, id)
			ms.seq++
		}
	}
}

// startLocked starts a monitor. Caller holds mu.
func (ms *monitors) startLocked(ctx context.Context, d fsm.Domain, p leases.Profile) {
	m := newMonitor(d, p, ms.open, ms.use, ms.log)
	ctx, m.cancel = context.WithCancel(ctx)
	m.ended = func(_ *monitor, was, is look) { ms.looked(ctx, d.ID, was, is) }
	ms.byID[d.ID] = m
	ms.all.Go(func() { m.run(ctx) })
}

// looked takes note of a look that has ended.
func (ms *monitors) looked(ctx context.Context, id string, was, is look) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.seq++
	if was.valid() != is.valid() || was.code == manager.DomainUnread || was.use.open != is.use.open {
		ms.all.Go(func() { ms.edge(ctx, id, is.valid()) })
	}
}

// stop ends all monitors.
func (ms *monitors) stop() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for id, m := range ms.byID {
		m.cancel()
		delete(ms.byID, id)
	}
}

// poke has a domain looked at now; false: it is not looked after here.
func (ms *monitors) poke(id string) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m := ms.byID[id]
	if m != nil {
		m.poke()
	}
	return m != nil
}

// reports are what the leader is told, or nothing when it has heard it: seen is the number it has.
func (ms *monitors) reports(seen uint64) ([]manager.DomainReport, uint64) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if seen == ms.seq {
		return nil, ms.seq
	}
	now := time.Now()
	out := make([]manager.DomainReport, 0, len(ms.byID))
	for _, id := range slices.Sorted(maps.Keys(ms.byID)) {
		out = append(out, ms.byID[id].report(now))
	}
	return out, ms.seq
}

// watches are for metrics.
func (ms *monitors) watches() []DomainWatch {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	now := time.Now()
	var out []DomainWatch
	for _, id := range slices.Sorted(maps.Keys(ms.byID)) {
		out = append(out, ms.byID[id].watch(now))
	}
	return out
}

// openForReading opens the LUNs of a domain apart from those that this host works with.
func (c Config) openForReading(profile func() (leases.Profile, error)) openFunc {
	return func(ctx context.Context, d fsm.Domain) (*luns, error) {
		p, err := profile()
		if err != nil {
			return nil, err
		}
		devs, failed := openSome(ctx, d.LUNs, p)
		if len(devs) == 0 {
			return nil, fmt.Errorf("domain %s (%s): %w", d.Name, d.ID, failed)
		}
		return &luns{id: d.ID, name: d.Name, group: newFollower(), devs: devs, find: c.finder(p), opts: domainOptions(p, c.Log)}, nil
	}
}
