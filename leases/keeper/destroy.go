package keeper

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/leases"
)

// Destroy ends a lease that is held here together with its resource, which nobody can take any more; see leases.Destroy. Its
// guards fail from this call on. All writes under the lease must have come back before.
func (c *Client) Destroy(ctx context.Context, spec ResourceSpec) error {
	c.revoke(spec.key())
	if _, err := c.call(ctx, &request{Method: methodDestroy, Resource: &spec}); err != nil {
		return fmt.Errorf("destroying %s: %w", spec.Name, err)
	}
	return nil
}

// destroy takes the lease away from the readers first and then the resource off the disk.
func (s *server) destroy(ctx context.Context, spec *ResourceSpec) error {
	if err := spec.validate(); err != nil {
		return err
	}
	sp, err := s.joined(spec.Lockspace)
	if err != nil {
		return err
	}
	have := s.holdingOf(sp, spec)
	if have != nil && spec.Holder != nil && !have.isFor(spec.Holder) {
		return have.heldHere()
	}
	h := s.withdraw(sp, spec.key(), have)
	if h == nil {
		return fmt.Errorf("resource %s: %w", spec.Name, leases.ErrNotHeld)
	}
	defer s.released(sp, h)
	h.tied.forget()
	lease, ok := h.lease.(*leases.Lease)
	if !ok {
		return errors.Join(fmt.Errorf("%w: resource %s is held shared", ErrInvalid, spec.Name), h.free(ctx))
	}
	return lease.Destroy(ctx)
}
