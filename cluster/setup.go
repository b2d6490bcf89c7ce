package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/fsm"
)

const gossipKeyBytes = 32

// Bootstrap makes a new cluster with this host as its first and opens the node. The first leadership writes the first entry.
func Bootstrap(_ context.Context, cfg Config, clusterName string) (*Node, error) {
	return setUp(cfg, func(cfg Config, dir *dataDir) (member, error) { return bootstrap(cfg, dir, clusterName) })
}

// Join makes this host a member of the cluster that address belongs to, and opens the node. After an error that wraps
// ErrOutcomeUnknown the same join may simply be tried again.
func Join(ctx context.Context, cfg Config, address, token string) (*Node, error) {
	return setUp(cfg, func(cfg Config, dir *dataDir) (member, error) { return joinCluster(ctx, cfg, dir, address, token) })
}

// setUp runs one of the two ways to become a member, on a locked directory of a host that is none.
func setUp(cfg Config, how func(Config, *dataDir) (member, error)) (*Node, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := openDataDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	n, err := func() (*Node, error) {
		if IsMember(cfg.DataDir) {
			return nil, ErrAlreadyMember
		}
		if err := dir.clearRaft(); err != nil {
			return nil, err
		}
		m, err := how(cfg, dir)
		if err != nil {
			return nil, err
		}
		if err := dir.writeJSON(memberFile, m); err != nil {
			return nil, err
		}
		return openLocked(cfg, dir)
	}()
	if err != nil {
		return nil, errors.Join(err, dir.close())
	}
	return n, nil
}

func bootstrap(cfg Config, dir *dataDir, clusterName string) (member, error) {
	now := time.Now()
	m := member{ClusterID: uuid.NewString(), ClusterName: clusterName, Name: cfg.Name, HostID: 1, First: true, Created: now.UnixNano()}
	ca, err := join.NewCA(m.ClusterID, now)
	if err != nil {
		return m, err
	}
	key, err := join.NewKey()
	if err != nil {
		return m, err
	}
	cert, err := ca.HostCert(&key.PublicKey, cfg.Name, []string{cfg.ClusterAdvertise, cfg.HTTPAddr}, now)
	if err != nil {
		return m, err
	}
	caKey, err := ca.KeyPEM()
	if err != nil {
		return m, err
	}
	gossipKey := make([]byte, gossipKeyBytes)
	if _, err := rand.Read(gossipKey); err != nil {
		return m, fmt.Errorf("making the gossip key: %w", err)
	}
	if err := writeKey(dir, key); err != nil {
		return m, err
	}
	err = writeIdentity(dir, join.Grant{Cert: cert, CACert: ca.CertPEM(), CAKey: caKey, GossipKey: gossipKey})
	if err != nil {
		return m, err
	}
	return m, bootstrapRaft(cfg, dir)
}

// bootstrapRaft writes raft's first configuration, with this host alone.
func bootstrapRaft(cfg Config, dir *dataDir) error {
	stores, err := cfg.Stores(dir.file(raftDir), cfg.Log)
	if err != nil {
		return err
	}
	_, trans := raft.NewInmemTransport(raft.ServerAddress(cfg.ClusterAdvertise)) // raft asks for one and does not use it
	err = raft.BootstrapCluster(raftConfig(cfg), stores.Log, stores.Stable, stores.Snapshot, trans, raft.Configuration{
		Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(cfg.Name), Address: raft.ServerAddress(cfg.ClusterAdvertise)}},
	})
	if err != nil {
		err = fmt.Errorf("writing raft's first configuration: %w", err)
	}
	return errors.Join(err, trans.Close(), stores.close())
}

func joinCluster(ctx context.Context, cfg Config, dir *dataDir, address, token string) (member, error) {
	tok, err := join.ParseToken(token)
	if err != nil {
		return member{}, err
	}
	key, err := hostKey(dir)
	if err != nil {
		return member{}, err
	}
	j := join.Joiner{Network: cfg.Network, Key: key}
	grant, err := j.Join(ctx, address, tok, join.HostInfo{
		Name: cfg.Name, Address: cfg.ClusterAdvertise, Gossip: cfg.GossipAdvertise, HTTP: cfg.HTTPAddr,
		Priority: cfg.Priority, Protocol: fsm.ProtocolRange{Min: fsm.MinVersion, Max: fsm.MaxVersion},
	})
	if err != nil {
		return member{}, err
	}
	if err := writeIdentity(dir, grant); err != nil {
		return member{}, err
	}
	if err := dir.writeJSON(peersFile, grant.Peers); err != nil {
		return member{}, err
	}
	return member{ClusterID: grant.ClusterID, ClusterName: grant.ClusterName, Name: cfg.Name, HostID: grant.HostID,
		Created: time.Now().UnixNano()}, nil
}

// hostKey is the key from an earlier try, or a new one. The cluster knows a retry by the key.
func hostKey(dir *dataDir) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(dir.file(transport.HostKeyFile))
	if err == nil {
		if key, err := join.ParseKey(data); err == nil {
			return key, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the host's key: %w", err)
	}
	key, err := join.NewKey()
	if err != nil {
		return nil, err
	}
	return key, writeKey(dir, key)
}

func writeKey(dir *dataDir, key *ecdsa.PrivateKey) error {
	data, err := join.KeyPEM(key)
	if err != nil {
		return err
	}
	return dir.write(transport.HostKeyFile, data, 0o600)
}

func writeIdentity(dir *dataDir, g join.Grant) error {
	return errors.Join(
		dir.write(transport.CACertFile, g.CACert, 0o644),
		dir.write(transport.CAKeyFile, g.CAKey, 0o600),
		dir.write(transport.HostCertFile, g.Cert, 0o644),
		dir.writeJSON(keyringFile, []string{base64.StdEncoding.EncodeToString(g.GossipKey)}),
	)
}

// Leave ends this host's membership. The caller has released the host's leases and says so in evidence; afterwards it
// ends Run. The host can join again with a new token.
func (n *Node) Leave(ctx context.Context, evidence string) error {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	if err := n.Barrier(ctx); err != nil {
		return fmt.Errorf("leaving: %w", err)
	}
	self, ok := n.View().Hosts.Get(n.cfg.Name)
	if ok && n.View().Hosts.Len() == 1 {
		return ErrLastHost
	}
	if ok {
		if err := n.removeSelf(ctx, self, evidence); err != nil {
			return fmt.Errorf("leaving: %w", err)
		}
	}
	if err := n.gossip.leave(); err != nil {
		n.log.Warn("the others will take this host for dead a while", "error", err)
	}
	if err := os.Rename(n.dir.file(memberFile), n.dir.file(leftFile)); err != nil {
		return fmt.Errorf("leaving: the cluster let this host go, but its files did not: %w", err)
	}
	// The key must go too: with it, this host would look like a retry of its own join.
	return errors.Join(os.Remove(n.dir.file(transport.HostKeyFile)), n.dir.sync())
}

func (n *Node) removeSelf(ctx context.Context, self fsm.Host, evidence string) error {
	if n.IsLeader() {
		if err := n.TransferLeadership(ctx, ""); err != nil {
			return err
		}
	}
	now := time.Now().UnixNano()
	out, err := n.Apply(ctx, &fsm.HostRemove{Name: self.Name, Time: now, Proof: &fsm.Proof{
		Kind: fsm.ProofReleased, Host: self.Name, HostID: self.HostID, Generation: self.Generation,
		Evidence: evidence, By: self.Name, Time: now,
	}})
	if err != nil {
		return err
	}
	return out.Err()
}
