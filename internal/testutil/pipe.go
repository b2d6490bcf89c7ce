package testutil

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// PipeNet is a network in memory for tests under virtual time: connections are net.Pipe, which has deadlines and no buffer.
type PipeNet struct {
	mu        sync.Mutex // guards listeners
	listeners map[string]*PipeListener
}

// NewPipeNet makes an empty network.
func NewPipeNet() *PipeNet { return &PipeNet{listeners: map[string]*PipeListener{}} }

// Listen listens at an address, which is any name.
func (n *PipeNet) Listen(addr string) *PipeListener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &PipeListener{net: n, addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l
}

// Dial connects to a listener.
func (n *PipeNet) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("nobody listens at %s", addr)}
	if l == nil {
		return nil, refused
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		l.keep(here)
		return here, nil
	case <-l.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// PipeListener is a net.Listener of a PipeNet.
type PipeListener struct {
	net    *PipeNet
	addr   string
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex // guards open
	open []net.Conn
}

func (l *PipeListener) keep(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, c)
}

// Accept implements net.Listener.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections that were made go on.
func (l *PipeListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if l.net.listeners[l.addr] == l {
			delete(l.net.listeners, l.addr)
		}
	})
	return nil
}

// Cut closes the listener and every connection, as the death of a machine would.
func (l *PipeListener) Cut() {
	_ = l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		_ = c.Close()
	}
	l.open = nil
}

// Addr implements net.Listener.
func (l *PipeListener) Addr() net.Addr { return pipeAddr(l.addr) }

type pipeAddr string

// Network implements net.Addr.
func (pipeAddr) Network() string { return "pipe" }

// String implements net.Addr.
func (a pipeAddr) String() string { return string(a) }
