// Package memnet is a network in memory for tests: it behaves like TCP, runs inside testing/synctest, and can be cut.
//
// While two hosts are cut off from each other, what they write to each other waits, as TCP's retransmissions do, and a
// dial hangs until its context ends.
package memnet

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
)

// Net connects hosts.
type Net struct {
	mu        sync.Mutex // guards the fields below
	listeners map[string]*listener
	cut       map[string]bool // hosts that are cut off from all others
	changed   chan struct{}   // closed when cut changes
}

// New returns a network without hosts.
func New() *Net {
	return &Net{listeners: map[string]*listener{}, cut: map[string]bool{}, changed: make(chan struct{})}
}

// Cut takes a host off the network, or puts it back.
func (n *Net) Cut(host string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[host] = cut
	close(n.changed)
	n.changed = make(chan struct{})
}

// passes says whether a and b reach each other, and gives a channel for the next change.
func (n *Net) passes(a, b string) (bool, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return a == b || (!n.cut[a] && !n.cut[b]), n.changed
}

// Host is the network as one host sees it. Its addresses are host:port.
func (n *Net) Host(name string) *Host { return &Host{n, name} }

// Host makes a host's listeners and connections.
type Host struct {
	net  *Net
	name string
}

type addr string

func (addr) Network() string  { return "mem" }
func (a addr) String() string { return string(a) }

// Listen listens on host:port.
func (h *Host) Listen(address string) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.listeners[address] != nil {
		return nil, fmt.Errorf("memnet: address %s is in use", address)
	}
	l := &listener{net: h.net, address: address, conns: make(chan net.Conn), done: make(chan struct{})}
	h.net.listeners[address] = l
	return l, nil
}

// Dial connects to host:port.
func (h *Host) Dial(ctx context.Context, address string) (net.Conn, error) {
	to, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	for {
		ok, changed := h.net.passes(h.name, to)
		if ok {
			return h.connect(ctx, to, address)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (h *Host) connect(ctx context.Context, to, address string) (net.Conn, error) {
	h.net.mu.Lock()
	l := h.net.listeners[address]
	h.net.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("memnet: %s: connection refused", address)
	}
	there, back := newStream(), newStream()
	link := func() (bool, <-chan struct{}) { return h.net.passes(h.name, to) }
	mine := newConn(back, there, link, addr(h.name+":0"), addr(address))
	theirs := newConn(there, back, link, addr(address), addr(h.name+":0"))
	select {
	case l.conns <- theirs:
		return mine, nil
	case <-l.done:
		return nil, fmt.Errorf("memnet: %s: connection refused", address)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type listener struct {
	net     *Net
	address string
	conns   chan net.Conn
	once    sync.Once
	done    chan struct{}
}

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends the listener; it is no error to close it twice.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, l.address)
		close(l.done)
	})
	return nil
}

// Addr is the address listened on.
func (l *listener) Addr() net.Addr { return addr(l.address) }

var errTimeout = os.ErrDeadlineExceeded
