package transport

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// RaftStream is raft's StreamLayer. It can be isolated: all its connections are closed and new ones refused, both ways.
type RaftStream struct {
	*queue
	network Network
	certs   *Certs

	mu       sync.Mutex // guards the fields below
	isolated bool
	open     map[*trackedConn]struct{}
	dialing  context.Context // ends when raft is isolated, and every dial under way with it
	stopDial context.CancelFunc
}

var _ raft.StreamLayer = (*RaftStream)(nil)

func newRaftStream(addr net.Addr, n Network, c *Certs) *RaftStream {
	r := &RaftStream{queue: newQueue(addr), network: n, certs: c, open: map[*trackedConn]struct{}{}}
	r.dialing, r.stopDial = context.WithCancel(context.Background())
	return r
}

// Dial connects to another host's raft.
func (r *RaftStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	r.mu.Lock()
	base, isolated := r.dialing, r.isolated
	r.mu.Unlock()
	if isolated {
		return nil, ErrIsolated
	}
	ctx, cancel := context.WithTimeout(base, timeout)
	defer cancel()
	conn, err := dialTLS(ctx, r.network, string(address), r.certs.Client(""), protoRaft)
	if err != nil {
		return nil, fmt.Errorf("raft connection to %s: %w", address, err)
	}
	return r.track(conn)
}

// Accept waits for the next connection of another host's raft.
func (r *RaftStream) Accept() (net.Conn, error) {
	for {
		conn, err := r.queue.Accept()
		if err != nil {
			return nil, err
		}
		if tracked, err := r.track(conn); err == nil {
			return tracked, nil
		}
	}
}

// Isolate cuts raft off from all other hosts, or lets it talk again.
func (r *RaftStream) Isolate(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isolated = cut
	r.stopDial()
	if !cut {
		r.dialing, r.stopDial = context.WithCancel(context.Background())
		return
	}
	for c := range r.open {
		_ = c.raw().Close() // not Close: it would wait for mu, and its close-notify for a deaf peer
	}
	clear(r.open)
}

// Close ends Accept and every connection. Raft's own transport would leave the ones that it accepted to their peers.
func (r *RaftStream) Close() error {
	r.Isolate(true)
	return r.queue.Close()
}

// Isolated says whether raft is cut off.
func (r *RaftStream) Isolated() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isolated
}

func (r *RaftStream) track(conn net.Conn) (net.Conn, error) {
	t := &trackedConn{Conn: conn, owner: r}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isolated {
		_ = conn.Close()
		return nil, ErrIsolated
	}
	r.open[t] = struct{}{}
	return t, nil
}

// trackedConn takes itself off the list when it is closed.
type trackedConn struct {
	net.Conn
	owner *RaftStream
}

// Close closes the connection.
func (t *trackedConn) Close() error {
	t.owner.mu.Lock()
	delete(t.owner.open, t)
	t.owner.mu.Unlock()
	return t.Conn.Close()
}

func (t *trackedConn) raw() net.Conn {
	if tc, ok := t.Conn.(interface{ NetConn() net.Conn }); ok {
		return tc.NetConn()
	}
	return t.Conn
}
