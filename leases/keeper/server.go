package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases/internal/plant"
	"github.com/holdfast-io/holdfast/leases/watchdog"
)

// Opener opens a device; blockdev.Open outside tests.
type Opener func(ctx context.Context, uri string, o blockdev.Options) (blockdev.Device, error)

const maxRequests = 64

// server is the keeper's inside: lockspaces, leases, and the connection to the agent.
type server struct {
	log   *slog.Logger
	page  *page
	open  Opener
	cut   Cut // nil: there is none
	clock clock.Clock
	conn  net.Conn
	bugs  plant.Bugs              // planted by tests
	rand  func(string) *rand.Rand // a source for one lockspace or lease by name; nil: the global one

	// base ends when no request may go on: the agent is gone or the keeper is about to end.
	base   context.Context
	cancel context.CancelFunc
	calls  sync.WaitGroup
	slots  chan struct{}
	stop   chan struct{} // closed by the shutdown request
	once   sync.Once

	killAgent func()        // ends the agent by force
	agentFD   atomic.Int64  // pidfd of the agent that killAgent means
	door      *door         // where the next agent comes in; nil: none can
	handed    chan struct{} // has one place: the agent handed over what stays
	dog       *watchdog.Watchdog

	watches sync.WaitGroup // of the requests for leases; they end with the leases

	writing sync.Mutex // one frame at a time on conn

	mu      sync.Mutex // guards all below; never held over I/O
	halted  bool       // no call may begin
	spaces  map[string]*space
	wounds  map[chan struct{}]struct{}   // of lost lockspaces, each closed when it has no users any more
	devices map[string]blockdev.Device   // for everything but renewals
	former  []blockdev.Device            // once in devices; leases and lockspaces may still use them
	late    map[string][]blockdev.Device // by lockspace: of former joins, with renewals that may still land
	running map[uint64]context.CancelFunc
	joins   uint64
	lsUsed  [lockspaceSlots]bool
	resUsed [resourceSlots]bool
}

func newServer(log *slog.Logger, p *page, open Opener, conn net.Conn) *server {
	s := &server{log: log, page: p, open: open, clock: clock.System{}, conn: conn, slots: make(chan struct{}, maxRequests),
		stop: make(chan struct{}), handed: make(chan struct{}, 1), spaces: map[string]*space{}, wounds: map[chan struct{}]struct{}{}, devices: map[string]blockdev.Device{}, late: map[string][]blockdev.Device{},
		running: map[uint64]context.CancelFunc{}}
	s.killAgent = func() {}
	s.dog = watchdog.New(watchdog.Config{Spec: watchdog.Spec{Kind: watchdog.None}, Log: log})
	s.base, s.cancel = context.WithCancel(context.Background())
	return s
}

// serve answers requests until the connection breaks. The leases do not depend on it.
func (s *server) serve() {
	in := &fdReader{conn: s.conn}
	defer in.close()
	for {
		var req request
		err := readFrame(in, &req)
		if err == nil {
			req.files, err = in.take(req.FDs)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.log.Warn("connection to the agent is broken; leases stay until it ends", "error", err)
			}
			return
		}
		if req.Method == methodCancel {
			s.cancelCall(req.ID)
			continue
		}
		s.dispatch(req)
	}
}

// dispatch runs one request in its own goroutine.
func (s *server) dispatch(req request) {
	select {
	case s.slots <- struct{}{}:
	case <-s.base.Done():
		closeAll(req.files)
		return
	}
	ctx, cancel := context.WithTimeout(s.base, max(req.Timeout, time.Millisecond))
	begun := s.begin(req.ID, cancel, func() {
		resp := s.handle(ctx, &req)
		s.mu.Lock()
		delete(s.running, req.ID)
		s.mu.Unlock()
		cancel()
		<-s.slots
		s.reply(resp)
		s.farewell(req.Method, resp.Stays)
	})
	if !begun {
		cancel()
		<-s.slots
		closeAll(req.files)
	}
}

// begin runs a call in its own goroutine; false when no call may begin any more.
func (s *server) begin(id uint64, cancel func(), call func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.halted {
		return false
	}
	s.running[id] = cancel
	s.calls.Go(call)
	return true
}

// halt stops all calls and returns when none is under way; none begins after it until take.
func (s *server) halt() {
	s.mu.Lock()
	s.halted = true
	s.mu.Unlock()
	s.cancel()
	s.calls.Wait()
}

func (s *server) cancelCall(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.running[id]; cancel != nil {
		cancel()
	}
}

// reply sends a response; an agent that does not read cannot hold the keeper up for long.
func (s *server) reply(resp *response) {
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if err := writeFrame(s.conn, resp); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("answering the agent failed", "error", err)
	}
}

// handle carries out one request. A panic in here must not take the leases along.
func (s *server) handle(ctx context.Context, req *request) (resp *response) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("request panicked", "method", req.Method, "panic", p)
			resp = &response{ID: req.ID, Error: toWire(fmt.Errorf("keeper: %s panicked: %v", req.Method, p))}
		}
	}()
	resp = &response{ID: req.ID}
	resp.Error = toWire(s.route(ctx, req, resp))
	return resp
}

// route finds the method.
func (s *server) route(ctx context.Context, req *request, resp *response) error {
	switch req.Method {
	case methodHello:
		resp.PID = os.Getpid()
		return nil
	case methodStatus:
		resp.Protection = new(s.dog.Protection())
		return nil
	case methodJoin:
		return s.join(ctx, req.Lockspace, resp)
	case methodLeave:
		return s.leaveOrLose(ctx, req.Name)
	case methodAcquire:
		return s.acquire(ctx, req.Resource, req.files, resp)
	case methodRelease:
		return s.release(ctx, req.Resource)
	case methodHosts:
		return s.hosts(req.Name, resp)
	case methodInspect:
		return s.inspect(ctx, req.Resource, resp)
	case methodFreeHost:
		return s.freeHost(ctx, req)
	case methodConvert:
		return s.convert(ctx, req.Resource, resp)
	case methodRequest, methodClearRequest:
		return s.request(ctx, req, resp)
	case methodSendEvent:
		return s.sendEvent(ctx, req)
	case methodGetLVB, methodSetLVB:
		return s.lvb(req, resp)
	case methodLeaveIdle:
		return s.leaveIdle(ctx, req.Name)
	case methodHeld:
		return s.listHeld(req.Name, resp)
	case methodConfirm:
		return s.confirm(req.Name)
	case methodDestroy:
		return s.destroy(ctx, req.Resource)
	case methodReadHost:
		return s.readHost(ctx, req, resp)
	case methodFreeSeen:
		return s.freeRecord(ctx, req)
	case methodShutdown:
		return s.releaseAll(ctx, false, false)
	case methodHandOver:
		err := s.releaseAll(ctx, false, true)
		resp.Stays = s.stays()
		return err
	}
	return fmt.Errorf("%w: method %q", ErrInvalid, req.Method)
}

// device opens uri for everything but renewals, once.
func (s *server) device(ctx context.Context, uri string, n time.Duration) (blockdev.Device, error) {
	s.mu.Lock()
	d := s.devices[uri]
	s.mu.Unlock()
	if d != nil {
		return d, nil
	}
	octx, cancel := context.WithTimeout(ctx, n)
	defer cancel()
	d, err := s.open(octx, uri, blockdev.Options{IOTimeout: n})
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", uri, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.devices[uri]; have != nil {
		_ = d.Close()
		return have, nil
	}
	s.devices[uri] = d
	return d, nil
}
