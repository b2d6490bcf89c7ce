package export

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// handshakeTime is how long a client may take to agree on the export.
	handshakeTime = 10 * time.Second
	// stallTime is how long a client may take to send the data of a write that it began, or to take a reply. A client
	// whose process is stopped for so long loses its connection; idle ones never do.
	stallTime = 5 * time.Minute
	// maxRequests bounds the requests of one connection that are under way.
	maxRequests = 32
	readAhead   = 16 << 10
)

// temporary tells whether taking in the next client may go better.
func temporary(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) ||
		errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ECONNABORTED)
}

// conn is one client. One goroutine reads requests; each request has one more, which sends the reply too.
type conn struct {
	s     *Server
	sock  net.Conn
	r     *bufio.Reader
	shake handshake
	slots chan struct{} // one token for each request under way
	room  room
	work  sync.WaitGroup
	// flushes is how many failed flushes the client has heard of; it starts with none, for it may be one that came back.
	flushes atomic.Uint64

	reading context.Context // ends when no more requests are taken
	stop    context.CancelFunc

	sending sync.Mutex // held while a reply is written

	mu   sync.Mutex // guards left, and read deadlines against it
	left bool
}

func newConn(s *Server, sock net.Conn) *conn {
	c := &conn{s: s, sock: sock, r: bufio.NewReaderSize(sock, readAhead), slots: make(chan struct{}, maxRequests)}
	c.shake = handshake{r: c.r, w: sock, offer: s.offer()}
	c.room = room{limit: maxPerConn, freed: make(chan struct{}, 1)}
	c.reading, c.stop = context.WithCancel(context.Background())
	return c
}

// close breaks the connection. It may be called often.
func (c *conn) close() {
	c.stop()
	_ = c.sock.Close() // nobody could do anything about it
}

// leave takes no more requests; those under way are answered.
func (c *conn) leave() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
	_ = c.sock.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed socket
}

// patience sets how long the client may be silent; 0 is for ever.
func (c *conn) patience(d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return ErrDetached
	}
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	return c.sock.SetReadDeadline(until)
}

// serve carries the connection from its greeting to its end.
func (c *conn) serve() {
	defer c.close()
	err := c.negotiate()
	for err == nil {
		err = c.next()
	}
	c.work.Wait()
	if errors.Is(err, errProtocol) {
		c.s.c.Log.Warn("client dropped", "export", c.s.c.Name, "error", err)
	}
}

func (c *conn) negotiate() error {
	if err := c.patience(handshakeTime); err != nil {
		return err
	}
	if err := c.sock.SetWriteDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	return c.shake.run()
}

// next takes one request in. An error ends the connection.
func (c *conn) next() error {
	if err := c.patience(0); err != nil {
		return err
	}
	var b [requestSize]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return err
	}
	q, err := decodeRequest(&b)
	if err != nil {
		return err
	}
	if q.cmd == cmdDisconnect {
		return errLeft
	}
	select {
	case c.slots <- struct{}{}:
	case <-c.reading.Done():
		return ErrDetached
	}
	buf, errno, err := c.payload(q)
	if err != nil {
		<-c.slots
		return err
	}
	c.work.Go(func() {
		defer func() { <-c.slots }()
		c.carryOut(q, buf, errno)
	})
	return nil
}

// payload makes room for the data of a request and reads that of a write. An errno means that the request is refused
// and its data was thrown away.
func (c *conn) payload(q request) (buf []byte, errno uint32, err error) {
	if errno = c.refuses(q); q.cmd != cmdWrite {
		if errno != 0 || q.cmd != cmdRead {
			return nil, errno, nil
		}
		buf, err = c.buffer(int(q.n))
		return buf, 0, err
	}
	if q.n > maxPayload {
		return nil, 0, fmt.Errorf("%w: write of %d bytes: at most %d are said to be possible", errProtocol, q.n, maxRequest)
	}
	if err := c.patience(stallTime); err != nil {
		return nil, 0, err
	}
	if errno != 0 {
		_, err = io.CopyN(io.Discard, c.r, int64(q.n))
		return nil, errno, err
	}
	if buf, err = c.buffer(int(q.n)); err != nil {
		return nil, 0, err
	}
	if _, err = io.ReadFull(c.r, buf); err != nil {
		c.free(buf)
		return nil, 0, err
	}
	return buf, 0, nil
}

// buffer waits for the connection's room and then for the server's.
func (c *conn) buffer(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if err := c.room.take(c.reading, bufferSize(n)); err != nil {
		return nil, err
	}
	b, err := c.s.mem.get(c.reading, n)
	if err != nil {
		c.room.give(bufferSize(n))
	}
	return b, err
}

// free gives a buffer back; nil is none.
func (c *conn) free(b []byte) {
	if b == nil {
		return
	}
	n := cap(b)
	c.s.mem.put(b)
	c.room.give(n)
}

// send writes one reply in one go. A client that does not take it loses the connection.
func (c *conn) send(parts ...[]byte) {
	c.sending.Lock()
	defer c.sending.Unlock()
	err := c.sock.SetWriteDeadline(time.Now().Add(stallTime))
	if err == nil {
		bufs := net.Buffers(parts)
		_, err = bufs.WriteTo(c.sock)
	}
	if err != nil {
		c.close()
	}
}

// room bounds the bytes of one connection's buffers. Only its reader takes.
type room struct {
	limit int
	freed chan struct{} // a token when something was given back

	mu   sync.Mutex // guards used
	used int
}

func (r *room) take(ctx context.Context, n int) error {
	for {
		r.mu.Lock()
		if r.used+n <= r.limit {
			r.used += n
			r.mu.Unlock()
			return nil
		}
		r.mu.Unlock()
		select {
		case <-r.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *room) give(n int) {
	r.mu.Lock()
	r.used -= n
	r.mu.Unlock()
	select {
	case r.freed <- struct{}{}:
	default:
	}
}
