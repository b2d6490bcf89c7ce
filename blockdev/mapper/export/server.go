package export

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// maxConns bounds the clients; QEMU needs one, or a few with multi-conn.
const maxConns = 16

// Server serves one volume to NBD clients.
type Server struct {
	c   Config
	v   *volume
	mem buffers

	detach sync.Once
	ended  chan struct{} // closed when Detach is through
	result error         // of Detach; read after ended

	mu    sync.Mutex // guards conns, and the Add of live against its Wait
	conns map[*conn]struct{}
	gone  bool           // no new connections
	live  sync.WaitGroup // the connections
}

// New makes a server for the volume that segs are, which must not be empty. The devices stay the caller's, and must
// stay open until Run has returned or Detach was called.
func New(c Config, segs []blockdev.Segment) (*Server, error) {
	v, err := newVolume(c, segs)
	if err != nil {
		return nil, fmt.Errorf("export %s: %w", c.Name, err)
	}
	return &Server{c: c, v: v, mem: buffers{limit: maxBuffers}, ended: make(chan struct{}), conns: map[*conn]struct{}{}}, nil
}

// Run serves the clients that come to l, and closes l. It returns when Detach is through; the end of ctx detaches too,
// within the configured time.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	accepted := make(chan error, 1)
	go func() { accepted <- s.accept(l) }()
	var failed error
	select {
	case <-ctx.Done():
	case <-s.v.leaving:
	case failed = <-accepted:
		accepted <- nil
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.c.DetachTimeout)
	defer cancel()
	_ = l.Close() // it may have failed by itself; no client comes in any more
	err := s.Detach(limit)
	if late := <-accepted; !errors.Is(late, net.ErrClosed) { // that it is closed is our own doing
		failed = errors.Join(failed, late)
	}
	<-s.ended // of another caller's Detach, which has a limit of its own
	return errors.Join(failed, err)
}

// accept takes clients in until the listener is closed.
func (s *Server) accept(l net.Listener) error {
	for {
		sock, err := l.Accept()
		if err == nil {
			s.serve(sock)
			continue
		}
		select {
		case <-s.v.leaving:
			return nil
		default:
		}
		if !errors.Is(err, net.ErrClosed) && temporary(err) {
			s.c.Log.Warn("a client could not be taken in", "export", s.c.Name, "error", err)
			s.pause()
			continue
		}
		return fmt.Errorf("export %s: taking clients in: %w", s.c.Name, err)
	}
}

// pause waits a moment for descriptors to become free.
func (s *Server) pause() {
	t := time.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.v.leaving:
	}
}

// serve gives a client a goroutine, or closes it when there are too many or the export ends.
func (s *Server) serve(sock net.Conn) {
	c := newConn(s, sock)
	s.mu.Lock()
	ok := !s.gone && len(s.conns) < maxConns
	if ok {
		s.conns[c] = struct{}{}
		s.live.Add(1)
	}
	s.mu.Unlock()
	if !ok {
		s.c.Log.Warn("client refused: too many, or the export ends", "export", s.c.Name)
		c.close()
		return
	}
	go func() {
		defer s.live.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// offer is what clients are told.
func (s *Server) offer() offer {
	o := offer{name: s.c.Name, size: s.c.MaxBytes}
	o.flags = flagHasFlags | flagFlush | flagFUA | flagTrim | flagWriteZeroes | flagMultiConn
	if s.c.ReadOnly {
		o.flags = flagHasFlags | flagReadOnly | flagFlush | flagMultiConn
	}
	return o
}

// Grow replaces the mapping by segs, which must begin with the present one; clients go on. A mapping that the present
// one begins with is old news, and no error. New devices must stay open as those of New.
func (s *Server) Grow(segs []blockdev.Segment) error {
	select {
	case <-s.v.leaving:
		return fmt.Errorf("export %s: grow: %w", s.c.Name, ErrDetached)
	default:
	}
	if err := s.v.grow(segs); err != nil {
		return fmt.Errorf("export %s: grow: %w", s.c.Name, err)
	}
	return nil
}

// Status is the state at this moment.
func (s *Server) Status() Status {
	st := s.v.status()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Connections, st.Detached = len(s.conns), s.gone
	return st
}

// Watch returns the state as soon as its Seq is not seq, which is at once for 0. It is how space that becomes low is
// seen without polling: call it again with the Seq of the last answer. ErrDetached ends it.
func (s *Server) Watch(ctx context.Context, seq uint64) (Status, error) {
	if err := s.v.space.watch(ctx, seq, s.ended); err != nil {
		return s.Status(), fmt.Errorf("export %s: watch: %w", s.c.Name, err)
	}
	return s.Status(), nil
}

// Detach ends the export in order: no new clients and requests, writes that wait for space fail, what is with the
// devices comes back and is answered, and all is flushed. What is not done when ctx ends is given up, and the error
// says so. With blockdev.ErrOutcomeUnknown among it a write may land later still: the right to write must not be given to
// another host before that is excluded. A second call waits for the first.
func (s *Server) Detach(ctx context.Context) error {
	first := false
	s.detach.Do(func() { first = true })
	if !first {
		select {
		case <-s.ended:
			return s.result
		case <-ctx.Done():
			return fmt.Errorf("export %s: detach is under way: %w", s.c.Name, context.Cause(ctx))
		}
	}
	s.result = s.end(ctx)
	close(s.ended)
	return s.result
}

// end is Detach for the first caller.
func (s *Server) end(ctx context.Context) error {
	s.mu.Lock()
	s.gone = true
	for c := range s.conns {
		c.leave()
	}
	s.mu.Unlock()
	close(s.v.leaving)
	s.v.space.poke()
	drained := s.drain(ctx)
	flushed := s.v.flush(ctx)
	s.v.abort()
	s.mem.close()
	if err := errors.Join(drained, flushed, s.v.outstanding()); err != nil {
		return fmt.Errorf("export %s: detach: %w", s.c.Name, err)
	}
	return nil
}

// drain waits for the connections; when ctx ends it breaks them.
func (s *Server) drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.live.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.v.abort()
	s.mu.Lock()
	n := len(s.conns)
	for c := range s.conns {
		c.close()
	}
	s.mu.Unlock()
	<-done
	return fmt.Errorf("%d connections had requests without an answer, which have an unknown outcome: %w", n, context.Cause(ctx))
}
