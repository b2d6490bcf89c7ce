package lun

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Times of a connection. A client may be silent for as long as it likes once it is in: the LUN does not know when a host
// wants something. The kernel's keepalive notices hosts that are no more.
const (
	handshakeTime = 30 * time.Second
	replyTime     = 5 * time.Minute // a client that is stopped takes no replies and must find its connection when it goes on
)

// maxHeld bounds the bytes of a connection's requests that have no answer yet; more stay in the network.
const maxHeld = 64 << 20

// conn is one connection of a host.
type conn struct {
	p    *Path
	sock net.Conn
	r    *bufio.Reader
	room *semaphore.Weighted
	life context.Context // ends when the connection is dropped
	end  context.CancelFunc

	sending sync.Mutex // guards w
	w       *bufio.Writer
}

func newConn(p *Path, sock net.Conn) *conn {
	c := &conn{p: p, sock: sock, r: bufio.NewReaderSize(sock, 128<<10), w: bufio.NewWriterSize(sock, 64<<10), room: semaphore.NewWeighted(maxHeld)}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

// drop breaks the connection: what is on its way is lost as well. It may be called often.
func (c *conn) drop() {
	if tcp, ok := c.sock.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed socket
	}
	c.close()
}

// close ends the connection; replies on their way still arrive.
func (c *conn) close() {
	c.end()
	_ = c.sock.Close() // it was dropped already, or ends now: nothing can be done about either
}

func (c *conn) alive() bool { return c.life.Err() == nil }

// serve carries a connection from its greeting to its end.
func (c *conn) serve() {
	defer c.p.leave(c)
	select {
	case <-c.p.melted():
	case <-c.life.Done():
		return
	}
	_ = c.sock.SetDeadline(time.Now().Add(handshakeTime)) // fails only on a closed socket, as what follows does
	if err := handshake(c.r, c.w, c.p.l.size); err != nil {
		return // the client's mistake, or a cut
	}
	_ = c.sock.SetDeadline(time.Time{})
	for c.next() {
	}
}

// next serves one request, or tells that there are no more.
func (c *conn) next() bool {
	if c.r.Buffered() < requestSize && c.flush() != nil { // else the replies travel with those of the requests at hand
		return false
	}
	q, err := readRequest(c.r)
	if err != nil || q.cmd == cmdDisc {
		_ = c.flush() // what was answered before; a client that left does not mind
		return false
	}
	if !c.room.TryAcquire(weight(q)) && (c.flush() != nil || c.room.Acquire(c.life, weight(q)) != nil) {
		return false
	}
	if q.cmd == cmdWrite {
		q.data = make([]byte, q.n)
		if _, err := io.ReadFull(c.r, q.data); err != nil {
			return false
		}
		q.sum = checksum(q.data)
	}
	q.c, q.came = c, c.p.l.clock()
	return c.put(c.p.submit(q)) == nil
}

// weight is the room that a request takes.
func weight(q *request) int64 {
	if q.cmd == cmdRead || q.cmd == cmdWrite {
		return max(q.n, preferred)
	}
	return preferred
}

// finished gives back the room of a request.
func (c *conn) finished(q *request) { c.room.Release(weight(q)) }

// put lays a reply ready to be sent; nil is none.
func (c *conn) put(a *reply) error {
	if a == nil {
		return nil
	}
	defer c.finished(a.r)
	var b [16]byte
	binary.BigEndian.PutUint32(b[0:], simpleMagic)
	binary.BigEndian.PutUint32(b[4:], a.errno)
	binary.BigEndian.PutUint64(b[8:], a.r.handle)
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.sock.SetWriteDeadline(time.Now().Add(replyTime)); err != nil {
		return err
	}
	if _, err := c.w.Write(b[:]); err != nil {
		return err
	}
	_, err := c.w.Write(a.data)
	return err
}

// flush sends what lies ready.
func (c *conn) flush() error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.w.Flush()
}

// send answers a request that was not carried out by its connection's own goroutine. A client that has gone is not told.
func (a *reply) send() {
	if a == nil {
		return
	}
	if a.r.c.put(a) != nil || a.r.c.flush() != nil {
		a.r.c.drop()
	}
}
