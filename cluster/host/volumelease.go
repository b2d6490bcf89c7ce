package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/internal/plant"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// volumeKeeper is what volume leases need of the keeper's client.
type volumeKeeper interface {
	Acquire(ctx context.Context, spec keeper.ResourceSpec) (uint64, error)
	Release(ctx context.Context, spec keeper.ResourceSpec) error
	Destroy(ctx context.Context, spec keeper.ResourceSpec) error
	Guard(lockspace, resource string) blockdev.Guard
	Done() <-chan struct{}
}

// VolumeLeases takes the leases of volumes through this host's keeper, each for one operation: nothing else on this host can
// have it at the same time either. Every operation on the data or the existence of a volume goes through it.
type VolumeLeases struct {
	keeper  volumeKeeper
	pending func(domainID string) int // device calls on a domain that have not come back
	host    func(hostID int) string   // its name; empty: no member
	limit   time.Duration             // bounds a call to the keeper
	log     *slog.Logger
	places  chan struct{}  // so many at the same time
	left    sync.WaitGroup // leases that are given back later
}

// maxVolumeLeases bounds how many volume leases are held or taken at the same time; the keeper has room for more.
const maxVolumeLeases = 32

func newVolumeLeases(k volumeKeeper, pending func(string) int, host func(int) string, limit time.Duration, log *slog.Logger) *VolumeLeases {
	return &VolumeLeases{keeper: k, pending: pending, host: host, limit: limit, log: log, places: make(chan struct{}, maxVolumeLeases)}
}

// TakeVolume takes one volume's lease. It waits for nobody who has it.
func (v *VolumeLeases) TakeVolume(ctx context.Context, l domain.VolumeLease) (domain.HeldVolume, error) {
	h, err := v.take(ctx, l)
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (v *VolumeLeases) take(ctx context.Context, l domain.VolumeLease) (*heldVolume, error) {
	select {
	case v.places <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to take the lease of volume %s: %w", l.Volume, context.Cause(ctx))
	}
	spec := keeper.ResourceSpec{Lockspace: l.Lockspace, Name: l.Volume, Device: l.Device.Name(), Offset: l.Offset, NoWait: true, First: true,
		Holder: &keeper.Holder{Name: "data operation " + uuid.NewString()}}
	ctx, cancel := context.WithTimeout(ctx, v.limit)
	defer cancel()
	if _, err := v.keeper.Acquire(ctx, spec); err != nil {
		<-v.places
		return nil, v.refused(l, err)
	}
	return &heldVolume{Guard: v.keeper.Guard(l.Lockspace, l.Volume), all: v, spec: spec}, nil
}

// refused makes of the keeper's error what the caller can act on.
func (v *VolumeLeases) refused(l domain.VolumeLease, err error) error {
	var held *leases.HeldError
	switch {
	case errors.As(err, &held):
		who := cmp.Or(v.host(held.HostID), held.HostName, fmt.Sprintf("host id %d", held.HostID))
		return &domain.VolumeHeldError{Volume: l.Volume, Holder: who, RetryAfter: held.Free, Cause: err}
	case errors.Is(err, leases.ErrHeldHere):
		return &domain.VolumeHeldError{Volume: l.Volume, Holder: "this host", Cause: err}
	case errors.Is(err, leases.ErrNoLease):
		return fmt.Errorf("%w: %w", domain.ErrNoVolumeLease, err)
	}
	return err
}

// heldVolume is a volume's lease that the keeper holds for one operation.
type heldVolume struct {
	blockdev.Guard
	all  *VolumeLeases
	spec keeper.ResourceSpec
}

// Release gives the lease back.
func (h *heldVolume) Release(ctx context.Context) error { return h.end(ctx, h.all.keeper.Release) }

// Destroy ends it with its volume.
func (h *heldVolume) Destroy(ctx context.Context) error { return h.end(ctx, h.all.keeper.Destroy) }

func (h *heldVolume) end(ctx context.Context, how func(context.Context, keeper.ResourceSpec) error) error {
	defer func() { <-h.all.places }()
	ctx, cancel := context.WithTimeout(ctx, h.all.limit)
	defer cancel()
	return how(ctx, h.spec)
}

// abandonPoll is how often it is looked whether an abandoned lease can be given back.
const abandonPoll = 50 * time.Millisecond

// Abandon gives the lease back in the background, when every device call has come back. A keeper that ends takes it along.
func (h *heldVolume) Abandon() {
	h.all.left.Go(func() {
		tick := time.NewTicker(abandonPoll)
		defer tick.Stop()
		for h.all.pending(h.spec.Lockspace) > 0 && !plant.On(plant.LateWrite) {
			select {
			case <-tick.C:
			case <-h.all.keeper.Done():
				<-h.all.places
				return
			}
		}
		if err := h.Release(context.Background()); err != nil {
			h.all.log.Warn("giving the lease of a volume back", "volume", h.spec.Name, "err", err)
		}
	})
}

// chain is the leases of several volumes, for one operation on all of them.
type chain []*heldVolume

// TakeChain takes the leases of several volumes, all or none, in the order of their places on disk: two operations that want
// some of the same volumes meet at the first of them and not in the middle.
func (v *VolumeLeases) TakeChain(ctx context.Context, list ...domain.VolumeLease) (domain.HeldVolume, error) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b domain.VolumeLease) int {
		return cmp.Or(cmp.Compare(a.Lockspace, b.Lockspace), cmp.Compare(a.Offset, b.Offset))
	})
	var c chain
	for _, l := range list {
		h, err := v.take(ctx, l)
		if err != nil {
			return nil, errors.Join(err, c.Release(context.WithoutCancel(ctx)))
		}
		c = append(c, h)
	}
	return c, nil
}

// Epoch is that of the first lease.
func (c chain) Epoch() uint64 {
	if len(c) == 0 {
		return 0
	}
	return c[0].Epoch()
}

// Check returns nil while all are held.
func (c chain) Check(need time.Duration) error {
	for _, h := range c {
		if err := h.Check(need); err != nil {
			return err
		}
	}
	return nil
}

// Release gives all back.
func (c chain) Release(ctx context.Context) error {
	return c.each(func(h *heldVolume) error { return h.Release(ctx) })
}

// Destroy ends all.
func (c chain) Destroy(ctx context.Context) error {
	return c.each(func(h *heldVolume) error { return h.Destroy(ctx) })
}

// Abandon gives all back in the background.
func (c chain) Abandon() {
	for _, h := range c {
		h.Abandon()
	}
}

func (c chain) each(end func(*heldVolume) error) error {
	var err error
	for _, h := range slices.Backward(c) {
		err = errors.Join(err, end(h))
	}
	return err
}

// whilePoll is how often a guard is asked by While.
const whilePoll = 50 * time.Millisecond

// While returns a context that ends, with the guard's error as its cause, when the guard does not hold any more. What cannot
// be given a guarded device, such as a program that is run, is ended by it.
func While(ctx context.Context, g blockdev.Guard) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(whilePoll)
		defer tick.Stop()
		for {
			if err := g.Check(0); err != nil {
				cancel(err)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled); <-done }
}
