package mailbox

import (
	"context"
	"fmt"
	"slices"
)

// flush writes the pages of the image that changed, those beside each other at once. While an earlier write may still
// land nothing is written: it would put back what was said before.
func (s *Server) flush(ctx context.Context) error {
	if !slices.Contains(s.slots.dirty, true) {
		return nil
	}
	if s.doubt && s.cfg.Outbox.Pending() > 0 && !s.cfg.Bugs.WriteInDoubt {
		return errInDoubt
	}
	s.doubt = false
	for from := 0; from < len(s.slots.dirty); {
		n := s.dirtyRun(from)
		if err := s.writePages(ctx, from, n); err != nil {
			return err
		}
		from += max(n, 1)
	}
	return nil
}

// dirtyRun is how many pages from one on are to be written.
func (s *Server) dirtyRun(from int) int {
	if n := slices.Index(s.slots.dirty[from:], false); n >= 0 {
		return n
	}
	return len(s.slots.dirty) - from
}

// writePages writes n pages of the image, under the guard.
func (s *Server) writePages(ctx context.Context, from, n int) error {
	if n == 0 {
		return nil
	}
	ctx, cancel := ioContext(ctx, s.cfg.Options.IOTimeout)
	defer cancel()
	s.stats.writes.Add(1)
	s.stats.bytesWritten.Add(uint64(n * pageSize))
	if err := s.outbox.WriteAt(ctx, s.slots.out[from*pageSize:(from+n)*pageSize], int64(from)*pageSize); err != nil {
		s.doubt = true
		return fmt.Errorf("writing answers: %w", err)
	}
	clear(s.slots.dirty[from : from+n])
	return nil
}
