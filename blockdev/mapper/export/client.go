package export

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ErrNoProcess says that no process answers on the control socket: the export is gone, or was never there. Start it
// again; what was acknowledged and flushed is on the devices.
var ErrNoProcess = errors.New("the export's process does not answer")

// Client steers an export that lives in a process of its own. It is safe for concurrent use. Any number of clients may
// come and go; the export does not depend on them.
type Client struct {
	sock net.Conn
	done chan struct{} // closed when the reader is gone

	sending sync.Mutex // held while a call is written

	mu    sync.Mutex // guards the fields below
	last  uint64
	calls map[uint64]chan answer
	err   error // why the connection is of no use
}

// Dial connects to the control socket at path and returns what the process says about itself.
func Dial(ctx context.Context, path string) (*Client, Hello, error) {
	var d net.Dialer
	sock, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, Hello{}, fmt.Errorf("%w: %w", ErrNoProcess, err)
	}
	c := &Client{sock: sock, done: make(chan struct{}), calls: map[uint64]chan answer{}}
	go c.read()
	a, err := c.call(ctx, call{Method: methodHello})
	if err == nil && (a.Hello == nil || a.Hello.Version != protocolVersion) {
		err = fmt.Errorf("%w: the process speaks another version", errFrame)
	}
	if err != nil {
		return nil, Hello{}, errors.Join(err, c.Close())
	}
	return c, *a.Hello, nil
}

// Status asks for the state.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return c.status(ctx, call{Method: methodStatus})
}

// Watch returns the state as soon as its Seq is not seq; see Server.Watch.
func (c *Client) Watch(ctx context.Context, seq uint64) (Status, error) {
	return c.status(ctx, call{Method: methodWatch, Seq: seq})
}

// Grow hands over the whole new mapping; see Server.Grow. The state shows what came of it.
func (c *Client) Grow(ctx context.Context, segs []SegmentSpec) (Status, error) {
	return c.status(ctx, call{Method: methodGrow, Segments: segs})
}

// Detach ends the export in order within ctx, and with it the process.
func (c *Client) Detach(ctx context.Context) (Status, error) {
	return c.status(ctx, call{Method: methodDetach})
}

// Close leaves the process alone.
func (c *Client) Close() error {
	err := c.sock.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (c *Client) status(ctx context.Context, q call) (Status, error) {
	a, err := c.call(ctx, q)
	if a.Status == nil {
		return Status{}, errors.Join(err, errNoStatus(err))
	}
	return *a.Status, err
}

// errNoStatus is the error of an answer that has neither state nor error.
func errNoStatus(err error) error {
	if err != nil {
		return nil
	}
	return fmt.Errorf("%w: answer without a state", errFrame)
}

// call sends one call and waits for its answer. The other side gets the caller's time, less a little for the way back.
func (c *Client) call(ctx context.Context, q call) (answer, error) {
	wait := maxWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	q.TimeoutMS = max(1, (wait - wait/50).Milliseconds())
	ch, err := c.enter(&q)
	if err != nil {
		return answer{}, err
	}
	defer c.forget(q.ID)
	if err := c.send(ctx, &q); err != nil {
		return answer{}, fmt.Errorf("%s: %w: %w", q.Method, ErrNoProcess, err)
	}
	select {
	case a := <-ch:
		return a, a.Error.fromWire()
	case <-c.done:
	case <-ctx.Done():
		return answer{}, fmt.Errorf("%s: no answer from the export's process, it may still be carried out: %w", q.Method, context.Cause(ctx))
	}
	select {
	case a := <-ch: // it came just before the end
		return a, a.Error.fromWire()
	default:
		return answer{}, fmt.Errorf("%s: %w: %w", q.Method, ErrNoProcess, c.why())
	}
}

// enter gives q an id and a place in the table.
func (c *Client) enter(q *call) (chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, fmt.Errorf("%s: %w: %w", q.Method, ErrNoProcess, c.err)
	}
	c.last++
	q.ID = c.last
	ch := make(chan answer, 1)
	c.calls[q.ID] = ch
	return ch, nil
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

func (c *Client) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// send writes one frame within ctx; after a part of one the connection is of no use.
func (c *Client) send(ctx context.Context, q *call) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	deadline, _ := ctx.Deadline() // none is the zero time, which is no deadline for the socket too
	err := c.sock.SetWriteDeadline(deadline)
	if err == nil {
		err = writeFrame(c.sock, q)
	}
	if err != nil {
		_ = c.sock.Close() // the reader sees it and ends all calls
	}
	return err
}

// read gives answers to those who wait for them, until the connection ends.
func (c *Client) read() {
	defer close(c.done)
	for {
		var a answer
		err := readFrame(c.sock, &a)
		c.mu.Lock()
		if err != nil {
			c.err = err
			c.mu.Unlock()
			_ = c.sock.Close() // it is broken, or closed already
			return
		}
		if ch := c.calls[a.ID]; ch != nil {
			ch <- a // one place for one answer
			delete(c.calls, a.ID)
		}
		c.mu.Unlock()
	}
}
