// Package manager is the Raft leader's work: it watches the hosts, decides who should be SPM, fences what it can
// prove dead, and keeps the host states of the mirror. It holds no right to write to a LUN.
//
// decide.go is the decision table as a pure function; the rest gathers its inputs and carries out its answer, one
// action at a time, and only while the leader's term lasts. DESIGN.md has the table and the crash cases.
package manager

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// Cluster is what the manager needs of the node it runs on.
type Cluster interface {
	// Apply commits a command and returns its outcome. An error means that it may not have been committed.
	Apply(ctx context.Context, cmd fsm.Command) (fsm.Outcome, error)
	// View is the replicated state as this host has applied it, Changed a channel closed at the next change.
	View() *fsm.State
	Changed() <-chan struct{}
	// Call asks a host, this one included.
	Call(ctx context.Context, host, method string, in, out any) error
}

// Config is what a Manager is made of.
type Config struct {
	// Host is this host's name.
	Host    string
	Cluster Cluster
	// Agent is the power switch; Check is asked for the independent status after an off (nil: Agent).
	Agent, Check fencing.Agent
	// Fenceable says whether a host has a power switch. nil: none has.
	Fenceable func(host string) bool
	Policy    Policy
	// Gossip is what the members tell each other about the hosts; nil: nothing is known.
	Gossip Gossip

	// Tick is how often hosts are pinged and the table is consulted (150 ms).
	Tick time.Duration
	// PingTimeout bounds a ping (4 ticks), InspectTimeout a look at the disk (1 s).
	PingTimeout, InspectTimeout time.Duration
	// InspectEvery is how often the disk is looked at while all is well (2 s). When it is not, each tick looks.
	InspectEvery time.Duration
	// FenceTimeout bounds a fence operation with its status check (60 s).
	FenceTimeout time.Duration

	// Limits are the free bytes below which a domain is warned of; nil: never.
	Limits func(view *fsm.State, d fsm.Domain) SpaceLimits

	Log *slog.Logger
	Now func() time.Time
}

// Manager does the leader's work while Lead runs.
type Manager struct {
	cfg    Config
	bug    string // a planted mistake, in tests only
	status atomic.Pointer[Status]
	asks   chan func(*term) // what an operator wants of the present term
	edges  chan string      // hosts that say that something changed there
}

// New makes a Manager.
func New(cfg Config) (*Manager, error) {
	if cfg.Host == "" || cfg.Cluster == nil || cfg.Policy.Grace <= 0 {
		return nil, errors.New("manager: Host, Cluster and Policy are required")
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.Tick, 150*time.Millisecond)
	def(&cfg.PingTimeout, 4*cfg.Tick)
	def(&cfg.InspectTimeout, time.Second)
	def(&cfg.InspectEvery, 2*time.Second)
	def(&cfg.FenceTimeout, time.Minute)
	if cfg.Policy.Domains == (DomainPolicy{}) {
		cfg.Policy.Domains = DefaultDomainPolicy(leases.Compatible)
	}
	if cfg.Agent == nil {
		cfg.Agent = fencing.None{}
	}
	if cfg.Check == nil {
		cfg.Check = cfg.Agent
	}
	if cfg.Fenceable == nil {
		cfg.Fenceable = func(string) bool { return false }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Manager{cfg: cfg, asks: make(chan func(*term)), edges: make(chan string, 64)}, nil
}

// Lead does the work of one leadership term. It returns when ctx, the term, ends and everything it started has
// returned. A barrier was taken before it is called.
func (m *Manager) Lead(ctx context.Context) error {
	t := newTerm(m, ctx)
	defer m.status.Store(nil)
	t.run()
	return nil
}

// Status explains the SPM role as the leader sees it; false on a host that does not lead.
func (m *Manager) Status() (Status, bool) {
	if s := m.status.Load(); s != nil {
		return *s, true
	}
	return Status{}, false
}
