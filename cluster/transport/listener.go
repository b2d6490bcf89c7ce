package transport

import (
	"crypto/tls"
	"net"
	"sync"
)

// queue is a net.Listener that is fed with connections which the mux sorted.
type queue struct {
	addr  net.Addr
	conns chan *tls.Conn
	once  sync.Once
	done  chan struct{}
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan *tls.Conn), done: make(chan struct{})}
}

// push hands a connection to whoever accepts next; the connection is closed when nobody ever will.
func (q *queue) push(c *tls.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		_ = c.Close()
	}
}

// Accept waits for the next connection.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends every Accept.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr is the address of the one listener behind all queues.
func (q *queue) Addr() net.Addr { return q.addr }
