package mailbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Server is the SPM's side: it finds what hosts ask for, has it done, and answers.
type Server struct {
	cfg    ServerConfig
	log    *slog.Logger
	outbox blockdev.Device // bound to the guard
	stats  serverCounters

	// The rest belongs to Run.
	slots   *serverSlots
	workers *workers
	buf     []byte    // for reading
	event   UUID      // the last ring that was followed by a scan
	first   bool      // no scan succeeded yet
	retry   int       // scans to make soon because a page was torn
	due     schedule  // when what is next
	silent  silence   // hosts that do not ring
	active  time.Time // when something last went on
	reach   int       // the highest host that ever asked
	rotor   int       // where the next scan begins
	doubt   bool      // a write did not come back: it may still land
	failed  bool      // the last turn had an I/O error
}

// schedule is when what is next.
type schedule struct{ event, scan, silent, tick time.Time }

// ServerStats counts what a Server did since it was made.
type ServerStats struct {
	Reads, Writes, BytesRead, BytesWritten uint64
	Requests                               uint64 // messages seen
	Answered, Refused                      uint64 // Answered counts the refused ones too
	Open                                   int    // slots in use now
	Queued                                 int    // requests with the handlers now
}

type serverCounters struct {
	reads, writes, bytesRead, bytesWritten, requests, answered, refused atomic.Uint64
	open, queued                                                        atomic.Int64
}

// Stats is safe to call at any time.
func (s *Server) Stats() ServerStats {
	c := &s.stats
	return ServerStats{Reads: c.reads.Load(), Writes: c.writes.Load(), BytesRead: c.bytesRead.Load(),
		BytesWritten: c.bytesWritten.Load(), Requests: c.requests.Load(), Answered: c.answered.Load(),
		Refused: c.refused.Load(), Open: int(c.open.Load()), Queued: int(c.queued.Load())}
}

// NewServer makes the SPM's side; it does no I/O.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Log, outbox: blockdev.NewGuarded(cfg.Outbox, cfg.Guard), first: true,
		buf: make([]byte, cfg.Options.Hosts*pageSize), silent: silence{}}
	s.slots = newServerSlots(&s.cfg)
	s.slots.room = func(domain UUID) bool { return s.workers.room(domain) }
	s.slots.start = func(id int, e *exchange) {
		e.job = &job{id: id, req: e.req, deadline: e.expire}
		s.workers.put(e.job)
	}
	return s, nil
}

// Run serves until ctx ends, which gives nil, or the lease is lost, which gives blockdev.ErrLeaseLost. It is to be called
// once, under the lease, and the lease must not be released before it returned: then no handler runs any more. What was
// not answered is found by the next SPM.
func (s *Server) Run(ctx context.Context) error {
	s.workers = startWorkers(ctx, &s.cfg)
	defer s.workers.stop()
	for {
		err := s.turn(ctx)
		s.note(err)
		if errors.Is(err, blockdev.ErrLeaseLost) {
			return fmt.Errorf("serving the mailbox: %w", err)
		}
		if !s.sleep(ctx, err) {
			return nil
		}
	}
}

// sleep waits until the next turn is due, taking in what the handlers did. It is false when ctx has ended.
func (s *Server) sleep(ctx context.Context, err error) bool {
	next := s.due.event
	if s.due.scan.Before(next) {
		next = s.due.scan
	}
	wait := max(time.Until(next), time.Millisecond)
	if err != nil {
		wait = max(wait, s.cfg.Options.IdlePoll)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case j := <-s.workers.out:
		s.results(j)
	case <-t.C:
	}
	return ctx.Err() == nil
}

// results takes in a finished job, and what else is finished.
func (s *Server) results(j *job) {
	now := time.Now()
	for s.active = now; ; {
		s.workers.took(j)
		s.slots.result(j, now)
		select {
		case j = <-s.workers.out:
		default:
			if s.slots.full && s.workers.count <= s.cfg.Options.Queue/2 {
				s.due.scan = now // those that found no room
			}
			return
		}
	}
}

// turn does what is due: writes first, for the answers of an earlier SPM must be gone before anything is answered.
func (s *Server) turn(ctx context.Context) error {
	defer s.publish()
	if s.first {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	err := s.look(ctx)
	if now := time.Now(); !now.Before(s.due.tick) {
		s.slots.tick(now)
		s.due.tick = now.Add(s.cfg.Options.IdlePoll)
	}
	s.publish() // whoever has the answer finds it counted
	return errors.Join(err, s.flush(ctx))
}

// publish copies the counters for Stats.
func (s *Server) publish() {
	s.stats.requests.Store(s.slots.requests)
	s.stats.answered.Store(s.slots.done)
	s.stats.refused.Store(s.slots.refused)
	s.stats.open.Store(int64(len(s.slots.open)))
	s.stats.queued.Store(int64(s.workers.count))
}

// note logs the first of several errors, and the end of them.
func (s *Server) note(err error) {
	switch {
	case err != nil && !s.failed:
		s.log.Warn("mailbox I/O of the SPM failed, it is tried again", "error", err)
	case err == nil && s.failed:
		s.log.Info("mailbox I/O of the SPM works again")
	}
	s.failed = err != nil
}
