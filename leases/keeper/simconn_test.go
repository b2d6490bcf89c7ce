package keeper

import (
	"io"
	"net"
	"sync"
	"time"
)

// simConn is one end of a connection between two processes of a machine. Writing never blocks: others may be waiting
// for the mutex that a writer holds, and a bubble's time stands still meanwhile.
type simConn struct {
	proc *simProc
	in   *simQueue
	out  *simQueue
}

// simQueue is one direction.
type simQueue struct {
	mu     sync.Mutex // guards all below
	buf    []byte
	closed bool
	ready  chan struct{}
	seed   uint64
	sent   uint64
	last   time.Time // when what was sent last arrives
}

func newSimQueue(seed uint64) *simQueue {
	return &simQueue{ready: make(chan struct{}, 1), seed: seed}
}

// newSimConns joins two processes.
func newSimConns(a, b *simProc, seed uint64) (net.Conn, net.Conn) {
	x, y := newSimQueue(mix(seed, 1)), newSimQueue(mix(seed, 2))
	return &simConn{a, x, y}, &simConn{b, y, x}
}

func (q *simQueue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// send lets b arrive a little later, after all that was sent before.
func (q *simQueue) send(b []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sent++
	at := time.Now().Add(upTo(mix(q.seed, q.sent), 10*time.Microsecond, 120*time.Microsecond))
	if !at.After(q.last) {
		at = q.last.Add(1)
	}
	q.last = at
	time.AfterFunc(time.Until(at), func() {
		q.mu.Lock()
		q.buf = append(q.buf, b...)
		q.mu.Unlock()
		q.signal()
	})
}

func (q *simQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// take copies what has arrived.
func (q *simQueue) take(b []byte) (int, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := copy(b, q.buf)
	q.buf = q.buf[n:]
	return n, q.closed
}

func (c *simConn) Read(b []byte) (int, error) {
	for {
		if err := c.proc.gate(); err != nil {
			return 0, io.EOF
		}
		n, closed := c.in.take(b)
		if n > 0 {
			return n, nil
		}
		if closed {
			c.in.signal() // for the next reader
			return 0, net.ErrClosed
		}
		<-c.in.ready
	}
}

func (c *simConn) Write(b []byte) (int, error) {
	own := append([]byte(nil), b...)
	c.proc.say(func() { c.out.send(own) })
	return len(b), nil
}

// Close ends both directions, as the end of a process does.
func (c *simConn) Close() error {
	c.in.close()
	c.out.close()
	return nil
}

func (c *simConn) LocalAddr() net.Addr              { return nil }
func (c *simConn) RemoteAddr() net.Addr             { return nil }
func (c *simConn) SetDeadline(time.Time) error      { return nil }
func (c *simConn) SetReadDeadline(time.Time) error  { return nil }
func (c *simConn) SetWriteDeadline(time.Time) error { return nil }
