package spm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// StopRequest asks this host to give the role up.
type StopRequest struct {
	// Epoch is the epoch that is to end; 0 any. Another one is left alone.
	Epoch  uint64 `json:"epoch"`
	Reason string `json:"reason"`

	hurry bool // nobody can be told over the network: do not wait long for requests and mirror
}

// StopReply tells what the stop found.
type StopReply struct {
	WasServing bool   `json:"was_serving"`
	Epoch      uint64 `json:"epoch"`
	Unmirrored int    `json:"unmirrored"` // entries that Raft had not taken; the next SPM's reconcile brings them
}

// Stop gives the role up: refuse new requests, wait for those in flight, flush the mirror, release the lease. A host
// that is not in the role releases a lease that a crashed start or stop may have left.
func (r *Role) Stop(ctx context.Context, req StopRequest) (StopReply, error) {
	if err := r.take(ctx); err != nil {
		return StopReply{}, err
	}
	defer r.give()
	r.mu.Lock()
	s := r.session
	if s != nil && req.Epoch != 0 && s.epoch != req.Epoch {
		r.mu.Unlock()
		return StopReply{}, fmt.Errorf("serving epoch %d, asked to end %d: %w", s.epoch, req.Epoch, ErrChanged)
	}
	if s != nil {
		r.setLocked(StateStopping, s.epoch, req.Reason)
	}
	r.mu.Unlock()
	if s == nil {
		return StopReply{}, r.releaseLeft(ctx)
	}
	drain, flush := r.cfg.DrainTimeout, r.cfg.FlushTimeout
	if req.hurry {
		drain, flush = min(drain, yieldDrain), min(flush, yieldFlush)
	}
	return r.end(s, req.Reason, drain, flush)
}

// end is the written order. Caller has the turn. More leases are released before the session's.
func (r *Role) end(s *session, reason string, drain, flush time.Duration, more ...Lease) (StopReply, error) {
	rep := StopReply{WasServing: true, Epoch: s.epoch}
	s.close()
	s.drain(drain)
	rep.Unmirrored = s.flush(flush)
	s.cancel(errors.New("the role was given up"))
	s.wg.Wait() // a domain that was being opened or dropped is in its final state now
	err := errors.Join(s.end(), r.release(append(more, s.leases()...)...))
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		// The lease may still be held and must not be taken for free; the manager asks again.
		reason = "stopped, lease not released: " + err.Error()
	}
	r.session = nil
	r.setLocked(StateNone, 0, reason)
	return rep, err
}

// drain waits for requests in flight, on all domains; when they take too long it ends them.
func (s *session) drain(timeout time.Duration) {
	t := time.NewTimer(timeout)
	defer t.Stop()
	for _, d := range s.domains() {
		select {
		case <-d.idle:
			continue
		case <-t.C:
			s.cancel(errors.New("the role is given up and the request took too long"))
		case <-s.ctx.Done():
		case <-d.ctx.Done():
		}
		<-d.idle // requests end with their context; every device call has a deadline
	}
}

// flush waits a little for the mirror of all domains and returns how many entries are left.
func (s *session) flush(timeout time.Duration) int {
	list := s.domains()
	left := make([]int, len(list))
	var wg sync.WaitGroup
	for i, d := range list {
		wg.Go(func() { left[i] = d.box.flush(timeout) })
	}
	wg.Wait()
	n := 0
	for _, l := range left {
		n += l
	}
	return n
}

// end closes all writers. The session's own goroutines have ended.
func (s *session) end() error {
	list := s.domains()
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, d := range list {
		wg.Go(func() {
			<-d.idle
			errs[i] = d.end(errors.New("the role was given up"))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fail ends the session at once: no request gets in, those in flight are cancelled. The rest happens in the
// background, in the same order as a stop, without the mirror: the next SPM reconciles.
func (s *session) fail(reason string) {
	first := !s.isShut()
	s.close()
	s.cancel(errors.New(reason))
	if !first {
		return
	}
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != s || r.status.State != StateServing {
		return
	}
	r.setLocked(StateStopping, s.epoch, reason)
	r.tasks.Go(func() { r.bury(s, reason) })
}

// bury cleans up after fail.
func (r *Role) bury(s *session, reason string) {
	_ = r.take(context.Background())
	defer r.give()
	r.mu.Lock()
	mine := r.session == s
	r.mu.Unlock()
	if mine {
		_, err := r.end(s, reason, r.cfg.DrainTimeout, r.cfg.FlushTimeout)
		if err != nil {
			r.cfg.Log.Warn("giving up a lost role", "epoch", s.epoch, "err", err)
		}
		r.report(fsm.Error, "spm.lost", reason, fmt.Sprintf("%s lost the SPM role: %s", r.cfg.Host, reason), s.epoch)
	}
}
