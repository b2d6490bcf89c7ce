package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	metrics "github.com/hashicorp/go-metrics/compat"
	"github.com/hashicorp/memberlist"

	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/clock"
)

// Config describes a Node. Zero values of the fields that have a default are replaced by it.
type Config struct {
	// Name is the host's name in the cluster; it is also raft's server id and the name in the host's certificate.
	Name string
	// DataDir holds everything that the node stores, below "cluster". It must be on a local disk.
	DataDir string

	// ClusterAddr is the host:port to listen on for raft and calls.
	ClusterAddr string
	// ClusterAdvertise is the host:port that the others dial. Default: ClusterAddr.
	ClusterAdvertise string
	// GossipAddr is the host:port for gossip, UDP and TCP. Empty: no gossip; members then know less, and later, of each other.
	GossipAddr string
	// GossipAdvertise is the host:port that the others gossip to. Default: GossipAddr.
	GossipAdvertise string
	// HTTPAddr is the address of the host's API, told to the others.
	HTTPAddr string
	// Priority is the SPM priority that the host joins with, from -1 (never) to 10. Default 5. It is changed in the cluster's state.
	Priority int

	// Raft holds the times of consensus.
	Raft RaftTimes
	// LogWatchdog is how long one write to raft's log may take before this host gives up leadership. Default 2 s.
	// Too short: a slow fsync costs an election. Too long: nobody leads for as long.
	LogWatchdog time.Duration
	// ApplyTimeout bounds Apply and the like when the caller's context has no deadline. Default 10 s.
	ApplyTimeout time.Duration
	// ReconcileInterval is how often the leader compares raft's servers with the hosts, at the least. Default 1 s.
	ReconcileInterval time.Duration
	// MaxVoters is how many hosts vote; further ones only follow. Default 5.
	MaxVoters int
	// SnapshotThreshold is after how many log entries the state is written out. Default 8192.
	SnapshotThreshold uint64

	Log *slog.Logger
	// MetricSink takes raft's and serf's metrics. They are global to the process, so only one node may set it.
	MetricSink metrics.MetricSink

	// Clock measures the age of the mirror; a suspended host's goes on. Default: the machine's.
	Clock clock.Clock

	// Network, GossipTransport and Stores replace the machine's own in tests. nil: the machine's own.
	Network         transport.Network
	GossipTransport memberlist.Transport
	Stores          StoreOpener
}

// RaftTimes are raft's timeouts, see raft.Config. Shorter ones find a dead leader sooner and mistake a busy one for dead more often.
type RaftTimes struct {
	Heartbeat   time.Duration // a follower that hears nothing for this long becomes a candidate; default 300 ms
	Election    time.Duration // a candidate waits this long for votes; default 300 ms
	LeaderLease time.Duration // a leader without a quorum gives up after this long; default 150 ms
	Commit      time.Duration // how late followers may learn of a commit when nothing else happens; default 10 ms
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	orDefault(&c.ClusterAdvertise, c.ClusterAddr)
	orDefault(&c.GossipAdvertise, c.GossipAddr)
	orDefault(&c.Raft.Heartbeat, 300*time.Millisecond)
	orDefault(&c.Raft.Election, 300*time.Millisecond)
	orDefault(&c.Raft.LeaderLease, 150*time.Millisecond)
	orDefault(&c.Raft.Commit, 10*time.Millisecond)
	orDefault(&c.LogWatchdog, 2*time.Second)
	orDefault(&c.ApplyTimeout, 10*time.Second)
	orDefault(&c.ReconcileInterval, time.Second)
	orDefault(&c.MaxVoters, 5)
	orDefault(&c.Priority, fsm.DefaultPriority)
	orDefault(&c.SnapshotThreshold, 8192)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	if c.Network == nil {
		c.Network = transport.TCP{}
	}
	if c.Stores == nil {
		c.Stores = openBolt
	}
	return c
}

// Validate says what is wrong with a configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	errs := []error{fsm.CheckHostName(c.Name), fsm.CheckPriority(c.Priority), checkAdvertise("cluster", c.ClusterAdvertise)}
	if c.DataDir == "" {
		errs = append(errs, errors.New("a data directory is needed"))
	}
	if c.GossipAddr != "" {
		errs = append(errs, checkAdvertise("gossip", c.GossipAdvertise), checkTags(tagsOf(c)))
	}
	if r := c.Raft; r.LeaderLease > r.Heartbeat || r.Election < r.Heartbeat {
		errs = append(errs, fmt.Errorf("raft times: leader lease %v must not exceed heartbeat %v, nor heartbeat the election time %v",
			r.LeaderLease, r.Heartbeat, r.Election))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cluster configuration: %w", err)
	}
	return nil
}

func checkAdvertise(what, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s address %q: %w", what, address, err)
	}
	if ip := net.ParseIP(host); host == "" || port == "0" || (ip != nil && ip.IsUnspecified()) {
		return fmt.Errorf("%s address %q cannot be dialled by other hosts; set an address to advertise", what, address)
	}
	return nil
}
