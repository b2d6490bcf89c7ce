package rindex

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

func openFile(t testing.TB, size int64) (blockdev.Device, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lun")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	d, err := blockdev.Open(testutil.Deadline(t), path, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, path
}

func formatted(t testing.TB, size int64, max int) (*Index, string) {
	t.Helper()
	dev, path := openFile(t, size)
	cfg := Config{Device: dev, Offset: mib, Lockspace: "LS"}
	if err := Format(testutil.Deadline(t), cfg, leases.Geometry512, max); err != nil {
		t.Fatal(err)
	}
	x, err := Open(testutil.Deadline(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return x, path
}

// TestSlots: an index never gives out a slot that sanlock counts wrongly, or one beyond the header or the end.
func TestSlots(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		g    leases.Geometry
		max  uint32
		end  int64
		want int
	}{
		{leases.Geometry512, 4096, 1 << 40, 2048},
		{leases.Geometry512, 100, 1 << 40, 100},
		{leases.Geometry512, 4096, 3*mib + 5*mib + 77, 5},
		{leases.Geometry512, 4096, 0x100, 0},
		{leases.Geometry{SectorSize: 4096, AlignSize: 2 * mib}, 4096, 1 << 40, 1024},
		{leases.Geometry{SectorSize: 4096, AlignSize: 8 * mib}, 4096, 1 << 40, 256},
		{leases.Geometry512, 1<<32 - 1, 1 << 40, 2048},
	} {
		x := &Index{cfg: Config{Offset: mib, End: c.end}, geo: c.g, header: Header{MaxResources: c.max}}
		if got := x.Slots(); got != c.want {
			t.Errorf("%+v: %d slots", c, got)
		}
	}
}

func TestUpdate_boundsAndOverflow(t *testing.T) {
	t.Parallel()
	x, _ := formatted(t, 8*mib, 0)
	ctx := testutil.Deadline(t)
	for _, off := range []int64{0, mib, 2 * mib, 3*mib + 1, 8 * mib, 2051 * mib, -mib, 1 << 62} {
		if err := x.Update(ctx, "n", off); !errors.Is(err, ErrOffset) {
			t.Errorf("offset %d: %v", off, err)
		}
	}
	for i := range 5 {
		if err := x.Update(ctx, fmt.Sprint("n", i), x.OffsetOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.Lookup(ctx, "", 0); !errors.Is(err, ErrFull) {
		t.Errorf("full index: %v", err)
	}
}

func TestFormat_refusals(t *testing.T) {
	t.Parallel()
	dev, _ := openFile(t, 3*mib)
	ctx := testutil.Deadline(t)
	cfg := Config{Device: dev, Offset: 2 * mib, Lockspace: "LS"}
	if err := Format(ctx, cfg, leases.Geometry512, 0); !errors.Is(err, blockdev.ErrOutOfRange) {
		t.Errorf("no room for the lease: %v", err)
	}
	cfg.Offset = 0
	if err := Format(ctx, cfg, leases.Geometry512, 16001); !errors.Is(err, ErrFull) {
		t.Errorf("too many: %v", err)
	}
	if err := Format(ctx, cfg, leases.Geometry{SectorSize: 512, AlignSize: 2 * mib}, 0); !errors.Is(err, leases.ErrGeometry) {
		t.Errorf("geometry: %v", err)
	}
}

// TestHistory_againstAModel: random updates, lookups and rebuilds agree with a map.
func TestHistory_againstAModel(t *testing.T) {
	t.Parallel()
	const slots = 12
	x, _ := formatted(t, (3+slots)*mib, 0)
	ctx := testutil.Deadline(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	model := make([]string, slots)
	for range 400 {
		i, name := rnd.IntN(slots), fmt.Sprint("n", rnd.IntN(40))
		switch rnd.IntN(3) {
		case 0:
			name = ""
			fallthrough
		case 1:
			if err := x.Update(ctx, name, x.OffsetOf(i)); err != nil {
				t.Fatal(err)
			}
			model[i] = name
		default:
			found, err := x.Lookup(ctx, "", x.OffsetOf(i))
			if err != nil || found.Name != model[i] {
				t.Fatalf("slot %d: %q (%v), the model has %q", i, found.Name, err, model[i])
			}
			checkName(t, x, model, name)
		}
	}
}

// checkName: the first slot with the name is found, or none.
func checkName(t *testing.T, x *Index, model []string, name string) {
	t.Helper()
	found, err := x.Lookup(testutil.Deadline(t), name, 0)
	for i, n := range model {
		if n == name {
			if err != nil || found.Offset != x.OffsetOf(i) {
				t.Fatalf("%s: %+v, %v", name, found, err)
			}
			return
		}
	}
	if !errors.Is(err, ErrNotFound) {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestCreateDelete_underTheLease: with a joined lockspace, and a rebuild that finds the same.
func TestCreateDelete_underTheLease(t *testing.T) {
	t.Parallel()
	x, _ := formatted(t, 8*mib, 0)
	ctx := testutil.Deadline(t)
	dev := x.cfg.Device
	if err := leases.InitLockspace(ctx, dev, 0, leases.Geometry512, "LS", time.Second); err != nil {
		t.Fatal(err)
	}
	ls, err := leases.Join(ctx, leases.LockspaceConfig{Device: dev, Name: "LS", HostID: 2, HostName: "h2", Profile: leases.Dev,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []string{"a", "b", "c"} {
		if off, err := x.Create(ctx, ls, n, 0); err != nil || off != x.OffsetOf(i) {
			t.Fatalf("%s at %d: %v", n, off, err)
		}
	}
	if _, err := x.Create(ctx, ls, "b", 0); !errors.Is(err, ErrExists) {
		t.Errorf("twice: %v", err)
	}
	if err := x.Delete(ctx, ls, "b"); err != nil {
		t.Fatal(err)
	}
	if err := x.Delete(ctx, ls, "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := leases.ReadLeader(ctx, dev, x.OffsetOf(1), "LS", "b"); !errors.Is(err, leases.ErrNoLease) {
		t.Errorf("the deleted lease: %v", err)
	}
	before, err := x.Entries(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := x.Rebuild(ctx); err != nil || n != 2 {
		t.Fatalf("%d resources, %v", n, err)
	}
	after, err := x.Entries(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range before {
		if before[i] != after[i] {
			t.Errorf("slot %d: %+v, rebuilt %+v", i, before[i], after[i])
		}
	}
	if off, err := x.Create(ctx, ls, "d", 7); err != nil || off != x.OffsetOf(1) {
		t.Errorf("the free slot: %d, %v", off, err)
	}
}

// TestCreate_lockHeld: somebody else's lock is respected, and nothing is written.
func TestCreate_lockHeld(t *testing.T) {
	t.Parallel()
	x, _ := formatted(t, 8*mib, 0)
	ctx := testutil.Deadline(t)
	dev := x.cfg.Device
	if err := leases.InitLockspace(ctx, dev, 0, leases.Geometry512, "LS", time.Second); err != nil {
		t.Fatal(err)
	}
	join := func(id int) *leases.Lockspace {
		ls, err := leases.Join(ctx, leases.LockspaceConfig{Device: dev, Name: "LS", HostID: id, HostName: fmt.Sprint("h", id),
			Profile: leases.Dev, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return ls
	}
	holder, other := join(1), join(2)
	err := x.locked(ctx, holder, func(context.Context) error {
		_, err := x.Create(ctx, other, "n", 0)
		return err
	})
	if !errors.Is(err, leases.ErrHeld) {
		t.Errorf("create beside another host's lock: %v", err)
	}
	if _, err := x.Lookup(ctx, "n", 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("it was created all the same: %v", err)
	}
}
