package keeper

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/leases"
)

// LeaveIdle gives a lockspace up if no lease is held or being taken in it, for whomever; else it fails with leases.ErrBusy and
// nothing has changed. One that was lost is forgotten, as by Leave.
func (c *Client) LeaveIdle(ctx context.Context, lockspace string) error {
	if _, err := c.call(ctx, &request{Method: methodLeaveIdle, Name: lockspace}); err != nil {
		return fmt.Errorf("leaving lockspace %s: %w", lockspace, err)
	}
	return nil
}

// leaveIdle answers methodLeaveIdle. Nothing can be acquired from the look at the leases on.
func (s *server) leaveIdle(ctx context.Context, name string) error {
	sp, err := s.joined(name)
	if errors.Is(err, leases.ErrLost) {
		return s.leave(ctx, name)
	}
	if err != nil {
		return err
	}
	if err := s.shutIdle(sp); err != nil {
		return err
	}
	if err := sp.ls.Leave(ctx); err != nil {
		s.mu.Lock()
		sp.ready = true
		s.mu.Unlock()
		s.leftBadly(sp, err)
		return err
	}
	sp.cancel()
	sp.loops.Wait()
	sp.dog.Done()
	s.forget(sp)
	return nil
}

// leaveOrLose answers methodLeave.
func (s *server) leaveOrLose(ctx context.Context, name string) error {
	sp, _ := s.joined(name)
	err := s.leave(ctx, name)
	if err != nil && sp != nil {
		s.leftBadly(sp, err)
	}
	return err
}

// leftBadly makes a lockspace that is renewed no more, but whose record could not be freed, a lost one: else it would count as joined
// for as long as this process lives.
func (s *server) leftBadly(sp *space, err error) {
	if !sp.ls.Left() {
		return
	}
	s.mu.Lock()
	lost := sp.lost != nil
	s.mu.Unlock()
	if !lost {
		s.loseSpace(sp, fmt.Errorf("lockspace %s: %w: it could not be left in order: %w", sp.spec.Name, leases.ErrLost, err))
	}
}

// shutIdle closes a lockspace to further acquires if it is not used.
func (s *server) shutIdle(sp *space) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(sp.held) + len(sp.freeing) + sp.acquiring; n > 0 {
		return fmt.Errorf("lockspace %s: %w: %d leases are held or on their way", sp.spec.Name, leases.ErrBusy, n)
	}
	if sp.ls.Undecided() {
		return fmt.Errorf("lockspace %s: %w: writes to a lease may still land", sp.spec.Name, leases.ErrBusy)
	}
	sp.ready = false
	return nil
}
