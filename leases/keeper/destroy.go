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
	sp, h, err := s.withdrawn(spec)
	if err != nil {
		return err
	}
	defer s.released(sp, h)
	lease, ok := h.lease.(*leases.Lease)
	if !ok {
		return errors.Join(fmt.Errorf("%w: resource %s is held shared", ErrInvalid, spec.Name), h.free(ctx))
	}
	return lease.Destroy(ctx)
}
