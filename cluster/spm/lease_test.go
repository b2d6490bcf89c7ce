package spm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

const leaseMiB = int64(1) << 20

func leaseID(n int) string { return fmt.Sprintf("6d1f0c52-51d1-4f0e-8d2b-%012d", n) }

// xdisk is a volume of external leases in memory, with its lockspace.
type xdisk struct {
	mem, ids *blockdev.Mem
	bad      *faulty.Device
}

// open is what Config.Leases is in these tests.
func (x *xdisk) open(_ context.Context, _ Domain, g blockdev.Guard) (ExternalLeases, error) {
	v, err := xlease.New(xlease.Config{Device: blockdev.NewGuarded(x.bad, g), Lockspace: "dom", Geometry: leases.Geometry512,
		NumHosts: 8, IOTimeout: 2 * time.Second})
	return ExternalLeases{Volume: v, Hosts: x.hosts}, err
}

func (x *xdisk) hosts(ctx context.Context) (*leases.Survey, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return leases.ReadSurvey(ctx, x.ids, 0, leases.Geometry512, "dom", 8, nil)
}

// hold makes host 5 the holder of a lease.
func (x *xdisk) hold(t *testing.T, off int64) {
	t.Helper()
	for _, p := range []struct {
		dev *blockdev.Mem
		off int64
	}{{x.ids, 4 * 512}, {x.mem, off}} {
		b := p.dev.Bytes(p.off, 512)
		var l leases.Leader
		if err := l.Decode(b); err != nil {
			t.Fatal(err)
		}
		l.OwnerID, l.OwnerGeneration, l.WriteID, l.Timestamp = 5, 1, 5, 100
		l.Encode(b)
		p.dev.SetBytes(p.off, b)
	}
}

// withLeases runs fn with a role that serves and a formatted volume of external leases.
func withLeases(t *testing.T, fn func(t *testing.T, r *Role, h *hostLease, x *xdisk)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := &xdisk{mem: blockdev.NewMem(20*leaseMiB, 512), ids: blockdev.NewMem(leaseMiB, 512)}
		x.bad = faulty.New(x.mem)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := leases.InitLockspace(ctx, x.ids, 0, leases.Geometry512, "dom", time.Second); err != nil {
			t.Fatal(err)
		}
		v, err := xlease.New(xlease.Config{Device: x.mem, Lockspace: "dom", Geometry: leases.Geometry512})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Format(ctx); err != nil {
			t.Fatal(err)
		}
		r, h := newRole(t, newLUN(), &fakeMirror{}, 1, func(c *Config) {
			c.Leases, c.Pending = x.open, func() int { return x.bad.Pending() }
		})
		if _, err := r.CreateLease(ctx, "", leaseID(1)); !errors.Is(err, ErrNotSPM) {
			t.Errorf("before the role was taken: %v", err)
		}
		if _, err := r.Start(ctx, StartRequest{ExpectVersion: 3}); err != nil {
			t.Fatal(err)
		}
		fn(t, r, h, x)
	})
}

func TestRole_leases(t *testing.T) {
	withLeases(t, func(t *testing.T, r *Role, _ *hostLease, x *xdisk) {
		ctx := t.Context()
		a, err := r.CreateLease(ctx, "", leaseID(1))
		if err != nil || !a.Changed || a.Domain != "dom" || a.Epoch != 4 || a.Lease.Offset != 3*leaseMiB {
			t.Fatalf("create: %+v, %v", a, err)
		}
		if b, err := r.CreateLease(ctx, "dom", leaseID(1)); err != nil || b.Changed || b.Lease != a.Lease {
			t.Errorf("create again: %+v, %v", b, err)
		}
		if _, err := r.CreateLease(ctx, "", "vm-1"); !errors.Is(err, xlease.ErrID) {
			t.Errorf("an id that is no UUID: %v", err)
		}
		if _, err := r.CreateLease(ctx, "nowhere", leaseID(1)); !errors.Is(err, ErrNoDomain) {
			t.Errorf("no such domain: %v", err)
		}
		x.hold(t, a.Lease.Offset)
		if _, err := r.DeleteLease(ctx, "", leaseID(1), false); !errors.Is(err, xlease.ErrInUse) {
			t.Errorf("delete of a held lease: %v", err)
		}
		if _, _, err := r.RebuildLeases(ctx, "", false); !errors.Is(err, xlease.ErrInUse) {
			t.Errorf("rebuild under a held lease: %v", err)
		}
		if rep, err := r.DeleteLease(ctx, "", leaseID(1), true); err != nil || !rep.Changed {
			t.Errorf("by force: %+v, %v", rep, err)
		}
		if rep, err := r.DeleteLease(ctx, "", leaseID(1), false); err != nil || rep.Changed {
			t.Errorf("delete again: %+v, %v", rep, err)
		}
		if x, _, err := r.RebuildLeases(ctx, "", false); err != nil || x.Leases != 0 {
			t.Errorf("rebuild: %+v, %v", x, err)
		}
	})
}

// Many callers at once: each lease gets a place of its own.
func TestRole_leases_oneAtATime(t *testing.T) {
	withLeases(t, func(t *testing.T, r *Role, _ *hostLease, _ *xdisk) {
		offsets := make([]int64, 12)
		var wg sync.WaitGroup
		for i := range offsets {
			wg.Go(func() {
				rep, err := r.CreateLease(t.Context(), "", leaseID(i))
				if err != nil {
					t.Error(err)
				}
				offsets[i] = rep.Lease.Offset
			})
		}
		wg.Wait()
		seen := map[int64]bool{}
		for i, off := range offsets {
			if seen[off] || off == 0 {
				t.Errorf("lease %d is at %d, as another", i, off)
			}
			seen[off] = true
		}
	})
}

// A write that was given up carries an old sector of the index. Until it has come back nothing else may be written, or it
// would take away the records that were made since.
func TestRole_leases_lateWrite(t *testing.T) {
	withLeases(t, func(t *testing.T, r *Role, _ *hostLease, x *xdisk) {
		hung := x.bad.Inject(faulty.Fault{Ops: faulty.Write, Off: leaseMiB, Len: leaseMiB, Hang: true, Count: 1})
		if _, err := r.CreateLease(t.Context(), "", leaseID(1)); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Fatalf("a write that hangs: %v", err)
		}
		if hung.Hits() != 1 || x.bad.Pending() != 1 {
			t.Fatalf("%d hung, %d pending", hung.Hits(), x.bad.Pending())
		}
		done := make(chan error, 1)
		go func() {
			_, err := r.CreateLease(t.Context(), "", leaseID(2))
			done <- err
		}()
		time.Sleep(3 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		x.bad.Release() // the late write lands
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for i := 1; i <= 2; i++ {
			if rep, err := r.CreateLease(t.Context(), "", leaseID(i)); err != nil || rep.Changed {
				t.Errorf("lease %d is not there: %+v, %v", i, rep, err)
			}
		}
	})
}

// With the lease of the SPM gone nothing is written.
func TestRole_leases_lostLease(t *testing.T) {
	withLeases(t, func(t *testing.T, r *Role, h *hostLease, x *xdisk) {
		before := x.mem.Bytes(0, 4*leaseMiB)
		h.lose()
		if _, err := r.CreateLease(t.Context(), "", leaseID(1)); !errors.Is(err, ErrNotSPM) {
			t.Errorf("%v", err)
		}
		if string(before) != string(x.mem.Bytes(0, 4*leaseMiB)) {
			t.Error("something was written")
		}
	})
}
