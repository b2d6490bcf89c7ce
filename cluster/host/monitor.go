package host

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// monitor looks after one domain, again and again, through devices of its own. Nothing else waits for it, and it waits for nothing
// but its domain.
type monitor struct {
	cycle   time.Duration // from one look to the next
	read    time.Duration // how long one device call may take
	open    openFunc
	use     useFunc
	ended   func(m *monitor, was, is look) // told of every look that ends
	log     *slog.Logger
	kick    chan struct{}
	cancel  context.CancelFunc
	stuck   []*luns // closed, with reads that have not come back; only the look under way touches what is down to here
	luns    *luns   // nil: not open
	wholeAt time.Time
	hung    int       // looks in a row that found the domain hung
	openAt  time.Time // not to be opened before then

	mu     sync.Mutex // guards what follows
	domain fsm.Domain
	last   look
	looks  uint64
	began  time.Time // of the look under way; zero: there is none
	missed uint64    // slots that were skipped because a look was still under way
	delays delays
}

// openFunc opens the LUNs of a domain for reading, apart from what else this host has open.
type openFunc func(ctx context.Context, d fsm.Domain) (*luns, error)

// useFunc says what this host does with a domain.
type useFunc func(ctx context.Context, id string) domainUse

// monitorCycle is how often a domain is looked at: N, which is 10 s in a pool that sanlock hosts may take part in.
func monitorCycle(p leases.Profile) time.Duration { return p.IOTimeout }

// newMonitor makes a monitor; run it.
func newMonitor(d fsm.Domain, p leases.Profile, open openFunc, use useFunc, log *slog.Logger) *monitor {
	return &monitor{domain: d, cycle: monitorCycle(p), read: callTimeout(p.IOTimeout), open: open, use: use, log: log.With("domain", d.ID),
		kick: make(chan struct{}, 1), last: look{code: manager.DomainUnread, detail: "not looked at yet"},
		ended: func(*monitor, look, look) {}}
}

// run looks in every slot until ctx ends. A look that is still under way at the next slot makes that slot go by.
func (m *monitor) run(ctx context.Context) {
	tick := time.NewTicker(m.cycle)
	defer tick.Stop()
	done := make(chan look, 1)
	m.begin(ctx, done, false)
	again := false // somebody wants a look that begins now
	for {
		select {
		case <-ctx.Done():
			m.stop(done)
			return
		case l := <-done:
			m.finish(l)
			if again {
				again = !m.begin(ctx, done, true)
			}
		case <-tick.C:
			m.slot(ctx, done)
		case <-m.kick:
			again = !m.begin(ctx, done, true)
		}
	}
}

// slot is a regular look.
func (m *monitor) slot(ctx context.Context, done chan<- look) {
	if m.begin(ctx, done, false) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.missed++
}

// begin starts a look unless one is under way; its result comes through done. With anew, paths that are not open are opened
// although they hung lately.
func (m *monitor) begin(ctx context.Context, done chan<- look, anew bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.began.IsZero() {
		return false
	}
	m.began = time.Now()
	d := m.domain
	go func() { done <- m.look(ctx, d, anew) }() // run waits for it, at its end too
	return true
}

// stop waits for the look under way, which ends with its context, and closes the devices.
func (m *monitor) stop(done <-chan look) {
	m.mu.Lock()
	busy := !m.began.IsZero()
	m.mu.Unlock()
	if busy {
		<-done
	}
	m.drop()
}

// finish takes over what a look found.
func (m *monitor) finish(l look) {
	m.mu.Lock()
	was := m.last
	m.last, m.began = l, time.Time{}
	m.looks++
	if l.delay > 0 {
		m.delays.add(l.delay)
	}
	m.mu.Unlock()
	if was.code != l.code {
		m.log.Info("domain monitor", "code", l.code, "detail", l.detail, "was", was.code)
	}
	m.ended(m, was, l)
}

// follow takes over what the mirror says of the domain. Another status or other LUNs are a reason to look at once.
func (m *monitor) follow(d fsm.Domain) {
	m.mu.Lock()
	same := m.domain.Status == d.Status && slices.Equal(m.domain.LUNs, d.LUNs)
	m.domain = d
	m.mu.Unlock()
	if !same {
		m.poke()
	}
}

// poke has the domain looked at now, with paths opened anew if they are not open.
func (m *monitor) poke() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// report is what the leader is told.
func (m *monitor) report(now time.Time) manager.DomainReport {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.last
	r := manager.DomainReport{Domain: m.domain.ID, Code: l.code, Detail: l.detail, Status: l.status, Looks: m.looks, Delay: l.delay,
		Acquired: l.use.acquired, Late: l.use.late, Open: l.use.open, Uses: l.use.uses, Version: l.info.Version, Size: l.info.Size,
		Free: l.info.Free, MetadataUsed: l.used, MetadataSize: l.limit}
	if !l.at.IsZero() {
		r.Age = now.Sub(l.at)
	}
	if !m.began.IsZero() {
		r.Running = now.Sub(m.began)
	}
	return r
}

// DomainWatch is what a monitor has measured, for metrics.
type DomainWatch struct {
	manager.DomainReport
	Name   string
	Missed uint64 // slots without a look, because one was still under way
	// Reads and ReadSum count the reads that came back and add up their times; Quantiles are those of the last ones, by share.
	Reads     uint64
	ReadSum   time.Duration
	Quantiles map[float64]time.Duration
}

// watch is the monitor's state for metrics.
func (m *monitor) watch(now time.Time) DomainWatch {
	r := m.report(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	return DomainWatch{DomainReport: r, Name: m.domain.Name, Missed: m.missed, Reads: m.delays.count, ReadSum: m.delays.sum,
		Quantiles: m.delays.quantiles(0.5, 0.9, 0.99)}
}
