//go:build jepsen

package keeper

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/internal/clockseam"
	"github.com/holdfast-io/holdfast/internal/plant"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// TestKeeper_clockSeam: the keeper's clock is the one that its environment names. It counts an hour ahead of this process, so its
// leases look good for more than an hour here.
func TestKeeper_clockSeam(t *testing.T) {
	ctx := testutil.Deadline(t)
	seam := filepath.Join(t.TempDir(), "clock")
	if err := clockseam.Set(seam, clock.System{}.Boot(), time.Hour, 0); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t.TempDir())
	cfg.Env = append(cfg.Env, clockseam.Env+"="+seam)
	c, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(testutil.Deadline(t)); err != nil {
			t.Error(err)
		}
	}()
	ls, _ := specs(newLUN(t), 1)
	g, err := c.JoinGuarded(ctx, ls)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Check(time.Hour - time.Minute); err != nil {
		t.Error(err)
	}
	if err := g.Check(time.Hour + time.Minute); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("good for more than the hour that was planted: %v", err)
	}
}

// A guard that ignores expiry, and whose lease it is by now, still knows what it never held or gave back.
func TestGuard_planted(t *testing.T) {
	for _, name := range []string{plant.GuardForever, plant.NoEpochCheck} {
		undo := plant.Set(name)
		g := &guard{clock: clock.System{}, g: &grant{}, name: "res"}
		if err := g.Check(time.Hour); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		g.g.revoked.Store(true)
		if err := g.Check(0); !errors.Is(err, blockdev.ErrLeaseLost) {
			t.Errorf("%s: given back: %v", name, err)
		}
		undo()
	}
}
