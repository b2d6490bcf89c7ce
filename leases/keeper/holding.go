package keeper

import (
	"context"
	"errors"
	"fmt"
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
	return sp, leases.ResourceSpec{Name: spec.Name, Device: dev, Offset: spec.Offset, NoWait: spec.NoWait}, nil
}

// acquire takes a lease and publishes it. Asking again for one that is held answers with the same version.
func (s *server) acquire(ctx context.Context, spec *ResourceSpec, resp *response) error {
	sp, rspec, err := s.resource(ctx, spec)
	if err != nil {
		return err
	}
	resp.LockspaceSlot, resp.Generation = sp.slot, sp.ls.Generation()
	if h := s.holdingOf(sp, spec); h != nil {
		resp.Version, resp.ResourceSlot = h.lease.Epoch(), h.slot
		return nil
	}
	lease, err := sp.ls.Acquire(ctx, rspec)
	if err != nil {
		s.dropIfGone(spec.Device, rspec.Device, err)
		return err
	}
	h, err := s.publish(sp, spec, lease)
	if err != nil {
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

// publish gives the lease a slot in the shared page.
func (s *server) publish(sp *space, spec *ResourceSpec, lease *leases.Lease) (*holding, error) {
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
	h := &holding{spec: *spec, slot: i, lease: lease}
	sp.held[spec.key()], sp.used = h, true
	s.page.holdResource(i, lease.Epoch(), sp.ls.Generation(), sp.slot)
	return h, nil
}

// release takes the lease away from the readers first and then off the disk.
func (s *server) release(ctx context.Context, spec *ResourceSpec) error {
	if err := spec.validate(); err != nil {
		return err
	}
	sp, err := s.joined(spec.Lockspace)
	if err != nil {
		return err
	}
	h := s.withdraw(sp, spec.key())
	if h == nil {
		return fmt.Errorf("resource %s: %w", spec.Name, leases.ErrNotHeld)
	}
	return h.lease.Release(ctx)
}

// withdraw ends the publication of a lease.
func (s *server) withdraw(sp *space, key string) *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := sp.held[key]
	if h == nil {
		return nil
	}
	s.page.dropResource(h.slot)
	s.resUsed[h.slot] = false
	delete(sp.held, key)
	return h
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

// dropIfGone forgets a device that vanished, so that the next request opens it anew.
func (s *server) dropIfGone(uri string, d blockdev.Device, err error) {
	if !errors.Is(err, blockdev.ErrGone) || d.Pending() > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.devices[uri] == d {
		delete(s.devices, uri)
		_ = d.Close()
	}
}

// releaseAll frees every lease and leaves every lockspace, all at the same time. With waitRemote it lets requests that
// the agent may have left with a server run out first.
func (s *server) releaseAll(ctx context.Context, waitRemote bool) error {
	s.mu.Lock()
	var all []*space
	for _, sp := range s.spaces {
		if sp.ready {
			all = append(all, sp)
		}
	}
	s.mu.Unlock()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, sp := range all {
		wg.Go(func() { errs[i] = s.releaseSpace(ctx, sp, waitRemote) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// releaseSpace frees the leases of one lockspace and leaves it.
func (s *server) releaseSpace(ctx context.Context, sp *space, waitRemote bool) error {
	s.mu.Lock()
	var held []*holding
	for key, h := range sp.held {
		s.page.dropResource(h.slot)
		s.resUsed[h.slot] = false
		delete(sp.held, key)
		held = append(held, h)
	}
	s.mu.Unlock()
	errs := make([]error, len(held))
	var wg sync.WaitGroup
	for i, h := range held {
		wg.Go(func() {
			if waitRemote && (remote(h.spec.Device) || remote(sp.spec.Device)) {
				_ = sleep(ctx, sp.spec.Profile.IOTimeout)
			}
			errs[i] = h.lease.Release(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errors.Join(errs...), s.leave(ctx, sp.spec.Name))
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
