package spm

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/mailbox"
)

// session is one epoch of serving: the master domain and, as they can be had, the others. It ends by Stop or by fail,
// never restarts.
type session struct {
	r      *Role
	epoch  uint64
	guard  blockdev.Guard
	lease  Lease
	former *formerLease // of the last master, after a change; nil: none
	moving sync.Mutex   // held while the master changes, and while its mark is taken away
	master *served
	names  *names
	// version is that of the master which the session began under; a newer one in the mirror ends it. Set before run.
	version int

	// ctx ends when the session may not write any more; requests in flight carry it.
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the session's own goroutines
	// asking ends before the gates are shut: who asks through the storage is answered, or left to the next SPM.
	asking    context.Context
	askNoMore context.CancelFunc
	mail      atomic.Pointer[mailbox.Server] // nil until it serves

	// mu guards the other domains.
	mu     sync.Mutex
	shut   bool // no new requests, no further domains
	others map[string]*standing
	// held are the generations of our host id by domain, under which it has been held in the lockspace since the cluster was known to
	// have our master. Who gives that up must find us dead in all of them.
	held  map[string]uint64
	bases map[string]uint64 // what this epoch's writers of a domain that was given up had counted to
	news  chan struct{}     // closed and replaced when a standing changes
}

// newSession makes a session with the master domain and starts its outbox, which the reconcile needs.
func newSession(r *Role, epoch uint64, g blockdev.Guard, lease Lease, dom Domain, w Writer) *session {
	s := &session{r: r, epoch: epoch, guard: g, lease: lease, names: newNames(), others: map[string]*standing{}, held: map[string]uint64{}, bases: map[string]uint64{}, news: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.asking, s.askNoMore = context.WithCancel(s.ctx)
	s.master = newServed(s, dom.Info(), dom, w, g, 0)
	return s
}

// run starts watching the lease and opening the other domains.
func (s *session) run() {
	s.wg.Go(s.watch)
	s.master.run()
	if s.r.cfg.Mailbox != nil {
		s.wg.Go(s.serveMailbox)
	}
	if s.r.cfg.Others != nil {
		s.wg.Go(s.follow)
	}
	if s.r.cfg.Masters != nil {
		s.wg.Go(s.keepMembers)
	}
	if s.former != nil {
		s.wg.Go(s.letFormerGo)
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
		case <-s.lease.Done():
			s.fail("the lease keeper is gone")
			return
		case <-tick.C:
			if err := s.guard.Check(0); err != nil {
				s.fail("the guard refuses: " + err.Error())
				return
			}
			if v := s.outranked(); v > 0 {
				s.fail(fmt.Sprintf("the pool has had another master since version %d; this one was of version %d", v, s.version))
				return
			}
			s.watchOthers()
		}
	}
}

// outranked is the version of a master that came after ours without us, or 0: ours was given up for lost while we could not be reached.
// Its lease is ours still, and is not what the others are guided by any more.
func (s *session) outranked() int {
	if s.r.cfg.Masters == nil {
		return 0
	}
	if v := s.r.cfg.Masters.Version(); v > s.version {
		return v
	}
	return 0
}

// watchOthers ends serving a domain in whose lockspace our host id is not held any more.
func (s *session) watchOthers() {
	for _, d := range s.domains()[1:] {
		if err := d.guard.Check(0); err != nil && s.guard.Check(0) == nil {
			d.fail("the guard refuses: " + err.Error())
		}
	}
}

// reconcile queues the truth about the master and the record of who serves, and waits a little for Raft to take it.
// Without a quorum serving does not wait.
func (s *session) reconcile() {
	res := s.master.reconcile()
	s.master.box.serving(s.epoch, s.master.dom.Info())
	t := time.NewTimer(s.r.cfg.ReconcileWait)
	defer t.Stop()
	select {
	case <-res:
	case <-t.C:
		s.r.cfg.Log.Warn("serving before the mirror is reconciled", "epoch", s.epoch)
	}
}

// close refuses new requests and further domains.
func (s *session) close() {
	s.askNoMore()
	s.mu.Lock()
	s.shut = true
	s.mu.Unlock()
	for _, d := range s.domains() {
		d.close()
	}
}

// domains returns what is being served, the master first.
func (s *session) domains() []*served {
	list := []*served{s.master}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.others {
		if st.domain != nil {
			list = append(list, st.domain)
		}
	}
	return list
}

// unserved are the domains that could not be served when that was tried last, with the reason; nil: none.
func (s *session) unserved() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out map[string]string
	for id, st := range s.others {
		if st.domain == nil && st.err != nil {
			if out == nil {
				out = map[string]string{}
			}
			out[id] = st.err.Error()
		}
	}
	return out
}

// backlog is the number of mirror entries that Raft has not taken.
func (s *session) backlog() int {
	n := 0
	for _, d := range s.domains() {
		n += d.box.backlog()
	}
	return n
}

// bind returns ctx ended also by until.
func bind(ctx, until context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(until, func() { cancel(context.Cause(until)) })
	return ctx, func() { stop(); cancel(nil) }
}
