package blockdev

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

type syscallConn = syscall.RawConn

// nbdConn is one connection in the transmission phase. Callers write their requests themselves, one at a time; one
// goroutine reads the replies.
type nbdConn struct {
	d       *nbd
	sock    net.Conn
	sending chan struct{} // one token: held while a request is written

	mu    sync.Mutex // guards the fields below
	calls map[uint64]*nbdCall
	last  uint64 // handles count up and are never used twice
	err   error  // why the connection broke
}

// nbdCall is a request that has no reply yet. It stays in the table after its caller left, so that the reply, should
// it ever come, is recognised and thrown away.
type nbdCall struct {
	op        string
	buf       []byte // takes the data of a read
	deadline  time.Time
	done      chan error // one result, for a caller that still waits
	abandoned bool       // guarded by nbdConn.mu
}

// newNBDConn starts the reader.
func newNBDConn(d *nbd, sock net.Conn) *nbdConn {
	c := &nbdConn{d: d, sock: sock, sending: make(chan struct{}, 1), calls: map[uint64]*nbdCall{}}
	d.conns.Add(1)
	go func() {
		defer d.conns.Done()
		c.fail(c.read())
	}()
	return c
}

// broken tells whether the connection is of no use any more.
func (c *nbdConn) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}

// add enters a call into the table.
func (c *nbdConn) add(call *nbdCall) (handle uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, fmt.Errorf("%w: %w", ErrGone, c.err)
	}
	c.last++
	c.calls[c.last] = call
	return c.last, nil
}

// take removes a call from the table; false when the reader or a broken connection was faster.
func (c *nbdConn) take(handle uint64) (*nbdCall, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call, ok := c.calls[handle]
	delete(c.calls, handle)
	return call, ok
}

// send enters a request into the table and writes it, both while it holds the token, so that the table has only calls
// of which the server may know. With sent false nothing was written and the call surely did not happen. A request of
// which a part was written leaves the stream useless: the connection breaks, and the call ends with it.
func (c *nbdConn) send(ctx context.Context, call *nbdCall, cmd uint16, p []byte, off, n int64) (handle uint64, sent bool, err error) {
	select {
	case c.sending <- struct{}{}:
	case <-ctx.Done():
		return 0, false, notSubmitted(ctx)
	}
	defer func() { <-c.sending }()
	if err := submit(ctx, call.op); err != nil {
		return 0, false, err
	}
	if handle, err = c.add(call); err != nil {
		return 0, false, err
	}
	var head [nbdRequestSize]byte
	nbdRequest(&head, cmd, handle, off, n)
	written, err := c.write(ctx, head[:], p)
	if err == nil {
		return handle, true, nil
	}
	if written == 0 {
		c.take(handle)
	}
	if written > 0 || ctx.Err() == nil {
		c.fail(fmt.Errorf("send: %w", err))
	}
	switch {
	case written > 0:
		return handle, true, nil // the result comes from fail
	case ctx.Err() != nil:
		return 0, false, notSubmitted(ctx)
	}
	return 0, false, fmt.Errorf("%w: %w", ErrGone, err)
}

// write sends head and p and stops when ctx ends; caller holds the sending token.
func (c *nbdConn) write(ctx context.Context, head, p []byte) (int64, error) {
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(fired)
		_ = c.sock.SetWriteDeadline(time.Unix(1, 0)) // fails only on a closed socket, as the write then does
	})
	bufs := net.Buffers{head}
	if len(p) > 0 {
		bufs = append(bufs, p)
	}
	n, err := bufs.WriteTo(c.sock)
	if !stop() {
		<-fired
		_ = c.sock.SetWriteDeadline(time.Time{})
	}
	return n, err
}

// read takes replies until the connection ends.
func (c *nbdConn) read() error {
	var head [nbdReplySize]byte
	r := bufio.NewReaderSize(c.sock, 32<<10)
	for {
		handle, errno, err := nbdReply(r, &head)
		if err != nil {
			return err
		}
		c.mu.Lock()
		call, ok := c.calls[handle]
		c.mu.Unlock()
		if !ok {
			return fmt.Errorf("%w: reply to handle %d, which is not in use", errNBD, handle)
		}
		var result error
		if errno != 0 {
			result = nbdErrno(errno)
		} else if call.op == opRead {
			// The call stays in the table meanwhile, so its buffer stays ours.
			if _, err := io.ReadFull(r, call.buf); err != nil {
				return err
			}
		}
		if call, ok := c.take(handle); ok {
			c.end(call, result)
		}
	}
}

// end gives the result to the caller, or cleans up behind one that left.
func (c *nbdConn) end(call *nbdCall, result error) {
	c.mu.Lock()
	abandoned := call.abandoned
	c.mu.Unlock()
	if !abandoned {
		call.done <- result
		return
	}
	c.d.buffers.put(call.buf)
	c.d.flight.pending.Add(-1)
	c.d.flight.leave()
}

// leave is called by a caller whose time is over. It returns false when the result came in the last moment.
func (c *nbdConn) leave(handle uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	call, ok := c.calls[handle]
	if !ok {
		return false
	}
	call.abandoned = true
	c.d.flight.pending.Add(1)
	return true
}

// fail breaks the connection: all that is outstanding ends, mutations with unknown outcome.
func (c *nbdConn) fail(why error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = fmt.Errorf("connection lost: %w", why)
	calls := c.calls
	c.calls = map[uint64]*nbdCall{}
	c.mu.Unlock()
	c.sock.Close()
	for _, call := range calls {
		c.lost(call)
	}
}

// lost ends one call of a broken connection.
func (c *nbdConn) lost(call *nbdCall) {
	if !mutates(call.op) {
		c.end(call, fmt.Errorf("%w: %w", ErrGone, c.err))
		return
	}
	if call.op != opFlush {
		until := time.Now().Add(c.d.o.IOTimeout)
		if call.deadline.After(until) {
			until = call.deadline
		}
		c.d.lose(until)
	}
	c.end(call, fmt.Errorf("%w: %w: %w", ErrOutcomeUnknown, ErrGone, c.err))
}

// errClosed is why calls under way at Close end.
var errClosed = errors.New("closed")

// goodbye tells the server that the client leaves, if that goes without waiting, and breaks the connection.
func (c *nbdConn) goodbye() {
	select {
	case c.sending <- struct{}{}:
		var head [nbdRequestSize]byte
		nbdRequest(&head, nbdCmdDisc, 0, 0, 0)
		if c.sock.SetWriteDeadline(time.Now().Add(100*time.Millisecond)) == nil {
			_, _ = c.sock.Write(head[:]) // a courtesy: closing says the same
		}
		<-c.sending
	default:
	}
	c.fail(errClosed)
}
