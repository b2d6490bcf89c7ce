package host

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
)

// Host is one host of the pool. Make it with New, run it with Run; the other methods may be called while it runs.
type Host struct {
	cfg     Config
	started time.Time
	adopted chan *membership // from Init and Join to Run
	settled chan struct{}    // closed when it is clear whether this host is a member; by Run

	leaving  *leaving  // to maintenance
	usage    *usage    // for the power-saving policy
	monitors *monitors // of the domains; they run while this host is a member

	setup sync.Mutex // one Init, Join or Leave at a time

	mu      sync.Mutex // guards what follows
	runCtx  context.Context
	peers   http.Handler // the API for other members
	current *membership
	rt      *runtime
	mgr     *manager.Manager
}

// membership is one stay in a cluster.
type membership struct {
	node   *cluster.Node
	ctx    context.Context
	cancel context.CancelCauseFunc
	// storageStop asks the runtime to end for good, storageDown is closed when it has.
	storageStop context.CancelFunc
	storageCtx  context.Context
	storageDown chan struct{}
	ended       chan struct{} // closed when node and runtime are down
}

// errLeft ends a membership after an orderly leave.
var errLeft = errors.New("the host left the cluster")

// New makes a Host. Nothing runs before Run.
func New(cfg Config) *Host {
	cfg.started = time.Now()
	if cfg.OpenDevice == nil {
		cfg.OpenDevice = openPower
	}
	cfg.later = newLater(cfg.Cluster.DataDir, cfg.Log)
	cfg.retired = newRetired()
	h := &Host{cfg: cfg, started: cfg.started, adopted: make(chan *membership), settled: make(chan struct{})}
	h.leaving = &leaving{look: h.uses}
	h.usage = &usage{look: h.uses}
	h.monitors = newMonitors(cfg.openForReading(h.profile), h.useOf, h.domainEdge, cfg.Log)
	return h
}

// Run runs the host until ctx ends: as a member, or waiting to become one.
func (h *Host) Run(ctx context.Context) error {
	defer h.leaving.all.Wait()
	defer h.usage.all.Wait()
	h.set(func() { h.runCtx = ctx })
	if cluster.IsMember(h.cfg.Cluster.DataDir) {
		node, err := cluster.Open(ctx, h.cfg.Cluster)
		if err != nil {
			return fmt.Errorf("opening the cluster's state: %w", err)
		}
		m := newMembership(ctx, node)
		h.set(func() { h.current = m })
		close(h.settled)
		if err := h.stay(ctx, m); err != nil {
			return err
		}
	} else {
		close(h.settled)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-h.adopted:
			if err := h.stay(ctx, m); err != nil {
				return err
			}
		}
	}
}

func newMembership(ctx context.Context, node *cluster.Node) *membership {
	m := &membership{node: node, storageDown: make(chan struct{}), ended: make(chan struct{})}
	m.ctx, m.cancel = context.WithCancelCause(ctx)
	m.storageCtx, m.storageStop = context.WithCancel(m.ctx)
	return m
}

// stay runs one membership to its end. Storage goes down before the cluster does, so that a leaving SPM can still
// mirror and others hear of it.
func (h *Host) stay(ctx context.Context, m *membership) error {
	defer close(m.ended)
	h.set(func() { h.current = m })
	defer h.set(func() { h.current = nil })
	nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNode()
	h.register(m.node)
	if h.peers != nil {
		m.node.HandleHTTP("/v1/", h.peers)
	}
	m.node.OnLeadership(func(ctx context.Context) error { return h.lead(ctx, m.node) })
	g, gctx := errgroup.WithContext(nodeCtx)
	g.Go(func() error { return m.node.Run(nodeCtx) })
	g.Go(func() error { h.cfg.later.run(gctx, m.node); return nil })
	g.Go(func() error { h.monitors.run(gctx, m.node); return nil })
	g.Go(func() error {
		defer stopNode()
		h.storage(gctx, m)
		close(m.storageDown) // a leave waits for it before it ends the membership
		select {
		case <-m.ctx.Done():
		case <-gctx.Done(): // the node failed
		}
		return nil
	})
	err := g.Wait()
	if cause := context.Cause(m.ctx); errors.Is(cause, errLeft) || ctx.Err() != nil {
		return nil
	}
	return err
}

func (h *Host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// storage keeps a runtime going until the membership or its storage is to end, or the node's context has ended.
func (h *Host) storage(node context.Context, m *membership) {
	ctx, cancel := context.WithCancel(m.storageCtx)
	defer cancel()
	defer context.AfterFunc(node, cancel)()
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		begun := time.Now()
		if err := h.storageOnce(ctx, m); err != nil && ctx.Err() == nil {
			h.cfg.Log.Error("this host's storage is down; starting it again", "err", err)
		}
		wait = max(storageRetry-time.Since(begun), 0)
	}
}

// storageRetry is the least time from one start of the storage to the next.
const storageRetry = time.Second

// storageOnce waits until the cluster knows this host and a master domain, and runs on them until something ends.
func (h *Host) storageOnce(ctx context.Context, m *membership) error {
	self, pool, err := awaitPool(ctx, m.node, h.cfg.Cluster.Name, m.node.HostID())
	if err != nil {
		return err
	}
	rt, err := startRuntime(ctx, h.cfg, m.node, self, pool, h.monitors.reports, h.heed)
	if err != nil {
		return err
	}
	h.set(func() { h.rt = rt })
	if h.cfg.Users != nil {
		h.cfg.Users.Kick()
	}
	runErr := rt.run(ctx, m.node.Changed)
	h.set(func() { h.rt = nil })
	// The role must be able to stop in order although ctx may have ended.
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(runErr, rt.close(stop))
}

// mirror is what awaitPool needs of the node.
type mirror interface {
	View() *fsm.State
	Changed() <-chan struct{}
}

// awaitPool waits for the host's own record and a master domain. A host that was a member before, under another host id, sees its
// old record while it still catches up: the id that it was given counts.
func awaitPool(ctx context.Context, node mirror, name string, hostID int) (fsm.Host, fsm.Pool, error) {
	for {
		ch := node.Changed()
		st := node.View()
		self, known := st.Hosts.Get(name)
		pool, ok := st.Pool()
		if known && self.HostID == hostID && ok && pool.Master != "" {
			if _, open := st.Domains.Get(pool.Master); open {
				return self, pool, nil
			}
		}
		select {
		case <-ctx.Done():
			return fsm.Host{}, fsm.Pool{}, ctx.Err()
		case <-ch:
		}
	}
}

// Name is the host's name.
func (h *Host) Name() string { return h.cfg.Cluster.Name }

// ServePeers sets the handler for API requests that other members pass on. Call it before Run.
func (h *Host) ServePeers(handler http.Handler) { h.peers = handler }

// Settled is closed when Run has opened what the data directory holds. Before that Node is nil on a member too.
func (h *Host) Settled() <-chan struct{} { return h.settled }

// Node is the host's place in the cluster; nil when it is no member.
func (h *Host) Node() *cluster.Node {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == nil {
		return nil
	}
	return h.current.node
}

// Role is the host's part in the SPM role; nil while its storage is not up.
func (h *Host) Role() *spm.Role {
	if rt := h.runtime(); rt != nil {
		return rt.role
	}
	return nil
}

// Storage says whether this host's storage is up, or else what is wrong with it.
func (h *Host) Storage() error {
	rt := h.runtime()
	if rt == nil {
		return ErrNoStorage
	}
	switch _, keeperOK, masterValid := rt.Health(); {
	case !keeperOK:
		return errors.New("this host's lease keeper does not answer, or has lost its host id")
	case !masterValid:
		return errors.New("the SPM lease on the master domain cannot be read")
	}
	return nil
}

// Manager is the manager while this host leads; nil otherwise.
func (h *Host) Manager() *manager.Manager {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mgr
}

func (h *Host) runtime() *runtime {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rt
}
