package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// resource translates the specification for package leases.
func (s *server) resource(ctx context.Context, spec *ResourceSpec) (*space, leases.ResourceSpec, error) {
	if err := spec.validate(); err != nil {
		return nil, leases.ResourceSpec{}, err
	}
	sp, err := s.joined(spec.Lockspace)
	if err != nil {
		return nil, leases.ResourceSpec{}, err
	}
	dev, err := s.device(ctx, spec.Device, sp.spec.Profile.IOTimeout)
	if err != nil {
		return nil, leases.ResourceSpec{}, err
	}
	return sp, leases.ResourceSpec{Name: spec.Name, Device: dev, Offset: spec.Offset, NoWait: spec.NoWait, MinVersion: spec.MinVersion, LVB: spec.LVB}, nil
}

// acquire takes a lease and publishes it. Asking again for one that is held answers with the same version.
func (s *server) acquire(ctx context.Context, spec *ResourceSpec, files []*os.File, resp *response) error {
	sp, rspec, err := s.resource(ctx, spec)
	if err != nil {
		closeAll(files)
		return err
	}
	resp.LockspaceSlot, resp.LockspaceJoin, resp.Generation = sp.slot, sp.join, sp.ls.Generation()
	if h := s.holdingOf(sp, spec); h != nil {
		resp.Version, resp.ResourceSlot = s.versionOf(h), h.slot
		if err := h.checkHolder(spec.Holder, files); err != nil {
			return err
		}
		return s.again(sp, h, spec)
	}
	if s.evicting(sp, spec) {
		closeAll(files)
		return fmt.Errorf("resource %s was lost here, and what ran under it has not ended yet: %w", spec.Name, leases.ErrHeldHere)
	}
	t, err := newTied(spec.Holder, files, s.cut, s.log)
	if err != nil {
		return err
	}
	defer s.acquireEnds(sp)
	if err := s.acquireBegins(ctx, sp); err != nil {
		t.forget()
		return err
	}
	lease, err := take(ctx, sp.ls, rspec, spec.Shared)
	if err != nil {
		s.dropIfGone(spec.Device, rspec.Device, err)
		t.forget()
		return err
	}
	h, err := s.publish(sp, spec, lease, t)
	if err != nil {
		t.forget()
		return errors.Join(err, lease.Release(ctx))
	}
	resp.Version, resp.ResourceSlot = lease.Epoch(), h.slot
	return nil
}

// holdingOf finds a lease that is held.
func (s *server) holdingOf(sp *space, spec *ResourceSpec) *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := sp.held[spec.key()]; h != nil && h.spec.Offset == spec.Offset {
		return h
	}
	return nil
}

// evicting says that the processes of a lease that a conversion lost have not ended.
func (s *server) evicting(sp *space, spec *ResourceSpec) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range sp.freeing {
		if h.lost.Load() && h.spec.key() == spec.key() {
			return true
		}
	}
	return false
}

// publish gives the lease a slot in the shared page.
func (s *server) publish(sp *space, spec *ResourceSpec, lease held, t *tied) (*holding, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp.lost != nil {
		return nil, sp.lost
	}
	if sp.held[spec.key()] != nil {
		return nil, fmt.Errorf("%w: another resource of the same name is held", ErrInvalid)
	}
	i := freeSlot(s.resUsed[:])
	if i < 0 {
		return nil, fmt.Errorf("%w: more than %d leases", ErrInvalid, resourceSlots)
	}
	h := &holding{spec: *spec, slot: i, lease: lease, turn: newTurn(), tied: t, withdrawn: make(chan struct{}), done: make(chan struct{})}
	sp.held[spec.key()] = h
	s.show(sp, h)
	s.watchLocked(sp, h, spec.WatchRequests)
	if t == nil {
		sp.used = true
		return h, nil
	}
	go s.watchHolder(sp, h) // done says when it ends
	return h, nil
}

// release takes the lease away from the readers first and then off the disk.
func (s *server) release(ctx context.Context, spec *ResourceSpec) error {
	sp, h, err := s.withdrawn(spec)
	if err != nil {
		return err
	}
	defer s.released(sp, h)
	return h.free(ctx)
}

// withdrawn is a holding that the readers have no more; the caller gives it up on the disk and calls released. Whoever names a
// holder gets what is held for that one only.
func (s *server) withdrawn(spec *ResourceSpec) (*space, *holding, error) {
	if err := spec.validate(); err != nil {
		return nil, nil, err
	}
	sp, err := s.joined(spec.Lockspace)
	if err != nil {
		return nil, nil, err
	}
	have := s.holdingOf(sp, spec)
	if have != nil && spec.Holder != nil && !have.isFor(spec.Holder) {
		return nil, nil, have.heldHere()
	}
	h := s.withdraw(sp, spec.key(), have)
	if h == nil {
		return nil, nil, fmt.Errorf("resource %s: %w", spec.Name, leases.ErrNotHeld)
	}
	h.tied.forget()
	return sp, h, nil
}

// withdraw ends the publication of the lease h, if that is what is held.
func (s *server) withdraw(sp *space, key string, h *holding) *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h == nil || sp.held[key] != h {
		return nil
	}
	s.withdrawLocked(sp, key, h)
	sp.freeing[h] = true
	return h
}

// withdrawLocked takes a lease away from the readers; the caller holds mu.
func (s *server) withdrawLocked(sp *space, key string, h *holding) {
	s.page.dropResource(h.slot)
	s.resUsed[h.slot] = false
	delete(sp.held, key)
	close(h.withdrawn)
}

// released says that a lease that was withdrawn is off the disk, or will not be.
func (s *server) released(sp *space, h *holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(sp.freeing, h)
	s.relaxLocked(sp)
}

// acquireBegins arms the watchdog before anybody can hold a lease.
func (s *server) acquireBegins(ctx context.Context, sp *space) error {
	s.mu.Lock()
	sp.acquiring++
	leaving := !sp.ready
	s.mu.Unlock()
	if leaving {
		return fmt.Errorf("lockspace %q is being left: %w", sp.spec.Name, ErrNotJoined)
	}
	return sp.dog.Use(ctx, lastRenewal(sp.ls)+sp.spec.Profile.Expiry())
}

// acquireEnds is for an acquire that has come to its end, whatever came of it.
func (s *server) acquireEnds(sp *space) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp.acquiring--
	s.relaxLocked(sp)
}

// relaxLocked lets the watchdog be disarmed when nothing is held and nothing of ours may land late; the caller holds mu.
func (s *server) relaxLocked(sp *space) {
	if len(sp.held) == 0 && len(sp.freeing) == 0 && sp.acquiring == 0 && sp.lost == nil && !sp.ls.Undecided() {
		sp.dog.Idle()
	}
}

// inspect reads a resource's state.
func (s *server) inspect(ctx context.Context, spec *ResourceSpec, resp *response) error {
	sp, rspec, err := s.resource(ctx, spec)
	if err != nil {
		return err
	}
	info, err := sp.ls.ReadResource(ctx, rspec)
	if err != nil {
		s.dropIfGone(spec.Device, rspec.Device, err)
		return err
	}
	resp.Info = &info
	return nil
}

// dropIfGone forgets a device that vanished, so that the next request opens it anew. It stays open: a lockspace and leases that are held,
// or in doubt, go on with it when it comes back, and could never be released without it.
func (s *server) dropIfGone(uri string, d blockdev.Device, err error) {
	if !errors.Is(err, blockdev.ErrGone) || d.Pending() > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.devices[uri] == d {
		delete(s.devices, uri)
		s.former = append(s.former, d)
		s.closeFormer()
	}
}

// closeFormer closes the devices that nobody can use any more, once there is no lockspace; the caller holds mu.
func (s *server) closeFormer() {
	if len(s.spaces) > 0 {
		return
	}
	for _, d := range s.former {
		_ = d.Close()
	}
	s.former = nil
}

// releaseAll frees every lease and leaves every lockspace, all at the same time. With waitRemote it lets requests that
// the agent may have left with a server run out first. With keep those that outlive the agent stay, and their lockspaces.
func (s *server) releaseAll(ctx context.Context, waitRemote, keep bool) error {
	s.mu.Lock()
	var all []*space
	for _, sp := range s.spaces {
		if sp.ready {
			all = append(all, sp)
		}
	}
	s.mu.Unlock()
	errs := make([]error, len(all)+1)
	errs[len(all)] = s.releaseFirst(ctx, all, waitRemote)
	var wg sync.WaitGroup
	for i, sp := range all {
		wg.Go(func() { errs[i] = s.releaseSpace(ctx, sp, waitRemote, keep) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// releaseFirst frees the leases that lie where the holder of another lease may put something else.
func (s *server) releaseFirst(ctx context.Context, all []*space, waitRemote bool) error {
	var errs []error
	var mu sync.Mutex // guards errs
	var wg sync.WaitGroup
	for _, sp := range all {
		for _, h := range s.heldIn(sp) {
			if !h.spec.First || h.tied != nil {
				continue
			}
			wg.Go(func() {
				err := s.freeNow(ctx, sp, h, waitRemote)
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// freeNow frees a lease of the agent.
func (s *server) freeNow(ctx context.Context, sp *space, h *holding, waitRemote bool) error {
	if s.withdraw(sp, h.spec.key(), h) == nil {
		return nil
	}
	defer s.released(sp, h)
	if waitRemote && (remote(h.spec.Device) || remote(sp.spec.Device)) {
		_ = sleep(ctx, sp.spec.Profile.IOTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeLimit)
	defer cancel()
	return h.free(ctx)
}

// releaseSpace frees the leases of one lockspace and leaves it. Leases with processes are freed when those have ended.
func (s *server) releaseSpace(ctx context.Context, sp *space, waitRemote, keep bool) error {
	held := s.heldIn(sp)
	errs := make([]error, len(held))
	stays := false
	var wg sync.WaitGroup
	for i, h := range held {
		if keep && h.stays() {
			stays = true
			continue
		}
		if h.tied != nil {
			wg.Go(func() {
				h.tied.dismiss(ctx, timeline{profile: sp.spec.Profile})
				select {
				case <-h.done:
				case <-ctx.Done():
				}
			})
			continue
		}
		wg.Go(func() { errs[i] = s.freeNow(ctx, sp, h, waitRemote) })
	}
	wg.Wait()
	if stays {
		return errors.Join(errs...)
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeLimit)
	defer cancel()
	s.awaitFreed(ctx, sp)
	return errors.Join(errors.Join(errs...), s.leave(ctx, sp.spec.Name))
}

// awaitFreed waits for leases that are being freed because their processes have ended.
func (s *server) awaitFreed(ctx context.Context, sp *space) {
	s.mu.Lock()
	var watched []*holding
	for h := range sp.freeing {
		if h.tied != nil {
			watched = append(watched, h)
		}
	}
	s.mu.Unlock()
	for _, h := range watched {
		select {
		case <-h.done:
		case <-ctx.Done():
		}
	}
}

// heldIn lists what is held in a lockspace.
func (s *server) heldIn(sp *space) []*holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	var held []*holding
	for _, h := range sp.held {
		held = append(held, h)
	}
	return held
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
