package host

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/leases/keeper"
)

// AcquireLease takes an external lease on this host, for a holder. It does not wait for a holder to be dead: the answer
// says how long that takes.
func (h *Host) AcquireLease(ctx context.Context, domainID, id string, holder *keeper.Holder) (uint64, error) {
	done, err := h.Admit()
	if err != nil {
		return 0, err
	}
	defer done()
	rt, spec, err := h.externalResource(ctx, domainID, id, holder)
	if err != nil {
		return 0, err
	}
	spec.NoWait = true
	ctx, cancel := context.WithTimeout(ctx, rt.leaseTimeout())
	defer cancel()
	return rt.keeper.Acquire(ctx, spec)
}

// ReleaseLease gives an external lease of this host back. With a holder it refuses what is held for another one.
func (h *Host) ReleaseLease(ctx context.Context, domainID, id string, holder *keeper.Holder) error {
	rt, spec, err := h.externalResource(ctx, domainID, id, holder)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, rt.leaseTimeout())
	defer cancel()
	return rt.keeper.Release(ctx, spec)
}

// externalResource finds an external lease, for a holder.
func (h *Host) externalResource(ctx context.Context, domainID, id string, holder *keeper.Holder) (*runtime, keeper.ResourceSpec, error) {
	rt := h.runtime()
	if rt == nil {
		return nil, keeper.ResourceSpec{}, fmt.Errorf("%w: %w", ErrNotOpen, ErrNoStorage)
	}
	spec, _, err := h.LeaseResource(ctx, domainID, id)
	if err != nil {
		return nil, spec, err
	}
	spec.Holder = holder
	return rt, spec, nil
}

// leaseTimeout bounds one call of the keeper: a ballot is six I/Os, each of which may take N.
func (rt *runtime) leaseTimeout() time.Duration { return 8 * rt.profile.IOTimeout }
