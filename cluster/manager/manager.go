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
	// Power are the power devices of the hosts; nil: Agent is the only one, for the hosts that are Fenceable (nil: none is).
	Power     Switches
	Agent     fencing.Agent
	Fenceable func(host string) bool
	// Soft tries to bring a host back before its power is switched off, Kdump hears crash kernels. nil: there is none.
	Soft   SoftRestart
	Kdump  CrashListener
	Policy Policy
	// Voters are the names of Raft's voters; nil: all hosts are.
	Voters func() []string
	// HandOver makes a voter lead instead of this host; nil: the leadership stays where it is.
	HandOver func(ctx context.Context, to string) error
	// Term is the number of the leader's term, which grows with each leader; 0 while this host does not lead. nil: there is only
	// ever one leader.
	Term func() uint64
	// Gossip is what the members tell each other about the hosts; nil: nothing is known.
	Gossip Gossip

	// Tick is how often hosts are pinged and the table is consulted (150 ms).
	Tick time.Duration
	// PingTimeout bounds a ping (4 ticks), InspectTimeout a look at the disk (1 s).
	PingTimeout, InspectTimeout time.Duration
	// InspectEvery is how often the disk is looked at while all is well (2 s). When it is not, each tick looks.
	InspectEvery time.Duration
	// FenceTimeout bounds one order to power devices (5 min), StatusTimeout one question (30 s). PowerEvery is how often the
	// devices of a silent host are asked (2 s); those of a local group at each tick.
	FenceTimeout, StatusTimeout, PowerEvery time.Duration

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
	proxy  *PowerProxy      // this host's
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
	def(&cfg.FenceTimeout, 5*time.Minute)
	def(&cfg.StatusTimeout, 30*time.Second)
	def(&cfg.PowerEvery, 2*time.Second)
	if cfg.Policy.Domains == (DomainPolicy{}) {
		cfg.Policy.Domains = DefaultDomainPolicy(leases.Compatible)
	}
	if cfg.Power == nil {
		cfg.Power = AgentSwitches(cfg.Agent, cfg.Fenceable)
	}
	if cfg.Term == nil {
		cfg.Term = func() uint64 { return 1 }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	proxy := &PowerProxy{Host: cfg.Host, View: cfg.Cluster.View, Switches: cfg.Power}
	return &Manager{cfg: cfg, asks: make(chan func(*term)), edges: make(chan string, 64), proxy: proxy}, nil
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
