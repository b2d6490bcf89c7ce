package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/fsm"
)

const (
	raftConnTimeout = 5 * time.Second
	raftConnPool    = 3
	logCacheSize    = 512
	// shutdownTimeout is how long raft may take to stop, longer than one call to a deaf host. It never does while its
	// disk hangs.
	shutdownTimeout = 2 * raftConnTimeout
)

func (n *Node) newTransport() *raft.NetworkTransport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: addressProvider{n},
		Logger:                newHCLogger(n.log, "raft.transport"),
		Stream:                n.server.Raft(),
		MaxPool:               raftConnPool,
		Timeout:               raftConnTimeout,
		// No pipelining: with it a follower's refusal or end can block its replication for good, while heartbeats go on,
		// and raft then cannot be stopped either (hashicorp/raft issue 612). Batches give the throughput needed here.
		MaxRPCsInFlight: 1,
	})
}

// addressProvider lets raft dial a host at its present address, not the one in raft's configuration.
type addressProvider struct{ n *Node }

// ServerAddr finds the address of a host.
func (p addressProvider) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	address, err := p.n.resolve(string(id))
	return raft.ServerAddress(address), err
}

func raftConfig(cfg Config) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(cfg.Name)
	c.HeartbeatTimeout, c.ElectionTimeout = cfg.Raft.Heartbeat, cfg.Raft.Election
	c.LeaderLeaseTimeout, c.CommitTimeout = cfg.Raft.LeaderLease, cfg.Raft.Commit
	c.SnapshotThreshold = cfg.SnapshotThreshold
	c.BatchApplyCh = true
	c.ShutdownOnRemove = false // the node decides itself what a removal means
	c.NoLegacyTelemetry = true
	c.Logger = newHCLogger(cfg.Log, "raft")
	return c
}

func (n *Node) newRaft() (r *raft.Raft, err error) {
	conf := raftConfig(n.cfg)
	conf.Logger = newHCLogger(n.log, "raft")
	conf.NotifyCh = n.leader.notify
	cache, err := raft.NewLogCache(logCacheSize, watchedLog{n.stores.Log, n.watch, n.onLogDamaged})
	if err != nil {
		return nil, fmt.Errorf("starting raft: %w", err)
	}
	defer recovered(&err) // raft panics over an entry that it cannot read, here in our goroutine
	r, err = raft.NewRaft(conf, marking{fsm.Raft{FSM: n.fsm}, &n.marks}, cache, watchedStable{n.stores.Stable, n.watch}, n.stores.Snapshot, n.trans)
	if err != nil {
		return nil, fmt.Errorf("starting raft: %w", asDamage(err))
	}
	n.started.Store(true)
	return r, nil
}

// recovered makes an error of a panic with one.
func recovered(err *error) {
	switch p := recover().(type) {
	case nil:
	case error:
		*err = fmt.Errorf("starting raft: %w", asDamage(p))
	default:
		panic(p)
	}
}

// onLogDamaged is told that an entry is not what was written. Once raft runs it does not return, but ends raft's goroutine that asked, as
// if that had stopped: nothing may follow from the entry, and raft would end the process. The others elect another leader, and the node
// stops.
func (n *Node) onLogDamaged(err error) {
	if !n.started.Load() {
		return // NewRaft gives the error back
	}
	n.log.Error("raft's log is damaged; this host leaves the others to it and stops", "error", err)
	err = asDamage(err)
	n.damage.CompareAndSwap(nil, &err)
	n.server.Raft().Isolate(true)
	n.leader.setHung(true)
	n.giveUp()
	runtime.Goexit()
}

// shutdownRaft stops raft, or says that it cannot be stopped.
func (n *Node) shutdownRaft() error {
	future := n.raft.Shutdown()
	n.server.Raft().Isolate(true) // a call to a host that went down just now must not keep raft until its deadline
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	err := n.await(ctx, future.Error)
	closeErr := n.trans.Close()
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stopping raft: %w", ErrHung)
	}
	left := make(chan struct{})
	go func() { n.calls.Wait(); close(left) }() // ends when the disk does
	select {
	case <-left:
	case <-ctx.Done():
		return fmt.Errorf("stopping the node: %w", errors.Join(ErrHung, closeErr))
	}
	return errors.Join(err, closeErr)
}

// await waits for a raft future, or for ctx. In the second case the future goes on in its own goroutine, which ends when
// raft does at the latest.
func (n *Node) await(ctx context.Context, future func() error) error {
	done := make(chan error, 1)
	n.calls.Go(func() { done <- future() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// onLogHung is told by the watchdog that raft's disk hangs, or works again.
func (n *Node) onLogHung(hung bool) {
	if hung {
		n.log.Error("a write to raft's log does not come back; giving up leadership and cutting raft's connections",
			"limit", n.cfg.LogWatchdog, "disk", n.dir.path)
	} else {
		n.log.Warn("raft's log can be written again")
	}
	n.server.Raft().Isolate(hung)
	n.leader.setHung(hung)
}

// observeRaft tells those who wait for a leader that there may be another one.
func (n *Node) observeRaft(ctx context.Context) {
	ch := make(chan raft.Observation, 16)
	obs := raft.NewObserver(ch, false, func(o *raft.Observation) bool {
		_, is := o.Data.(raft.LeaderObservation)
		return is
	})
	n.raft.RegisterObserver(obs)
	defer n.raft.DeregisterObserver(obs)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ch:
			n.leader.wake()
		}
	}
}

// IsLeader says whether this host leads the cluster as far as it knows. Between two looks that may have changed; work
// that must not outlive a term belongs into OnLeadership.
func (n *Node) IsLeader() bool {
	select {
	case <-n.ready:
		return n.raft.State() == raft.Leader && !n.leader.isHung()
	default:
		return false
	}
}

// Leader is the name of the host that leads; false when nobody does, as far as this host knows.
func (n *Node) Leader() (string, bool) {
	select {
	case <-n.ready:
	default:
		return "", false
	}
	_, id := n.raft.LeaderWithID()
	if id == "" || (string(id) == n.cfg.Name && !n.IsLeader()) {
		return "", false
	}
	return string(id), true
}

// RaftPeer is one server of raft's configuration.
type RaftPeer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
	Leader  bool   `json:"leader"`
}

// RaftPeers lists raft's servers as this host knows them.
func (n *Node) RaftPeers() ([]RaftPeer, error) {
	if err := n.up(context.Background()); err != nil {
		return nil, err
	}
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("reading raft's configuration: %w", err)
	}
	leader, _ := n.Leader()
	var out []RaftPeer
	for _, s := range future.Configuration().Servers {
		out = append(out, RaftPeer{Name: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter,
			Leader: string(s.ID) == leader})
	}
	return out, nil
}
