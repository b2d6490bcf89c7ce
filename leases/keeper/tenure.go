package keeper

import (
	"context"
	"os"
	"time"
)

// A keeper serves one agent after the other. With leases that outlive their agent (Holder.Stay) it goes on alone when the
// agent has ended or has handed over, and the next one takes it over; without any it ends.

// doorPoll is how often a keeper without an agent looks whether the last lease that stays has ended.
const doorPoll = 50 * time.Millisecond

// until serves agents until nobody needs the keeper any more.
func (s *server) until(ctx context.Context, gone <-chan struct{}, term <-chan os.Signal) error {
	var now *arrival
	defer func() { now.close() }()
	for {
		next, err := s.tenure(ctx, gone, term)
		if next == nil {
			return err
		}
		s.take(next)
		now.close()
		now, gone = next, next.agent.gone
	}
}

// tenure serves one agent to its end, and returns the next one; nil when the keeper has ended.
func (s *server) tenure(ctx context.Context, gone <-chan struct{}, term <-chan os.Signal) (*arrival, error) {
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.serve()
	}()
	var err error
	vacant := false
	select {
	case <-gone:
		vacant = s.vacated(true)
		if !vacant {
			s.log.Warn("agent is gone, releasing its leases")
			err = s.end(true)
		}
	case <-s.handed:
		vacant = s.vacated(false)
		if !vacant {
			err = s.end(false)
		}
	case <-s.stop:
		err = s.end(false)
	case <-term:
		s.log.Info("told to end, releasing all leases")
		err = s.yield(gone)
	case <-ctx.Done():
		err = s.yield(gone)
	}
	_ = s.conn.Close()
	<-served
	if !vacant {
		return nil, err
	}
	return s.vacancy(ctx, term)
}

// vacated frees what the last agent has left, but for what stays. False: nothing stays.
func (s *server) vacated(waitRemote bool) bool {
	if s.stays() == 0 || s.door == nil {
		return false
	}
	s.log.Warn("no agent: leases of processes that outlive it stay, all others are released", "stays", s.stays())
	s.halt()
	select {
	case <-s.handed: // of a call that ended just now; the next agent must not be taken for one that handed over
	default:
	}
	ctx := context.Background() // no limit: what the agent had must be free before the next one asks for it
	s.confirmAll(ctx, waitRemote)
	if err := s.releaseAll(ctx, waitRemote, true); err != nil {
		s.log.Error("not everything of the last agent could be released, other hosts have to wait", "error", err)
	}
	s.confirmAll(ctx, waitRemote) // what was lost meanwhile
	return true
}

// vacancy waits for the next agent, as long as any lease stays.
func (s *server) vacancy(ctx context.Context, term <-chan os.Signal) (*arrival, error) {
	for s.stays() > 0 {
		if next := s.door.next(doorPoll); next != nil {
			return next, nil
		}
		select {
		case <-term:
			return nil, s.end(false)
		case <-ctx.Done():
			return nil, s.end(false)
		default:
		}
	}
	s.log.Info("no agent and no lease that stays: ending")
	return nil, s.end(false)
}

// take makes the next agent the one that is served. No call is under way and nobody serves.
func (s *server) take(next *arrival) {
	s.log.Info("the next agent has taken over", "stays", s.stays())
	s.agentFD.Store(int64(next.pidfd.Fd()))
	s.base, s.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	s.halted = false
	s.mu.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	s.conn = next.conn
}

// farewell is what follows on the answer to a call by which the agent leaves.
func (s *server) farewell(method string, stays int) {
	switch {
	case method == methodHandOver && stays > 0:
		select {
		case s.handed <- struct{}{}:
		default: // told twice
		}
	case method == methodShutdown, method == methodHandOver:
		s.once.Do(func() { close(s.stop) })
	}
}

// stays counts the leases that outlive the agent.
func (s *server) stays() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, sp := range s.spaces {
		for _, h := range sp.held {
			if h.stays() {
				n++
			}
		}
	}
	return n
}

// stays says whether the lease outlives the agent.
func (h *holding) stays() bool {
	return h.tied != nil && h.spec.Holder != nil && h.spec.Holder.Stay
}

// HandOver gives back all leases but those that outlive the agent (Holder.Stay), and leaves the keeper to the next one. It
// returns how many stay; with none the keeper has ended. All guards of this client fail from now on; those of the
// processes, made with OpenGuard, do not. When ctx ends first the keeper is killed, as by Close.
func (c *Client) HandOver(ctx context.Context) (int, error) {
	c.revokeAll()
	resp, err := c.call(ctx, &request{Method: methodHandOver})
	if err == nil && resp.Stays > 0 {
		c.leave()
		<-c.done
		c.loops.Wait()
		return resp.Stays, nil
	}
	return 0, c.awaitEnd(ctx, err)
}

// leave ends this client without its keeper.
func (c *Client) leave() {
	c.leaving.Do(func() { close(c.left) })
}
