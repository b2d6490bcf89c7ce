package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	metrics "github.com/hashicorp/go-metrics/compat"
	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/fsm"
)

// Node is this host's place in the cluster. All methods are safe for concurrent use; Handle, HandleHTTP and
// OnLeadership must be called before Run.
type Node struct {
	cfg    Config
	member member
	dir    *dataDir
	log    *slog.Logger

	fsm    *fsm.FSM
	certs  *transport.Certs
	ca     *join.CA
	server *transport.Server
	client *transport.Client
	stores Stores
	trans  *raft.NetworkTransport
	gossip *gossip    // nil without gossip; set by Run before ready is closed
	raft   *raft.Raft // set by Run before ready is closed
	peers  *peerBook

	watch     *logWatch
	leader    *leaderTracker
	fresh     freshness
	transfers transfers
	duties    []func(context.Context) error
	handlers  map[string]transport.Handler

	marks    marks
	recalled atomic.Pointer[fsm.State] // what this host had applied before it started; nil once it has that again

	started atomic.Bool           // raft runs
	damage  atomic.Pointer[error] // the first damaged entry of the log
	giveUp  func()                // ends the duties; set by Run before raft runs

	opened  time.Time
	ready   chan struct{} // closed when raft runs
	stopped chan struct{} // closed when Run is over
	running sync.Once
	closing sync.Once
	calls   sync.WaitGroup // goroutines that wait for raft's futures
}

// Open opens the node of a member. It listens and locks the data directory; nothing else happens before Run.
func Open(_ context.Context, cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := openDataDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	n, err := openLocked(cfg, dir)
	if err != nil {
		return nil, errors.Join(err, dir.close())
	}
	return n, nil
}

// openLocked builds the node; dir is locked and stays the caller's when it fails.
func openLocked(cfg Config, dir *dataDir) (*Node, error) {
	n := &Node{
		cfg: cfg, dir: dir, log: cfg.Log.With("host", cfg.Name), fsm: fsm.New(),
		leader: newLeaderTracker(), handlers: map[string]transport.Handler{},
		opened: time.Now(), ready: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := n.load(); err != nil {
		return nil, err
	}
	var err error
	n.server, err = transport.NewServer(transport.ServerConfig{
		Network: cfg.Network, Listen: cfg.ClusterAddr, Advertise: cfg.ClusterAdvertise,
		Certs: n.certs, Allow: n.allow, Log: n.log,
	})
	if err != nil {
		return nil, err
	}
	if n.stores, err = cfg.Stores(dir.file(raftDir), n.log); err != nil {
		return nil, errors.Join(err, n.server.Close())
	}
	n.client = transport.NewClient(transport.ClientConfig{Network: cfg.Network, Certs: n.certs, Resolve: n.resolve})
	n.watch = &logWatch{limit: cfg.LogWatchdog, onChange: n.onLogHung}
	n.trans = n.newTransport()
	n.recall()
	n.registerOwn()
	return n, nil
}

// load reads what the data directory says about the membership.
func (n *Node) load() error {
	if !IsMember(n.cfg.DataDir) {
		return fmt.Errorf("%s: %w", n.cfg.DataDir, ErrNotMember)
	}
	if err := n.dir.readJSON(memberFile, &n.member); err != nil {
		return err
	}
	if n.member.Name != n.cfg.Name {
		return fmt.Errorf("%w: the data directory %s belongs to host %s, the configuration says %s",
			ErrAlreadyMember, n.cfg.DataDir, n.member.Name, n.cfg.Name)
	}
	var err error
	if n.certs, err = transport.LoadCerts(n.dir.path); err != nil {
		return err
	}
	if n.ca, err = n.dir.readCA(transport.CACertFile, transport.CAKeyFile); err != nil {
		return err
	}
	n.peers, err = loadPeers(n.dir)
	return err
}

// Run makes the node take part in the cluster until ctx ends, then stops it in order and closes it. It may be called once.
func (n *Node) Run(ctx context.Context) error {
	err := ErrClosed
	n.running.Do(func() { err = n.run(ctx) })
	return err
}

func (n *Node) run(ctx context.Context) error {
	defer close(n.stopped)
	if n.cfg.MetricSink != nil {
		if err := installMetrics(n.cfg.MetricSink); err != nil {
			return errors.Join(err, n.release())
		}
	}
	serverCtx, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	var server sync.WaitGroup
	var serverErr error
	dutyCtx, stopDuties := context.WithCancel(ctx)
	defer stopDuties()
	n.giveUp = stopDuties
	server.Go(func() {
		if serverErr = n.server.Run(serverCtx); serverErr != nil {
			stopDuties()
		}
	})
	err := n.start()
	if err == nil {
		n.work(dutyCtx)
		err = n.stop()
	}
	stopServer()
	server.Wait()
	n.client.Close()
	if d := n.damage.Load(); d != nil {
		err = errors.Join(*d, err)
	}
	if errors.Is(err, ErrHung) {
		return errors.Join(err, serverErr) // raft still holds the files; the lock stays until the process ends
	}
	return errors.Join(err, serverErr, n.release())
}

// start brings up raft and gossip.
func (n *Node) start() error {
	var err error
	if n.raft, err = n.newRaft(); err != nil {
		return errors.Join(err, n.trans.Close())
	}
	if n.gossip, err = newGossip(n.cfg, n.dir); err != nil {
		return errors.Join(err, n.shutdownRaft())
	}
	close(n.ready)
	n.log.Info("cluster node is up", "cluster", n.member.ClusterID, "host_id", n.member.HostID, "address", n.cfg.ClusterAdvertise)
	return nil
}

// work runs everything that needs raft until ctx ends.
func (n *Node) work(ctx context.Context) {
	var wg sync.WaitGroup
	for _, loop := range []func(context.Context){
		n.observeRaft, n.leadershipLoop, n.selfLoop, n.gossipLoop, n.peersLoop, n.certLoop, n.freshLoop, n.marksLoop,
	} {
		wg.Go(func() { loop(ctx) })
	}
	wg.Wait()
}

// stop ends raft and gossip. A leader hands over first, so that a planned stop costs no election.
func (n *Node) stop() error {
	if n.IsLeader() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if err := n.handOver(ctx, ""); err != nil {
			n.log.Debug("no hand-over before the stop", "error", err)
		}
		cancel()
	}
	err := n.shutdownRaft()
	return errors.Join(err, n.gossip.close())
}

// release gives back what Open took.
func (n *Node) release() error {
	var err error
	n.closing.Do(func() { err = errors.Join(n.stores.close(), n.dir.close()) })
	return err
}

// Close releases a node that never ran; a running one is stopped by its context. It is harmless after Run.
func (n *Node) Close() error {
	err := error(nil)
	n.running.Do(func() {
		close(n.stopped)
		err = errors.Join(n.server.Close(), n.trans.Close(), n.release())
	})
	return err
}

func installMetrics(sink metrics.MetricSink) error {
	conf := metrics.DefaultConfig("holdfast")
	conf.EnableHostname, conf.EnableRuntimeMetrics = false, false
	if _, err := metrics.NewGlobal(conf, sink); err != nil {
		return fmt.Errorf("installing metrics: %w", err)
	}
	return nil
}

// up waits until raft runs.
func (n *Node) up(ctx context.Context) error {
	select {
	case <-n.stopped:
		return ErrClosed
	default:
	}
	select {
	case <-n.ready:
		return nil
	case <-n.stopped:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("waiting for the cluster node to start: %w", ctx.Err())
	}
}

// Ready is closed when the node runs.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Done is closed when Run is over.
func (n *Node) Done() <-chan struct{} { return n.stopped }

// Name is this host's name.
func (n *Node) Name() string { return n.cfg.Name }

// HostID is the host id that the cluster gave to this host.
func (n *Node) HostID() int { return n.member.HostID }

// ClusterID is the cluster's id.
func (n *Node) ClusterID() string { return n.member.ClusterID }

// View is the replicated state as this host has applied it, or, if that is newer, as it had before it started.
func (n *Node) View() *fsm.State {
	now := n.fsm.View()
	switch before := n.recalled.Load(); {
	case before == nil:
	case before.Index > now.Index:
		return before
	default:
		n.recalled.Store(nil)
	}
	return now
}

// Changed is a channel that is closed at the next change; take it before looking at View.
func (n *Node) Changed() <-chan struct{} { return n.fsm.Changed() }

// WaitIndex waits until this host has applied everything up to index.
func (n *Node) WaitIndex(ctx context.Context, index uint64) (*fsm.State, error) {
	return n.fsm.WaitIndex(ctx, index)
}

// Handle serves a method that other hosts may Call.
func (n *Node) Handle(method string, h transport.Handler) {
	n.handlers[method] = h
	n.server.Handle(method, h)
}

// HandleHTTP serves forwarded API requests whose path begins with prefix; transport.From tells which host sent them.
func (n *Node) HandleHTTP(prefix string, h http.Handler) { n.server.HandleHTTP(prefix, h) }

// RoundTripper sends API requests to a host over the cluster port.
func (n *Node) RoundTripper(host string) http.RoundTripper { return n.client.RoundTripper(host) }

// Certs is the host's certificate and the cluster's CA, for the API's listener.
func (n *Node) Certs() *transport.Certs { return n.certs }

// CA is the cluster's certificate authority.
func (n *Node) CA() *join.CA { return n.ca }

// allow refuses hosts that were removed. A host that this replica does not know yet may have joined a moment ago.
func (n *Node) allow(host string) error {
	st := n.View()
	if st.Removed.Has(host) && !st.Hosts.Has(host) {
		return fmt.Errorf("host %s was removed from the cluster: %w", host, transport.ErrNotMember)
	}
	return nil
}
