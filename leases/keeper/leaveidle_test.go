package keeper

import (
	"errors"
	"testing"

	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// A lockspace is left only when nothing is held in it, and can be joined again at once.
func TestKeeper_LeaveIdle(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	c := joined(t, lun, 1)
	ls, res := specs(lun, 1)
	if held, err := c.Held(ctx, "space"); err != nil || len(held) != 0 {
		t.Errorf("%v, %v", held, err)
	}
	res.Holder = &Holder{Name: "guest 7"}
	if _, err := c.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	if held, err := c.Held(ctx, "space"); err != nil || len(held) != 1 || held[0] != (Held{Name: "res", Holder: "guest 7"}) {
		t.Errorf("%v, %v", held, err)
	}
	if err := c.LeaveIdle(ctx, "space"); !errors.Is(err, leases.ErrBusy) {
		t.Errorf("left with a lease held: %v", err)
	}
	if err := c.Guard("space", "res").Check(0); err != nil {
		t.Errorf("the lease is gone: %v", err)
	}
	if err := c.Release(ctx, res); err != nil {
		t.Fatal(err)
	}
	if err := c.LeaveIdle(ctx, "space"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"held":    second(c.Held(ctx, "space")),
		"acquire": second(c.Acquire(ctx, res)),
		"leave":   c.LeaveIdle(ctx, "space"),
	} {
		if !errors.Is(err, ErrNotJoined) {
			t.Errorf("%s after it was left: %v", what, err)
		}
	}
	other := joined(t, lun, 2)
	if rec, err := other.ReadHost(ctx, "space", 1); err != nil || rec.Timestamp != 0 {
		t.Errorf("the record on disk is not free: %+v, %v", rec, err)
	}
	if gen, err := c.Join(ctx, ls); err != nil || gen != 2 {
		t.Errorf("joined again: generation %d, %v", gen, err)
	}
}

func second[T any](_ T, err error) error { return err }

// Nothing can be acquired from the moment on that a lockspace is being left.
func TestServer_shutIdle(t *testing.T) {
	t.Parallel()
	s := &server{spaces: map[string]*space{}}
	sp := &space{ls: &leases.Lockspace{}, held: map[string]*holding{}, freeing: map[*holding]bool{}, ready: true}
	sp.spec.Name = "space"
	s.spaces["space"] = sp
	sp.acquiring = 1
	if err := s.shutIdle(sp); !errors.Is(err, leases.ErrBusy) || !sp.ready {
		t.Errorf("an acquire that is under way: %v", err)
	}
	sp.acquiring = 0
	if err := s.shutIdle(sp); err != nil || sp.ready {
		t.Errorf("%v", err)
	}
	if err := s.acquireBegins(t.Context(), sp); !errors.Is(err, ErrNotJoined) {
		t.Errorf("an acquire that found the lockspace before: %v", err)
	}
}
