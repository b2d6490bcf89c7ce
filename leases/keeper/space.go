package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/watchdog"
)

// space is a lockspace that the keeper holds, is joining, or has lost.
type space struct {
	spec LockspaceSpec
	slot int
	join uint64          // counts the joins of this keeper
	dev  blockdev.Device // renewals only
	ls   *leases.Lockspace
	dog  *watchdog.Entry

	cancel context.CancelFunc // ends the renewal and settle loops
	loops  sync.WaitGroup
	news   chan struct{} // tells windDown that the agent has confirmed

	// guarded by server.mu
	ready     bool
	lost      error
	used      bool // the agent ever held a lease under it and has not said that its I/O is back
	held      map[string]*holding
	freeing   map[*holding]bool // not published any more and not freed on disk yet
	acquiring int               // calls that may yet get a lease
	users     []*tied           // processes that held leases when the lockspace was lost and have not ended

	alerts chan int              // hosts that want us to look at requests
	events chan leases.HostEvent // on their way to the agent
}

// holding is a lease held.
type holding struct {
	spec ResourceSpec
	slot int

	turn  turn // one conversion or release at a time; held over its I/O
	lease held // exclusive or shared; changed with turn and server.mu held

	// guarded by server.mu
	watched bool           // its request record is looked at all the time
	told    leases.Request // the request that the agent was told of

	tied      *tied         // nil: the agent holds it
	lost      atomic.Bool   // by a conversion: it is not to be freed, its processes are to be ended
	withdrawn chan struct{} // closed when it is not published any more
	done      chan struct{} // closed when its processes are not watched any more
}

// join takes a host id. Asking again for what is held answers with the same generation.
func (s *server) join(ctx context.Context, spec *LockspaceSpec, resp *response) error {
	if spec == nil || spec.Name == "" || spec.Device == "" {
		return fmt.Errorf("%w: lockspace %+v", ErrInvalid, spec)
	}
	sp, done, err := s.reserve(spec)
	if err != nil {
		return err
	}
	if !done {
		if err := s.joinSpace(ctx, sp); err != nil {
			if sp.dog != nil {
				sp.dog.Done()
			}
			s.forget(sp)
			return err
		}
	}
	resp.Generation, resp.LockspaceSlot, resp.LockspaceJoin = sp.ls.Generation(), sp.slot, sp.join
	return nil
}

// reserve finds the lockspace joined already, or makes a place for it.
func (s *server) reserve(spec *LockspaceSpec) (*space, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp := s.spaces[spec.Name]; sp != nil {
		switch {
		case !sp.ready:
			return nil, false, fmt.Errorf("lockspace %s: %w", spec.Name, leases.ErrBusy)
		case sp.lost == nil && sp.spec.HostID == spec.HostID && sp.spec.HostName == spec.HostName:
			return sp, true, nil
		case sp.lost == nil:
			return nil, false, fmt.Errorf("%w: lockspace %s is joined as host %d", ErrInvalid, spec.Name, sp.spec.HostID)
		case sp.used && !spec.Rejoin:
			return nil, false, fmt.Errorf("lockspace %s: %w: %w", spec.Name, ErrRejoin, sp.lost)
		case len(sp.users) > 0:
			return nil, false, fmt.Errorf("lockspace %s: %w: %d processes that held leases there are being ended", spec.Name, leases.ErrBusy, len(sp.users))
		}
		s.confirmLocked(sp)
		s.dropSpace(sp)
	}
	i := freeSlot(s.lsUsed[:])
	if i < 0 {
		return nil, false, fmt.Errorf("%w: more than %d lockspaces", ErrInvalid, lockspaceSlots)
	}
	s.joins++
	sp := &space{spec: *spec, slot: i, join: s.joins, held: map[string]*holding{}, freeing: map[*holding]bool{}, news: make(chan struct{}, 1),
		alerts: make(chan int, maxAlerts), events: make(chan leases.HostEvent, maxAlerts)}
	s.spaces[spec.Name] = sp
	return sp, false, nil
}

// freeSlot finds and takes an unused slot.
func freeSlot(used []bool) int {
	for i := range used {
		if !used[i] {
			used[i] = true
			return i
		}
	}
	return -1
}

// joinSpace opens the device, joins and starts the loops.
func (s *server) joinSpace(ctx context.Context, sp *space) error {
	n := sp.spec.Profile.IOTimeout
	if err := sp.spec.Profile.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := s.dog.Choose(ctx, sp.spec.Profile.Watchdog); err != nil {
		return fmt.Errorf("joining lockspace %s: %w", sp.spec.Name, err)
	}
	sp.dog = s.dog.Entry(fmt.Sprintf("holdfast_%s:%d", sp.spec.Name, sp.spec.HostID))
	octx, cancel := context.WithTimeout(ctx, n)
	defer cancel()
	dev, err := s.open(octx, sp.spec.Device, blockdev.Options{IOTimeout: n})
	if err != nil {
		return fmt.Errorf("opening %s for lockspace %s: %w", sp.spec.Device, sp.spec.Name, err)
	}
	probe, err := s.device(ctx, sp.spec.Device, n)
	if err != nil {
		_ = dev.Close()
		return err
	}
	sp.dev = dev
	if err := s.awaitLate(ctx, sp.spec.Name, probe); err != nil {
		return err
	}
	if sp.ls, err = leases.Join(ctx, s.lockspaceConfig(sp, probe)); err != nil {
		return err
	}
	s.startSpace(sp)
	return nil
}

// lockspaceConfig translates the specification.
func (s *server) lockspaceConfig(sp *space, probe blockdev.Device) leases.LockspaceConfig {
	p := sp.spec.Profile
	slot, good := sp.slot, p.Expiry()-p.Margin()
	c := leases.LockspaceConfig{Device: sp.dev, Probe: probe, Offset: sp.spec.Offset, Geometry: sp.spec.Geometry, Name: sp.spec.Name,
		HostID: sp.spec.HostID, HostName: sp.spec.HostName, Profile: p, Clock: s.clock, Log: s.log,
		OnRenew: func(start time.Duration) {
			s.page.setExpiry(slot, start+good)
			sp.dog.Renewed(start + p.Expiry())
		}, OnAlert: sp.alert, OnEvent: sp.event}
	if c.Bugs = s.bugs; s.rand != nil {
		c.Rand = s.rand(sp.spec.Name)
	}
	if remote(sp.spec.Device) {
		c.Settle = p.IOTimeout
	}
	return c
}

// latePoll is how often a join looks whether writes of an earlier one have come back.
const latePoll = 50 * time.Millisecond

// startSpace publishes the lockspace and starts its loops.
func (s *server) startSpace(sp *space) {
	ctx, cancel := context.WithCancel(context.Background())
	sp.cancel = cancel
	s.page.holdLockspace(sp.slot, sp.ls.Expiry(), sp.ls.Generation(), sp.join)
	s.mu.Lock()
	sp.ready = true
	s.mu.Unlock()
	sp.loops.Go(func() {
		if err := sp.ls.Run(ctx); err != nil {
			s.loseSpace(sp, err)
		}
	})
	sp.loops.Go(func() { s.settleLoop(ctx, sp) })
	sp.loops.Go(func() { s.alertLoop(ctx, sp) })
	sp.loops.Go(func() { s.eventLoop(ctx, sp) })
}

// settleLoop undoes on disk what calls with unknown outcome may have left.
func (s *server) settleLoop(ctx context.Context, sp *space) {
	t := time.NewTicker(sp.spec.Profile.IOTimeout)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		sctx, cancel := context.WithTimeout(ctx, sp.spec.Profile.IOTimeout)
		if err := sp.ls.Settle(sctx); err != nil {
			s.log.Warn("a lease of unknown state could not be settled yet", "lockspace", sp.spec.Name, "error", err)
		}
		cancel()
		s.mu.Lock()
		s.relaxLocked(sp)
		s.mu.Unlock()
	}
}

// forget removes a lockspace that could not be joined.
func (s *server) forget(sp *space) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropSpace(sp)
}

// dropSpace frees the lockspace's slot and device; the caller holds mu.
func (s *server) dropSpace(sp *space) {
	s.page.dropLockspace(sp.slot)
	s.lsUsed[sp.slot] = false
	delete(s.spaces, sp.spec.Name)
	s.closeFormer()
	if sp.cancel != nil {
		sp.cancel()
	}
	switch {
	case sp.dev == nil:
	case sp.dev.Pending() > 0:
		s.late[sp.spec.Name] = append(s.late[sp.spec.Name], sp.dev)
	default:
		_ = sp.dev.Close()
	}
}

// awaitLate waits until nothing of a former join of ours can land any more. A renewal that did would bring back the
// former generation, and the one after would be given out twice; a host block would undo that of a later ballot.
func (s *server) awaitLate(ctx context.Context, name string, probe blockdev.Device) error {
	for {
		s.mu.Lock()
		var still []blockdev.Device
		for _, d := range s.late[name] {
			if d.Pending() > 0 {
				still = append(still, d)
			} else {
				_ = d.Close()
			}
		}
		s.late[name] = still
		s.mu.Unlock()
		if len(still) == 0 && probe.Pending() == 0 {
			return nil
		}
		if err := sleep(ctx, latePoll); err != nil {
			return fmt.Errorf("lockspace %s: %w: writes of the last time may still land: %w", name, leases.ErrBusy, err)
		}
	}
}

// joined finds a lockspace that can be used.
func (s *server) joined(name string) (*space, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.spaces[name]
	switch {
	case sp == nil || !sp.ready:
		return nil, fmt.Errorf("lockspace %q: %w", name, ErrNotJoined)
	case sp.lost != nil:
		return nil, sp.lost
	}
	return sp, nil
}

// leave gives a lockspace up; its leases must have been released. A lost one is only forgotten.
func (s *server) leave(ctx context.Context, name string) error {
	sp, err := s.joined(name)
	if errors.Is(err, leases.ErrLost) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if sp := s.spaces[name]; sp != nil && sp.lost != nil && !sp.used && len(sp.users) == 0 && !sp.ls.WritesPending() {
			s.dropSpace(sp)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if err := sp.ls.Leave(ctx); err != nil {
		return err
	}
	sp.cancel()
	sp.loops.Wait()
	sp.dog.Done()
	s.forget(sp)
	return nil
}

// hosts lists the hosts of a lockspace as last seen.
func (s *server) hosts(name string, resp *response) error {
	sp, err := s.joined(name)
	if err != nil {
		return err
	}
	resp.Hosts = sp.ls.Hosts()
	return nil
}

// freeHost marks a host that is proven dead as gone.
func (s *server) freeHost(ctx context.Context, req *request) error {
	sp, err := s.joined(req.Name)
	if err != nil {
		return err
	}
	return sp.ls.FreeHost(ctx, req.HostID, req.Generation)
}
