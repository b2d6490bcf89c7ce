package spm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// session is one epoch of serving. It ends by Stop or by fail, never restarts.
type session struct {
	r     *Role
	epoch uint64
	guard blockdev.Guard
	dom   Domain
	w     Writer
	box   *outbox

	// ctx ends when the session may not write any more; requests in flight carry it.
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the session's goroutines

	// disk is read-held from before a change on disk until its mirror entry is queued, and held by whoever needs
	// the list of volumes and the queue to agree.
	disk sync.RWMutex

	// mu guards the gate and the doubt.
	mu       sync.Mutex
	shut     bool          // no new requests
	inFlight int           // requests let in
	idle     chan struct{} // closed when shut and inFlight is 0
	doubt    chan struct{} // not nil while the disk must be read again; closed when it was
}

// newSession makes a session and starts its outbox, which the reconcile needs.
func newSession(r *Role, epoch uint64, g blockdev.Guard, dom Domain, w Writer) *session {
	s := &session{r: r, epoch: epoch, guard: g, dom: dom, w: w, idle: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.box = newOutbox(r.cfg.Mirror, dom.Info().UUID, s.snapshot, r.cfg.Log)
	s.wg.Go(func() { s.box.run(s.ctx) })
	return s
}

// run starts watching the lease.
func (s *session) run() {
	s.wg.Go(s.watch)
	s.wg.Go(s.describe)
}

// describe keeps the sizes in the mirror up to date, at most once in DescribeEvery, and only when something changed.
func (s *session) describe() {
	tick := time.NewTicker(s.r.cfg.DescribeEvery)
	defer tick.Stop()
	last := s.dom.Info().Seqno
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			if info := s.dom.Info(); info.Seqno != last {
				last = info.Seqno
				s.box.describe(s.epoch, s.w.Seq(), info)
			}
		}
	}
}

// watch ends the session the moment the guard says no or the keeper is gone.
func (s *session) watch() {
	tick := time.NewTicker(s.r.cfg.GuardPoll)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.r.cfg.Lease.Done():
			s.fail("the lease keeper is gone")
			return
		case <-tick.C:
			if err := s.guard.Check(0); err != nil {
				s.fail("the guard refuses: " + err.Error())
				return
			}
		}
	}
}

// reconcile queues the truth and waits a little for Raft to take it. Without a quorum serving does not wait.
func (s *session) reconcile() {
	s.disk.Lock()
	info := s.dom.Info()
	s.box.describe(s.epoch, s.w.Seq(), info)
	res := s.box.replace()
	s.box.serving(s.epoch, info)
	s.disk.Unlock()
	t := time.NewTimer(s.r.cfg.ReconcileWait)
	defer t.Stop()
	select {
	case <-res:
	case <-t.C:
		s.r.cfg.Log.Warn("serving before the mirror is reconciled", "epoch", s.epoch)
	}
}

// snapshot is the truth about the domain, for a reconcile.
func (s *session) snapshot() truth {
	return truth{epoch: s.epoch, seq: s.w.Seq(), vols: s.dom.Volumes()}
}

// enter lets a request in, or says why not. It waits while the disk is being read again.
func (s *session) enter(ctx context.Context) error {
	for {
		s.mu.Lock()
		switch {
		case s.shut:
			s.mu.Unlock()
			return s.r.notSPM("the role is being given up")
		case s.doubt == nil:
			s.inFlight++
			s.mu.Unlock()
			return nil
		}
		doubt := s.doubt
		s.mu.Unlock()
		select {
		case <-doubt:
		case <-s.ctx.Done():
		case <-ctx.Done():
			return fmt.Errorf("a write had no known outcome and the disk is being read again: %w", ErrBusy)
		}
	}
}

// leave lets a request out.
func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	s.checkIdle()
}

// close refuses new requests; idle is closed when the last one is out.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shut {
		s.shut = true
		s.checkIdle()
	}
}

// checkIdle closes idle once. Caller holds mu.
func (s *session) checkIdle() {
	if !s.shut || s.inFlight > 0 {
		return
	}
	select {
	case <-s.idle:
	default:
		close(s.idle)
	}
}

// bind returns ctx ended also by the session.
func (s *session) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}
