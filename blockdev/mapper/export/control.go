package export

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	maxControllers = 8               // connections to the control socket
	maxCalls       = 16              // calls of one of them that are under way
	controlWrite   = 5 * time.Second // for a client to take an answer
	maxWait        = time.Hour       // of one call
)

// control is the server side of the control socket.
type control struct {
	pr    *process
	ended chan struct{} // closed by end: calls under way are answered, no more are taken

	mu    sync.Mutex    // guards the fields below, and the Add of live against its Wait
	conns []*controller // the oldest first
	gone  bool
	live  sync.WaitGroup
}

func newControl(pr *process) *control {
	return &control{pr: pr, ended: make(chan struct{})}
}

// run takes clients until end, and returns when all are gone.
func (c *control) run(l net.Listener) error {
	stopped := make(chan struct{})
	defer close(stopped)
	var closing sync.WaitGroup
	closing.Go(func() {
		select {
		case <-c.ended:
		case <-stopped:
		}
		_ = l.Close() // no client comes in any more, which is all there is to reach
	})
	err := c.accept(l)
	if err != nil { // the export goes on: guests matter more than being steered
		c.pr.log.Error("control socket is of no use any more; the export goes on", "error", err)
		<-c.ended
	}
	c.live.Wait()
	closing.Wait()
	return err
}

func (c *control) accept(l net.Listener) error {
	for {
		sock, err := l.Accept()
		if err == nil {
			c.serve(sock)
			continue
		}
		select {
		case <-c.ended:
			return nil
		default:
		}
		if !temporary(err) {
			return fmt.Errorf("control socket: %w", err)
		}
		t := time.NewTimer(100 * time.Millisecond)
		select {
		case <-t.C:
		case <-c.ended:
		}
		t.Stop()
	}
}

// end stops the reading on all connections; what was asked before is answered.
func (c *control) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for _, k := range c.conns {
		_ = k.sock.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed socket
	}
	close(c.ended)
}

// serve gives a client a goroutine. When there are too many the oldest goes: connections of agents that hang must not
// lock out the one that came to take over.
func (c *control) serve(sock net.Conn) {
	k := &controller{c: c, sock: sock, slots: make(chan struct{}, maxCalls)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		_ = sock.Close()
		return
	}
	if len(c.conns) == maxControllers {
		_ = c.conns[0].sock.Close() // its own goroutine does the rest
		c.conns = slices.Delete(c.conns, 0, 1)
	}
	c.conns = append(c.conns, k)
	c.live.Add(1)
	go func() {
		defer c.live.Done()
		k.serve()
		c.mu.Lock()
		defer c.mu.Unlock()
		if i := slices.Index(c.conns, k); i >= 0 {
			c.conns = slices.Delete(c.conns, i, i+1)
		}
	}()
}

// controller is one client of the control socket.
type controller struct {
	c       *control
	sock    net.Conn
	slots   chan struct{} // one token for each call under way
	work    sync.WaitGroup
	sending sync.Mutex // held while an answer is written
}

// serve answers calls until the client is gone, and ends those that wait for something then.
func (k *controller) serve() {
	defer k.sock.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		var q call
		if err := readFrame(k.sock, &q); err != nil {
			if errors.Is(err, errFrame) {
				k.c.pr.log.Warn("control client dropped", "error", err)
			}
			select {
			case <-k.c.ended:
			default:
				cancel() // the client is gone: nobody wants the answers
			}
			k.work.Wait()
			return
		}
		select {
		case k.slots <- struct{}{}:
		case <-k.c.ended:
			k.work.Wait()
			return
		}
		k.work.Go(func() {
			defer func() { <-k.slots }()
			k.answer(ctx, q)
		})
	}
}

// answer carries out one call.
func (k *controller) answer(ctx context.Context, q call) {
	wait := min(max(time.Duration(min(q.TimeoutMS, maxWait.Milliseconds()))*time.Millisecond, time.Millisecond), maxWait)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	a := k.c.pr.handle(ctx, q)
	k.sending.Lock()
	defer k.sending.Unlock()
	err := k.sock.SetWriteDeadline(time.Now().Add(controlWrite))
	if err == nil {
		err = writeFrame(k.sock, &a)
	}
	if err != nil {
		_ = k.sock.Close() // a client that takes no answers
	}
}

// handle is what the methods do.
func (pr *process) handle(ctx context.Context, q call) answer {
	a := answer{ID: q.ID}
	var err error
	switch q.Method {
	case methodHello:
		h := pr.hello()
		a.Hello = &h
		return a
	case methodStatus:
	case methodWatch:
		_, err = pr.server.Watch(ctx, q.Seq)
	case methodGrow:
		err = pr.grow(ctx, q.Segments)
	case methodDetach:
		err = pr.detach(ctx)
	default:
		err = fmt.Errorf("%w: method %q is not known", errFrame, q.Method)
	}
	st := pr.server.Status()
	a.Status, a.Error = &st, toWire(err)
	return a
}

// detach ends the export. Once it has begun it goes on although the client leaves, bounded by the caller's time.
func (pr *process) detach(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	return pr.server.Detach(ctx)
}
