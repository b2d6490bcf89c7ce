package keeper

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/leases"
)

// turn is a lock that may be held over I/O: waiting for it is waiting for the disk.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take() { t <- struct{}{} }
func (t turn) give() { <-t }

// held is a lease as package leases gives it, exclusive or shared.
type held interface {
	Epoch() uint64
	Release(ctx context.Context) error
}

// take acquires in the mode asked for.
func take(ctx context.Context, ls *leases.Lockspace, spec leases.ResourceSpec, shared bool) (held, error) {
	if shared {
		l, err := ls.AcquireShared(ctx, spec)
		if err != nil {
			return nil, err // not a nil lease in an interface
		}
		return l, nil
	}
	l, err := ls.Acquire(ctx, spec)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// isShared says in which mode the lease is; the caller holds server.mu or turn.
func (h *holding) isShared() bool {
	_, shared := h.lease.(*leases.SharedLease)
	return shared
}

// free gives the lease back, after the conversion that may be under way.
func (h *holding) free(ctx context.Context) error {
	h.turn.take()
	defer h.turn.give()
	return h.lease.Release(ctx)
}

// versionOf is the version of a lease that is held.
func (s *server) versionOf(h *holding) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.lease.Epoch()
}

// again is an acquire of what is held here already.
func (s *server) again(sp *space, h *holding, spec *ResourceSpec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.isShared() != spec.Shared {
		return fmt.Errorf("resource %s is held in the other mode, convert it: %w", spec.Name, leases.ErrHeldHere)
	}
	s.watchLocked(sp, h, spec.WatchRequests)
	return nil
}

// show publishes the lease in the shared page, if it is still held; the caller holds mu.
func (s *server) show(sp *space, h *holding) {
	state := uint64(stateHeld)
	if h.isShared() {
		state = stateShared
	}
	if sp.held[h.spec.key()] == h {
		s.page.holdResource(h.slot, state, h.lease.Epoch(), sp.ls.Generation(), sp.slot, h.spec.nameSum())
	}
}

// convert turns a lease that is held into the mode that spec says.
func (s *server) convert(ctx context.Context, spec *ResourceSpec, resp *response) error {
	if err := spec.validate(); err != nil {
		return err
	}
	sp, err := s.joined(spec.Lockspace)
	if err != nil {
		return err
	}
	h := s.holdingOf(sp, spec)
	if h == nil {
		return fmt.Errorf("resource %s: %w", spec.Name, leases.ErrNotHeld)
	}
	if spec.Holder != nil && !h.isFor(spec.Holder) {
		return h.heldHere()
	}
	h.turn.take()
	defer h.turn.give()
	if s.holdingOf(sp, spec) != h { // released while we waited
		return fmt.Errorf("resource %s: %w", spec.Name, leases.ErrNotHeld)
	}
	if h.isShared() != spec.Shared {
		if err := s.change(ctx, sp, h); err != nil {
			return err
		}
	}
	if s.holdingOf(sp, spec) != h { // released, or lost, meanwhile
		return fmt.Errorf("resource %s: %w", spec.Name, leases.ErrNotHeld)
	}
	resp.LockspaceSlot, resp.LockspaceJoin, resp.Generation = sp.slot, sp.join, sp.ls.Generation()
	resp.Version, resp.ResourceSlot = h.lease.Epoch(), h.slot
	return nil
}

// change converts the lease of h to its other mode; the caller holds turn. Readers of an exclusive lease lose it before
// the first write; those of a shared one keep it until it is exclusive.
func (s *server) change(ctx context.Context, sp *space, h *holding) error {
	var next held
	var err, stays error
	switch l := h.lease.(type) {
	case *leases.Lease:
		s.hide(sp, h)
		var shared *leases.SharedLease
		if shared, err = l.ToShared(ctx); err == nil {
			next = shared
		}
		stays = l.Check(0)
	case *leases.SharedLease:
		var exclusive *leases.Lease
		if exclusive, err = l.ToExclusive(ctx); err == nil {
			next = exclusive
		}
		stays = l.Check(0)
	}
	if err != nil && stays != nil {
		s.drop(sp, h)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		h.lease = next
	}
	s.show(sp, h)
	return err
}

// hide takes a lease away from the readers before it is converted.
func (s *server) hide(sp *space, h *holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp.held[h.spec.key()] == h {
		s.page.dropResource(h.slot)
	}
}

// drop gives up a lease that a conversion lost altogether. The processes that run under it cannot go on.
func (s *server) drop(sp *space, h *holding) {
	h.lost.Store(true) // before watchHolder hears of it
	if s.withdraw(sp, h.spec.key(), h) == nil {
		return // released, or lost with its lockspace
	}
	s.log.Error("a lease was lost while it was converted", "resource", h.spec.key(), "holder", h.spec.Holder.String())
	if h.tied == nil {
		s.released(sp, h)
	}
}

// evictEvery is the time between two attempts to end processes by force. The one that came with the others goes last.
const evictEvery = 20 * time.Millisecond

// evict ends what runs under a lease that is not ours any more: somebody else may have it already. The devices are cut off first, which
// takes no time if the LUN answers, and again when nobody is left who could undo it. Until then the lease counts as held.
func (s *server) evict(sp *space, h *holding) {
	defer s.released(sp, h)
	defer h.tied.close()
	h.tied.cutOnce()
	tick := time.NewTicker(evictEvery)
	defer tick.Stop()
	for {
		h.tied.press(true)
		select {
		case <-h.tied.gone:
			s.log.Info("the processes of a lost lease have ended", "resource", h.spec.key(), "holder", h.spec.Holder.String())
			return
		case <-tick.C:
		}
	}
}

// lvb reads or changes the lock value block of a lease that is held.
func (s *server) lvb(req *request, resp *response) error {
	if err := req.Resource.validate(); err != nil {
		return err
	}
	sp, err := s.joined(req.Resource.Lockspace)
	if err != nil {
		return err
	}
	h := s.holdingOf(sp, req.Resource)
	if h == nil {
		return fmt.Errorf("resource %s: %w", req.Resource.Name, leases.ErrNotHeld)
	}
	h.turn.take()
	defer h.turn.give()
	exclusive, ok := h.lease.(*leases.Lease)
	if req.Method == methodSetLVB {
		if !ok {
			return fmt.Errorf("resource %s: %w: a sharer cannot change it", req.Resource.Name, leases.ErrLVB)
		}
		return exclusive.SetLVB(req.Value)
	}
	resp.Value = h.lease.(interface{ LVB() []byte }).LVB()
	if resp.Value == nil {
		return fmt.Errorf("resource %s: %w: acquire it with LVB", req.Resource.Name, leases.ErrLVB)
	}
	return nil
}

// Convert turns a lease that is held into a shared one or an exclusive one, and returns its version. Guards of an
// exclusive lease fail from the call on; those of a shared lease when the call succeeds. After an error Acquire in the
// former mode tells whether that is still held.
func (c *Client) Convert(ctx context.Context, spec ResourceSpec, shared bool) (uint64, error) {
	spec.Shared = shared
	c.mu.Lock()
	if g := c.grants[spec.key()]; shared && g != nil && g.state == stateHeld {
		g.revoked.Store(true)
		delete(c.grants, spec.key())
	}
	c.mu.Unlock()
	resp, err := c.call(ctx, &request{Method: methodConvert, Resource: &spec})
	if err != nil {
		return 0, fmt.Errorf("converting %s: %w", spec.Name, err)
	}
	c.granted(&spec, resp)
	return resp.Version, nil
}

// LVB is the lock value block of a lease that was acquired with ResourceSpec.LVB; see leases.Lease.LVB.
func (c *Client) LVB(ctx context.Context, spec ResourceSpec) ([]byte, error) {
	resp, err := c.call(ctx, &request{Method: methodGetLVB, Resource: &spec})
	if err != nil {
		return nil, fmt.Errorf("lock value block of %s: %w", spec.Name, err)
	}
	return resp.Value, nil
}

// SetLVB changes the lock value block; it goes to disk when the exclusive lease ends.
func (c *Client) SetLVB(ctx context.Context, spec ResourceSpec, value []byte) error {
	if _, err := c.call(ctx, &request{Method: methodSetLVB, Resource: &spec, Value: value}); err != nil {
		return fmt.Errorf("lock value block of %s: %w", spec.Name, err)
	}
	return nil
}
