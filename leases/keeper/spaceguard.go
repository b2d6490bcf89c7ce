package keeper

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/internal/plant"
)

// spaceGuard says whether our host id is held in a lockspace, by the shared page.
type spaceGuard struct {
	page       *page
	clock      clock.Clock
	done       <-chan struct{}
	name       string
	slot       int
	generation uint64
	join       uint64
}

// Epoch is the generation of our host id.
func (g *spaceGuard) Epoch() uint64 { return g.generation }

// Check returns nil while the host id is held for longer than need.
func (g *spaceGuard) Check(need time.Duration) error {
	select {
	case <-g.done:
		return fmt.Errorf("lockspace %s: %w: the keeper is gone", g.name, blockdev.ErrLeaseLost)
	default:
	}
	if plant.On(plant.GuardForever) {
		return nil // planted
	}
	expiry, err := g.page.spaceExpiry(g.slot, g.generation, g.join)
	if err != nil {
		return fmt.Errorf("lockspace %s: %w: %w", g.name, blockdev.ErrLeaseLost, err)
	}
	if left := expiry - g.clock.Boot(); left <= need {
		return fmt.Errorf("lockspace %s: %w: good for %v, needed for %v", g.name, blockdev.ErrLeaseLost, left, need)
	}
	return nil
}

// spaceExpiry is the boot time up to which a generation of our host id is good, as that join took it. The generation alone
// would not do: another lockspace in the same slot may have the same.
func (p *page) spaceExpiry(slot int, generation, join uint64) (time.Duration, error) {
	defer runtime.KeepAlive(p)
	l, err := read(p.slot(lockspaceBase, slot))
	if err != nil {
		return 0, err
	}
	if l[wordState] != stateHeld || l[wordLsGeneration] != generation || l[wordJoin] != join {
		return 0, fmt.Errorf("the keeper lost generation %d of the lockspace", generation)
	}
	return time.Duration(l[wordExpiry]), nil
}

// JoinGuarded is Join, and returns a guard besides that says whether the host id is held. It is bound to this join: after
// a loss it fails for good. Its epoch is the generation.
func (c *Client) JoinGuarded(ctx context.Context, spec LockspaceSpec) (blockdev.Guard, error) {
	resp, err := c.call(ctx, &request{Method: methodJoin, Lockspace: &spec})
	if err != nil {
		return nil, fmt.Errorf("joining lockspace %s: %w", spec.Name, err)
	}
	return &spaceGuard{page: c.page, clock: c.clock, done: c.done, name: spec.Name, slot: resp.LockspaceSlot, generation: resp.Generation,
		join: resp.LockspaceJoin}, nil
}
