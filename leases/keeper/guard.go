package keeper

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/internal/plant"
)

// grant is one lease as the agent was told of it.
type grant struct {
	resource, lockspace int // slots
	version, generation uint64
	join                uint64      // of the lockspace
	state               uint64      // held exclusively or shared
	name                uint64      // of the resource, see nameSum: slots are used again
	revoked             atomic.Bool // the agent gave it back, or the keeper is gone
}

// guard is a blockdev.Guard over the shared page: a few atomic loads and one reading of the clock.
type guard struct {
	page  *page
	clock clock.Clock
	g     *grant // nil: never held
	name  string
}

// Epoch is the version of the lease.
func (g *guard) Epoch() uint64 {
	if g.g == nil {
		return 0
	}
	return g.g.version
}

// Check returns nil while the lease is held for longer than need.
func (g *guard) Check(need time.Duration) error {
	if g.g == nil || g.g.revoked.Load() {
		return fmt.Errorf("%s: %w: not held", g.name, blockdev.ErrLeaseLost)
	}
	if plant.On(plant.GuardForever) || plant.On(plant.NoEpochCheck) {
		return nil // planted: whose turn it is now, and until when, is not asked
	}
	expiry, err := g.page.expiryOf(g.g)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", g.name, blockdev.ErrLeaseLost, err)
	}
	if left := expiry - g.clock.Boot(); left <= need {
		return fmt.Errorf("%s: %w: good for %v, needed for %v", g.name, blockdev.ErrLeaseLost, left, need)
	}
	return nil
}

// expiryOf is the boot time up to which g is good.
func (p *page) expiryOf(g *grant) (time.Duration, error) {
	defer runtime.KeepAlive(p)
	r, err := read(p.slot(resourceBase, g.resource))
	if err != nil {
		return 0, err
	}
	if r[wordState] != g.state || r[wordName] != g.name || r[wordVersion] != g.version || r[wordGeneration] != g.generation || r[wordLockspace] != uint64(g.lockspace) {
		return 0, fmt.Errorf("the keeper does not hold version %d any more", g.version)
	}
	return p.spaceExpiry(g.lockspace, g.generation, g.join)
}
