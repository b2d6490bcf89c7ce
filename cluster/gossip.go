package cluster

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/holdfast-io/holdfast/fsm"
)

// Tags that a host gossips about itself. Serf panics when they exceed 512 bytes encoded, so checkTags is asked first.
const (
	tagCluster = "c" // address of raft and calls
	tagHTTP    = "h"
	tagVersion = "v" // highest cluster version spoken
	maxTags    = 400
)

func tagsOf(c Config) map[string]string {
	return map[string]string{tagCluster: c.ClusterAdvertise, tagHTTP: c.HTTPAddr, tagVersion: strconv.Itoa(fsm.MaxVersion)}
}

func checkTags(tags map[string]string) error {
	size := 0
	for k, v := range tags {
		size += len(k) + len(v) + 6 // msgpack's own bytes
	}
	if size > maxTags {
		return fmt.Errorf("the host's addresses take %d bytes, gossip has room for %d; use shorter names", size, maxTags)
	}
	return nil
}

// Member is what gossip says about a host. It is a hint.
type Member struct {
	Name    string `json:"name"`
	Address string `json:"address"` // of raft and calls
	Gossip  string `json:"gossip"`
	HTTP    string `json:"http"`
	Alive   bool   `json:"alive"`
	Status  string `json:"status"`
}

// gossip is serf; nil stands for a node without it.
type gossip struct{ serf *serf.Serf }

// newGossip starts serf. The keys come from the file in the data directory.
func newGossip(cfg Config, dir *dataDir) (*gossip, error) {
	if cfg.GossipAddr == "" && cfg.GossipTransport == nil {
		return nil, nil
	}
	conf, err := gossipConfig(cfg, dir)
	if err != nil {
		return nil, err
	}
	s, err := serf.Create(conf)
	if err != nil {
		return nil, fmt.Errorf("starting gossip on %s: %w", cfg.GossipAddr, err)
	}
	return &gossip{s}, nil
}

func gossipConfig(cfg Config, dir *dataDir) (*serf.Config, error) {
	ring, err := readKeyring(dir)
	if err != nil {
		return nil, err
	}
	log := newStdLog(cfg.Log, "gossip")
	conf := serf.DefaultConfig()
	conf.NodeName, conf.Tags = cfg.Name, tagsOf(cfg)
	conf.Logger, conf.LogOutput = log, nil
	conf.EnableNameConflictResolution = false // who a host is, its certificate says
	conf.DisableCoordinates = true
	conf.KeyringFile = dir.file(keyringFile)
	conf.ValidateNodeNames = true
	conf.LeavePropagateDelay, conf.BroadcastTimeout = 100*time.Millisecond, time.Second
	m := memberlist.DefaultLANConfig()
	m.Name, m.Logger, m.LogOutput, m.Keyring = cfg.Name, log, nil, ring
	m.ProbeInterval, m.ProbeTimeout = 300*time.Millisecond, 150*time.Millisecond
	m.SuspicionMult, m.GossipInterval = 3, 100*time.Millisecond
	m.TCPTimeout = 2 * time.Second
	m.Transport = cfg.GossipTransport
	if err := setAddresses(m, cfg); err != nil {
		return nil, err
	}
	conf.MemberlistConfig = m
	return conf, nil
}

func setAddresses(m *memberlist.Config, cfg Config) error {
	if cfg.GossipAddr == "" {
		return nil
	}
	bind, err := resolve(cfg.GossipAddr)
	if err != nil {
		return err
	}
	adv, err := resolve(cfg.GossipAdvertise)
	if err != nil {
		return err
	}
	m.BindAddr, m.BindPort = bind.IP.String(), bind.Port
	m.AdvertiseAddr, m.AdvertisePort = adv.IP.String(), adv.Port
	return nil
}

func resolve(address string) (*net.TCPAddr, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", address, err)
	}
	if a.IP == nil {
		a.IP = net.IPv4zero
	}
	return a, nil
}

func readKeyring(dir *dataDir) (*memberlist.Keyring, error) {
	data, err := os.ReadFile(dir.file(keyringFile))
	if err != nil {
		return nil, fmt.Errorf("reading the gossip keys: %w", err)
	}
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil || len(texts) == 0 {
		return nil, fmt.Errorf("reading the gossip keys in %s: not a list of keys", dir.file(keyringFile))
	}
	keys := make([][]byte, len(texts))
	for i, t := range texts {
		if keys[i], err = base64.StdEncoding.DecodeString(t); err != nil {
			return nil, fmt.Errorf("reading the gossip keys: %w", err)
		}
	}
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	return ring, nil
}

func (g *gossip) members() []Member {
	if g == nil {
		return nil
	}
	var out []Member
	for _, m := range g.serf.Members() {
		out = append(out, Member{
			Name: m.Name, Address: m.Tags[tagCluster], HTTP: m.Tags[tagHTTP],
			Gossip: net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(m.Port))),
			Alive:  m.Status == serf.StatusAlive, Status: m.Status.String(),
		})
	}
	return out
}

func (g *gossip) member(name string) (Member, bool) {
	for _, m := range g.members() {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// join gossips with one more host.
func (g *gossip) join(address string) error {
	if _, err := g.serf.Join([]string{address}, true); err != nil {
		return fmt.Errorf("gossip with %s: %w", address, err)
	}
	return nil
}

// forget makes a host that has failed one that has left, so that nobody tries to reach it any more. One that is alive stays: it may have
// joined again. One that is leaving needs nothing; it must not be pruned, for serf sleeps over that with its lock held, on every host,
// and meanwhile nobody there can look at the members or at an address.
func (g *gossip) forget(name string, log *slog.Logger) {
	m, known := g.member(name)
	if !known || m.Status != serf.StatusFailed.String() {
		return
	}
	if err := g.serf.RemoveFailedNode(name); err != nil {
		log.Warn("gossip goes on about a host that was removed, for a day at the most", "host", name, "error", err)
	}
}

// leave tells the others that this host goes on purpose.
func (g *gossip) leave() error {
	if g == nil {
		return nil
	}
	return g.serf.Leave()
}

func (g *gossip) close() error {
	if g == nil {
		return nil
	}
	if err := g.serf.Shutdown(); err != nil {
		return fmt.Errorf("stopping gossip: %w", err)
	}
	<-g.serf.ShutdownCh()
	return nil
}
