package keeper

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
)

// A lockspace whose LUN hangs while it is left is a lost one: it is not taken for joined, and when the LUN answers again the host id
// is taken anew and held.
func TestServer_leaveOnHungLUN(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*server, context.Context, string) error{"leave": (*server).leaveOrLose, "leave idle": (*server).leaveIdle} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				lun := faulty.New(blockdev.NewMem(8*mib, 512))
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if err := leases.InitLockspace(ctx, lun, 0, leases.Geometry512, "space", time.Second); err != nil {
					t.Fatal(err)
				}
				p := &page{words: make([]uint64, pageBytes/8)}
				s := newServer(quiet(), p, func(context.Context, string, blockdev.Options) (blockdev.Device, error) { return ownClose{lun}, nil }, nil)
				s.clock = &clock.Virtual{Start: time.Now().Add(-time.Hour)}
				ls, _ := specs("mem", 1)
				first := mustJoin(t, s, ctx, ls)
				lun.Inject(faulty.Fault{Hang: true})
				time.Sleep(7 * time.Second) // short of the expiry: the keeper itself has not given up
				lctx, stop := context.WithTimeout(ctx, 2*time.Second)
				err := leave(s, lctx, "space")
				stop()
				if err == nil {
					t.Fatal("left on a LUN that hangs")
				}
				if _, err := s.joined("space"); !errors.Is(err, leases.ErrLost) {
					t.Errorf("after that it is %v", err)
				}
				lun.Heal()
				lun.Release()
				again := mustJoin(t, s, ctx, ls)
				if again.Generation != first.Generation+1 {
					t.Errorf("generation %d after %d", again.Generation, first.Generation)
				}
				time.Sleep(time.Minute)
				g := &spaceGuard{page: p, clock: s.clock, done: make(chan struct{}), name: "space", slot: again.LockspaceSlot, generation: again.Generation,
					join: again.LockspaceJoin}
				if err := g.Check(time.Second); err != nil {
					t.Errorf("the id that was taken anew is not held: %v", err)
				}
				if err := s.leaveIdle(ctx, "space"); err != nil {
					t.Error(err)
				}
				s.halt()
			})
		})
	}
}

func mustJoin(t *testing.T, s *server, ctx context.Context, ls LockspaceSpec) *response {
	t.Helper()
	resp := &response{}
	if err := s.join(ctx, &ls, resp); err != nil {
		t.Fatal(err)
	}
	return resp
}

// ownClose is an opening of a device that outlives it.
type ownClose struct{ blockdev.Device }

func (ownClose) Close() error { return nil }
