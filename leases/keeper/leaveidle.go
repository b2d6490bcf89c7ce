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
		return err
	}
	sp.cancel()
	sp.loops.Wait()
	sp.dog.Done()
	s.forget(sp)
	return nil
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
