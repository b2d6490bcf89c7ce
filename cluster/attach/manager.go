package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Kinds of events.
const (
	EventWaiting  = "volume.waiting"  // a volume waits for space
	EventGrown    = "volume.grown"    // one that waited has it
	EventRestored = "volume.restored" // a mapping that had ended was made again
	EventBroken   = "volume.broken"   // a mapping that had ended cannot be made again
)

// Event is something that people should know.
type Event struct {
	Kind    string
	Subject string // the volume
	Message string
	Warning bool
}

// Config is what a Manager is made of. All but Report, Observe and Log is needed.
type Config struct {
	// Dir is where the records are, on a local disk, of this agent alone.
	Dir string
	// Boot tells one boot of the machine from another. What was attached before a boot is not any more.
	Boot string
	// Mappers are the ways to make a volume usable, the best first.
	Mappers   []Mapper
	Leases    Leases
	Disks     Disks
	Extender  Extender
	Snapshots Snapshotter // nil: there are no snapshots under guests
	Growth    Growth
	// Report is told of events. It must not block.
	Report  func(Event)
	Observe Observer
	Log     *slog.Logger
}

// Manager keeps the volumes that are attached on this host. It is safe for concurrent use.
type Manager struct {
	cfg    Config
	store  store
	guests guests
	ask    func(ctx context.Context, r Record, do func(context.Context, nodes) error) error // onGuest, or a test's guest
	times  latencies
	kick   chan struct{} // has one place: look after the records

	mu    sync.Mutex // guards what follows
	nodes map[string]*node
	turns map[string]chan struct{} // one attach, detach or repair of a domain at a time
	run   context.Context          // nil: Run was not called, or has ended
	watch sync.WaitGroup           // the watchers; Add under mu with run not nil
}

// node is one volume with a record. Its record and mapping are changed by whoever has the domain's turn, under Manager.mu.
type node struct {
	rec     Record
	mapping Mapping // nil: not there now
	grower  *grower // nil: it does not grow
	guest   *guest  // nil: no monitor is known, or it is of no use
	stop    context.CancelFunc
	stopped chan struct{} // closed when the watcher has ended
	problem string        // why it is not mapped
}

var (
	// ErrNotAttached says that the volume is not attached on this host.
	ErrNotAttached = errors.New("the volume is not attached on this host")
	// ErrOtherwise says that the volume is attached here in another way.
	ErrOtherwise = errors.New("the volume is attached on this host in another way")
	// ErrMapper says that the volume cannot be made usable in the way that was asked for, or was recorded.
	ErrMapper = errors.New("the volume cannot be mapped so on this host")
	// ErrClients says that somebody uses the attached volume.
	ErrClients = errors.New("the attached volume is in use")
	// ErrNotRecorded says that this host's local disk does not take the record, without which nothing is attached or detached.
	ErrNotRecorded = errors.New("recording an attached volume")
	// ErrUnflushed says that a volume is detached, and that its last writes may be lost.
	ErrUnflushed = errors.New("detached, but not everything was flushed")
	// ErrNotRunning says that the agent begins or ends.
	ErrNotRunning = errors.New("the agent is about to start or to stop")
	// ErrChanged says that the volume was changed while it was being attached; nothing was done.
	ErrChanged = errors.New("the volume was changed meanwhile")
	// ErrTakenMeanwhile says that somebody else had the volume while its mapping here was gone.
	ErrTakenMeanwhile = errors.New("another holder had the volume while its mapping here was gone: what clients remember of it may be wrong")
)

// nobody observes nothing.
type nobody struct{}

func (nobody) Asked()               {}
func (nobody) Grown(time.Duration)  {}
func (nobody) Paused(time.Duration) {}

// New reads what is attached. Nothing is looked after before Run.
func New(cfg Config) (*Manager, error) {
	if cfg.Dir == "" || len(cfg.Mappers) == 0 || cfg.Leases == nil || cfg.Disks == nil || cfg.Extender == nil {
		return nil, errors.New("attached volumes: the configuration is incomplete")
	}
	if err := cfg.Growth.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Report == nil {
		cfg.Report = func(Event) {}
	}
	if cfg.Observe == nil {
		cfg.Observe = nobody{}
	}
	m := &Manager{cfg: cfg, store: store{cfg.Dir}, guests: guests{log: cfg.Log}, kick: make(chan struct{}, 1), nodes: map[string]*node{}, turns: map[string]chan struct{}{}}
	m.ask = m.onGuest
	records, err := m.store.load()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.Boot == cfg.Boot {
			m.nodes[r.key()] = &node{rec: r}
			continue
		}
		cfg.Log.Info("a volume was attached before the machine was started; it is not any more", "volume", r.Volume)
		if err := m.store.drop(r); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// repairRetry is how often what is not as recorded is looked after again.
const repairRetry = time.Second

// Run looks after what is attached until ctx ends: it finds or makes again what an earlier agent left, and grows what needs
// space. When it returns, everything is still attached.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	m.mu.Lock()
	m.run = ctx
	m.mu.Unlock()
	defer m.shut(cancel)
	for {
		var again <-chan time.Time
		if !m.repairAll(ctx) {
			again = time.After(repairRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.kick:
		case <-again:
		}
	}
}

// shut ends the watchers and lets go of the mappings.
func (m *Manager) shut(cancel context.CancelFunc) {
	m.mu.Lock()
	m.run = nil
	m.mu.Unlock()
	cancel()
	m.watch.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if n.mapping != nil {
			_ = n.mapping.Close() // it goes on without us
			n.mapping, n.grower, n.guest = nil, nil, nil
		}
	}
}

// Kick makes Run look at once: storage came up, or a mapping ended.
func (m *Manager) Kick() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// enter waits for a domain's turn.
func (m *Manager) enter(ctx context.Context, domainID string) (leave func(), err error) {
	m.mu.Lock()
	t := m.turns[domainID]
	if t == nil {
		t = make(chan struct{}, 1)
		m.turns[domainID] = t
	}
	m.mu.Unlock()
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another volume of domain %s is being attached or detached: %w", domainID, context.Cause(ctx))
	}
}

// node finds a volume; nil if it has no record.
func (m *Manager) node(domainID, volume string) *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[domainID+"/"+volume]
}

// put records a state of a volume, on disk first.
func (m *Manager) put(r Record) error {
	if n := m.node(r.Domain, r.Volume); n != nil {
		r.HighBytes = max(r.HighBytes, m.record(n).HighBytes) // which rises meanwhile
	}
	if err := m.store.put(r); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[r.key()]
	if n == nil {
		n = &node{}
		m.nodes[r.key()] = n
	}
	n.rec = r
	return nil
}

// forget removes a record. Nothing of the volume is mapped or held any more.
func (m *Manager) forget(r Record) error {
	if err := m.store.drop(r); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, r.key())
	return nil
}

// record is the record of a volume as it is now.
func (m *Manager) record(n *node) Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := n.rec
	r.Users = slices.Clone(r.Users)
	return r
}

// records are all of them, in a fixed order.
func (m *Manager) records() []Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Record
	for _, key := range slices.Sorted(maps.Keys(m.nodes)) {
		all = append(all, m.nodes[key].rec)
	}
	return all
}
