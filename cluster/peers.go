package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/fsm"
)

// peerBook remembers the members' addresses in a file. Until the log is applied again after a start, it is all that a
// host knows.
type peerBook struct {
	dir *dataDir

	mu    sync.Mutex // guards peers
	peers map[string]join.Peer
}

func loadPeers(dir *dataDir) (*peerBook, error) {
	b := &peerBook{dir: dir, peers: map[string]join.Peer{}}
	var list []join.Peer
	if err := dir.readJSON(peersFile, &list); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, p := range list {
		b.peers[p.Name] = p
	}
	return b, nil
}

func (b *peerBook) get(name string) (join.Peer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.peers[name]
	return p, ok
}

func (b *peerBook) all() []join.Peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]join.Peer, 0, len(b.peers))
	for _, p := range b.peers {
		out = append(out, p)
	}
	return out
}

// follow takes over what the replicated state says, and writes it down when it is new.
func (b *peerBook) follow(st *fsm.State) error {
	next := map[string]join.Peer{}
	list := make([]join.Peer, 0, st.Hosts.Len())
	for _, h := range st.Hosts.All() {
		next[h.Name] = join.Peer{Name: h.Name, Address: h.Address, Gossip: h.Gossip}
		list = append(list, next[h.Name])
	}
	b.mu.Lock()
	same := len(next) == 0 || maps.Equal(next, b.peers)
	if !same {
		b.peers = next
	}
	b.mu.Unlock()
	if same {
		return nil
	}
	return b.dir.writeJSON(peersFile, list)
}

// peersLoop keeps the file in step with the replicated state.
func (n *Node) peersLoop(ctx context.Context) {
	for {
		changed := n.Changed()
		if err := n.peers.follow(n.View()); err != nil {
			n.log.Error("cannot write down the members' addresses", "error", err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		wait(ctx, 100*time.Millisecond) // many changes, one look
	}
}

// resolve finds the address of a host: what it gossips now, what is replicated, what was last written down.
func (n *Node) resolve(host string) (string, error) {
	if host == n.cfg.Name {
		return n.cfg.ClusterAdvertise, nil
	}
	select {
	case <-n.ready:
		if m, ok := n.gossip.member(host); ok && m.Alive && m.Address != "" {
			return m.Address, nil
		}
	default:
	}
	if h, ok := n.View().Hosts.Get(host); ok && h.Address != "" {
		return h.Address, nil
	}
	if p, ok := n.peers.get(host); ok && p.Address != "" {
		return p.Address, nil
	}
	return "", fmt.Errorf("the address of host %s is not known: %w", host, ErrUnreachable)
}

// Members lists what gossip says about the hosts; it is empty without gossip.
func (n *Node) Members() []Member {
	select {
	case <-n.ready:
		return n.gossip.members()
	default:
		return nil
	}
}

// Alive says whether gossip hears of a host. It is a hint, nothing irreversible may follow from it. Without gossip no
// host is known to be alive but this one.
func (n *Node) Alive(host string) bool {
	if host == n.cfg.Name {
		return true
	}
	for _, m := range n.Members() {
		if m.Name == host {
			return m.Alive
		}
	}
	return false
}

const gossipRetry = 2 * time.Second

// gossipLoop keeps gossiping with hosts that are members and not heard of.
func (n *Node) gossipLoop(ctx context.Context) {
	if n.gossip == nil {
		return
	}
	for ctx.Err() == nil {
		for _, p := range n.silent() {
			if ctx.Err() != nil {
				return
			}
			if err := n.gossip.join(p.Gossip); err != nil {
				n.log.Debug("no gossip with a member", "member", p.Name, "error", err)
			}
		}
		wait(ctx, gossipRetry)
	}
}

func (n *Node) silent() []join.Peer {
	alive := map[string]bool{n.cfg.Name: true}
	for _, m := range n.gossip.members() {
		alive[m.Name] = alive[m.Name] || m.Alive
	}
	var out []join.Peer
	for _, p := range n.peers.all() {
		if p.Gossip != "" && !alive[p.Name] {
			out = append(out, p)
		}
	}
	return out
}
