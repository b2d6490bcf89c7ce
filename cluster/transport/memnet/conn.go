package memnet

import (
	"bytes"
	"io"
	"net"
	"sync"
	"time"
)

// stream is one direction of a connection.
type stream struct {
	mu      sync.Mutex // guards the fields below
	buf     bytes.Buffer
	closed  bool
	changed chan struct{}
}

func newStream() *stream { return &stream{changed: make(chan struct{})} }

func (s *stream) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// take reads what is there; n is 0 and changed tells when to look again when there is nothing.
func (s *stream) take(p []byte) (n int, closed bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buf.Len() > 0 {
		n, _ = s.buf.Read(p) // a buffer that is not empty reads without error
	}
	return n, s.closed, s.changed
}

type conn struct {
	in, out       *stream
	link          func() (bool, <-chan struct{})
	local, remote net.Addr
	read, write   deadline
}

func newConn(in, out *stream, link func() (bool, <-chan struct{}), local, remote net.Addr) *conn {
	c := &conn{in: in, out: out, link: link, local: local, remote: remote}
	c.read.over, c.write.over = make(chan struct{}), make(chan struct{})
	return c
}

// Read waits for data, the end, the deadline, or for the cut to end.
func (c *conn) Read(p []byte) (int, error) {
	for {
		over := c.read.wait()
		select {
		case <-over:
			return 0, errTimeout
		default:
		}
		passes, linkChanged := c.link()
		var changed <-chan struct{}
		if passes {
			n, closed, ch := c.in.take(p)
			switch {
			case n > 0:
				return n, nil
			case closed:
				return 0, io.EOF
			}
			changed = ch
		} else if c.closedHere() {
			return 0, net.ErrClosed
		} else {
			changed = c.in.changes()
		}
		select {
		case <-changed:
		case <-linkChanged:
		case <-over:
			// look again: the deadline may only have moved
		}
	}
}

func (s *stream) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// closedHere says whether this side closed the connection.
func (c *conn) closedHere() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.closed
}

// Write never blocks; what is written while the link is cut waits in the buffer.
func (c *conn) Write(p []byte) (int, error) {
	select {
	case <-c.write.wait():
		return 0, errTimeout
	default:
	}
	if c.closedHere() {
		return 0, net.ErrClosed
	}
	var n int
	c.out.update(func() { n, _ = c.out.buf.Write(p) }) // a Buffer's Write never fails
	return n, nil
}

// Close ends both directions.
func (c *conn) Close() error {
	c.out.update(func() { c.out.closed = true })
	c.in.update(func() { c.in.closed = true })
	c.read.set(time.Time{})
	c.write.set(time.Time{})
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	c.read.set(t)
	c.write.set(t)
	return nil
}

// SetReadDeadline bounds Read.
func (c *conn) SetReadDeadline(t time.Time) error { c.read.set(t); return nil }

// SetWriteDeadline bounds Write.
func (c *conn) SetWriteDeadline(t time.Time) error { c.write.set(t); return nil }

// deadline is a time that can be moved while somebody waits for it.
type deadline struct {
	mu    sync.Mutex // guards the fields below
	timer *time.Timer
	over  chan struct{}
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	select {
	case <-d.over:
		d.over = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	over := d.over
	expire := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.over == over {
			select {
			case <-over:
			default:
				close(over)
			}
		}
	}
	left := time.Until(t)
	if left <= 0 {
		close(over)
		return
	}
	d.timer = time.AfterFunc(left, expire)
}
