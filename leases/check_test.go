package leases

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

func TestCheckLockspace(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	dev := blockdev.NewMem(4<<20, 512)
	if err := InitLockspace(ctx, dev, 1<<20, Geometry512, "space", time.Second); err != nil {
		t.Fatal(err)
	}
	if bad, err := CheckLockspace(ctx, dev, 1<<20, Geometry512, "space", 250); err != nil || len(bad) != 0 {
		t.Fatalf("a fresh lockspace: %v %v", bad, err)
	}
	sector := make([]byte, 512)
	if err := dev.ReadAt(ctx, sector, 1<<20+2*512); err != nil {
		t.Fatal(err)
	}
	sector[40]++ // the generation of host 3, without a new checksum
	if err := dev.WriteAt(ctx, sector, 1<<20+2*512); err != nil {
		t.Fatal(err)
	}
	if err := dev.WriteAt(ctx, make([]byte, 512), 1<<20+6*512); err != nil {
		t.Fatal(err)
	}
	bad, err := CheckLockspace(ctx, dev, 1<<20, Geometry512, "space", 250)
	if err != nil || len(bad) != 2 || !errors.Is(bad[3], ErrCorrupt) || !errors.Is(bad[7], ErrNoLease) {
		t.Fatalf("%v %v", bad, err)
	}
	if bad, err := CheckLockspace(ctx, dev, 1<<20, Geometry512, "other", 2); err != nil || len(bad) != 2 {
		t.Fatalf("another lockspace's records: %v %v", bad, err)
	}
	if _, err := CheckLockspace(ctx, dev, 1<<20, Geometry512, "space", 2001); !errors.Is(err, ErrHostIDRange) {
		t.Fatalf("more hosts than fit: %v", err)
	}
}
