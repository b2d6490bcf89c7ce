package domain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

const (
	testDomain = "8adbc85e-e554-4ae0-b318-8a5465fe5fe1"
	testPool   = "5d928855-b09b-47a7-b920-bd2d2eb5808c"
	lunSize    = 64 * gib
)

// openGuard allows everything; closed it allows nothing.
type openGuard struct {
	epoch  uint64
	closed func() bool
}

func (g openGuard) Check(time.Duration) error {
	if g.closed != nil && g.closed() {
		return blockdev.ErrLeaseLost
	}
	return nil
}
func (g openGuard) Epoch() uint64 { return g.epoch }

func noMaster(_ context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("not a file system"), 1024)
	return errors.Join(err, f.Close())
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func testOptions() Options {
	now := time.Unix(1700000000, 0)
	return Options{Locks: encodingLocks{}, Leases: testLocks{}, IOTimeout: 30 * time.Second, Now: func() time.Time { return now }}
}

func testCreateOptions(devs ...blockdev.Device) CreateOptions {
	return CreateOptions{UUID: testDomain, Name: "test é", PoolUUID: testPool, PoolName: "pool", Master: true, Type: "ISCSI", Devices: devs,
		Locks: encodingLocks{}, Leases: testLocks{}, Host: "test", Now: testOptions().Now, IOTimeout: 30 * time.Second, FormatMaster: noMaster}
}

// newDomain makes a domain in memory.
func newDomain(t testing.TB, devs ...blockdev.Device) *Domain {
	t.Helper()
	if len(devs) == 0 {
		devs = []blockdev.Device{blockdev.NewMem(lunSize, 512)}
	}
	if _, err := Create(deadline(t), testCreateOptions(devs...)); err != nil {
		t.Fatal(err)
	}
	return openDomain(t, devs...)
}

func openDomain(t testing.TB, devs ...blockdev.Device) *Domain {
	t.Helper()
	d, err := Open(deadline(t), devs, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func writer(t testing.TB, d *Domain) *Writer {
	t.Helper()
	w, report, err := d.BecomeWriter(deadline(t), openGuard{epoch: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Actions) > 0 {
		t.Fatalf("unexpected recovery: %v", report.Actions)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func volID(n int) string { return fmt.Sprintf("11111111-0000-4000-8000-%012x", n) }
func imgID(n int) string { return fmt.Sprintf("22222222-0000-4000-8000-%012x", n) }

// qcow is a small thin volume, one extent.
func qcow(n int) VolumeSpec {
	return VolumeSpec{ID: volID(n), Image: imgID(n), Name: fmt.Sprintf("disk %d", n), Format: FormatQcow2, Capacity: 100 * mib}
}

func create(t testing.TB, w *Writer, s VolumeSpec) Volume {
	t.Helper()
	v, err := w.Create(deadline(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// mustBeClean checks the domain as it is on its devices.
func mustBeClean(t testing.TB, devs ...blockdev.Device) {
	t.Helper()
	findings, err := Check(deadline(t), openDomain(t, devs...))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}
