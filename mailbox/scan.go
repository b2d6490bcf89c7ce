package mailbox

import (
	"context"
	"fmt"
	"time"
)

// tornRetries is how many scans in a row are made soon because of torn pages. A host rings only after its page is
// whole, so more are of no use.
const tornRetries = 10

// silence is until when the hosts that ask without ringing are looked at often.
type silence map[int]time.Time

// silentFor is how long a host counts as silent after it asked without ringing.
const silentFor = 10 * time.Minute

// look reads what is due: the event block often, all pages when somebody rang and now and then, the pages of hosts that
// never ring in between.
func (s *Server) look(ctx context.Context) error {
	now := time.Now()
	event, err := s.event, error(nil)
	if !now.Before(s.due.event) {
		event, err = s.readEvent(ctx)
		s.due.event = now.Add(s.pace(now))
	}
	if err != nil {
		return err
	}
	rang := event != s.event
	switch {
	case s.first || !now.Before(s.due.scan):
		err = s.scanAll(ctx, rang)
	case rang:
		err = s.scanKnown(ctx)
	case len(s.silent) > 0 && !now.Before(s.due.silent):
		err = s.scanSilent(ctx)
	}
	if err == nil && rang {
		s.event, s.active = event, now
	}
	return err
}

// pace is the time between looks at the event block.
func (s *Server) pace(now time.Time) time.Duration {
	if now.Sub(s.active) < s.cfg.Options.ActiveFor {
		return s.cfg.Options.ActivePoll
	}
	return s.cfg.Options.IdlePoll
}

// scanAll looks at all pages. Who has something new without a ring is silent.
func (s *Server) scanAll(ctx context.Context, rang bool) error {
	now, o := time.Now(), s.cfg.Options
	changed, bad, err := s.scanPages(ctx, o.Hosts)
	if err != nil {
		return err
	}
	s.due.scan = now.Add(o.FullScan)
	switch {
	case s.cfg.Bugs.TrustEvents:
		s.due.scan = now.Add(24 * time.Hour)
	case bad && s.retry < tornRetries:
		s.retry++
		s.due.scan = now.Add(o.ActivePoll)
	case !bad:
		s.retry = 0
	}
	if seen, err := DecodeEvent(s.buf); err == nil && !rang && !s.first && seen == s.event {
		for _, h := range changed {
			s.silent[h] = now.Add(silentFor)
		}
	}
	s.first = false
	return nil
}

// scanKnown looks at the pages up to the last host that ever asked, for one of them rang; all pages come soon after, in
// case that another rang at the same time.
func (s *Server) scanKnown(ctx context.Context) error {
	changed, bad, err := s.scanPages(ctx, s.reach+1)
	if err != nil {
		return err
	}
	if len(changed) == 0 || bad {
		return s.scanAll(ctx, true)
	}
	if soon := time.Now().Add(s.cfg.Options.SilentScan); soon.Before(s.due.scan) {
		s.due.scan = soon
	}
	return nil
}

// scanSilent looks at the page of each host that does not ring.
func (s *Server) scanSilent(ctx context.Context) error {
	now := time.Now()
	s.due.silent = now.Add(s.cfg.Options.SilentScan)
	for h, until := range s.silent {
		if now.After(until) {
			delete(s.silent, h)
			continue
		}
		p := pageOf(s.buf, h)
		if err := s.read(ctx, p, int64(h)*pageSize); err != nil {
			return err
		}
		if changed, err := s.slots.page(h, p, now); err == nil && changed {
			s.active, s.silent[h] = now, now.Add(silentFor)
		}
	}
	return nil
}

// scanPages reads the first n pages and takes in those of hosts. It says who had something new, and whether a page was
// torn. Where it begins goes round, so that nobody waits for ever when the queue is full.
func (s *Server) scanPages(ctx context.Context, n int) (changed []int, bad bool, err error) {
	if err := s.read(ctx, s.buf[:n*pageSize], 0); err != nil {
		return nil, false, err
	}
	now := time.Now()
	s.slots.full = false
	s.rotor++
	for i := range n {
		h := (s.rotor + i) % n
		if h == 0 {
			continue // the event block
		}
		if s.first && s.cfg.Bugs.SkipPending {
			copy(pageOf(s.slots.seen, h), pageOf(s.buf, h))
			continue
		}
		news, err := s.slots.page(h, pageOf(s.buf, h), now)
		bad = bad || err != nil
		if news {
			changed = append(changed, h)
			s.active, s.reach = now, max(s.reach, h)
		}
	}
	return changed, bad, nil
}

// readEvent reads the UUID of the event block.
func (s *Server) readEvent(ctx context.Context) (UUID, error) {
	p := s.buf[:s.cfg.Inbox.SectorSize()]
	if err := s.read(ctx, p, 0); err != nil {
		return UUID{}, err
	}
	return DecodeEvent(p)
}

// read is one read of inbox.
func (s *Server) read(ctx context.Context, p []byte, off int64) error {
	ctx, cancel := ioContext(ctx, s.cfg.Options.IOTimeout)
	defer cancel()
	s.stats.reads.Add(1)
	s.stats.bytesRead.Add(uint64(len(p)))
	if err := s.cfg.Inbox.ReadAt(ctx, p, off); err != nil {
		return fmt.Errorf("reading requests: %w", err)
	}
	return nil
}
