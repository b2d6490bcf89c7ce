package spm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// textLocks writes leases as text: the benchmark holds none.
type textLocks struct{}

func (textLocks) InitLockspace(ctx context.Context, dev blockdev.Device, off int64, name string) error {
	return dev.WriteAt(ctx, sectors(name), off)
}

func (textLocks) InitResource(ctx context.Context, dev blockdev.Device, off int64, _, name string) error {
	return dev.WriteAt(ctx, sectors(name), off)
}

func (textLocks) FormatLeaseIndex(context.Context, blockdev.Device, string) error { return nil }

func (textLocks) EncodeResource(_ int, _, name string) ([]byte, error) { return sectors(name), nil }

func sectors(s string) []byte {
	p := make([]byte, 1024)
	copy(p, s)
	return p
}

func noFileSystem(_ context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(1<<30), f.Close())
}

const benchDomain = "8adbc85e-e554-4ae0-b318-8a5465fe5fe1"

// fullDomain makes a domain with n volumes on a sparse file.
func fullDomain(b *testing.B, n int) []blockdev.Device {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
	defer cancel()
	dev, err := blockdev.Open(ctx, testutil.SparseFile(b, "lun", 512<<30), blockdev.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = dev.Close() })
	devs := []blockdev.Device{dev}
	if _, err := domain.Create(ctx, domain.CreateOptions{UUID: benchDomain, Name: "bench", PoolUUID: "5d928855-b09b-47a7-b920-bd2d2eb5808c",
		Master: true, Devices: devs, Locks: textLocks{}, Host: "h1", FormatMaster: noFileSystem, IOTimeout: 30 * time.Second}); err != nil {
		b.Fatal(err)
	}
	d, err := domain.Open(ctx, devs, domain.Options{Locks: textLocks{}, IOTimeout: 30 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	w, _, err := d.BecomeWriter(ctx, &hostGuard{h: &hostLease{held: 3}, epoch: 3})
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, err := w.Create(ctx, domain.VolumeSpec{ID: deriveID("p", "volume", fmt.Sprint(i)), Image: deriveID("p", "image", fmt.Sprint(i)),
				Name: fmt.Sprint("disk ", i), Format: domain.FormatQcow2, Capacity: 100 << 20})
			if err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return devs
}

// BenchmarkRole_start1900 is a takeover of a domain with 1,900 volumes: from lease held to serving, and the whole move.
func BenchmarkRole_start1900(b *testing.B) {
	devs := fullDomain(b, 1900)
	l, r := newLUN(), newRaft(b)
	role, err := New(Config{Host: "h1", HostID: 1, Pool: "p", Lease: &hostLease{l: l, id: 1, done: make(chan struct{})}, Mirror: r.mirror("h1", 1),
		Open: func(ctx context.Context) (Domain, error) {
			d, err := domain.Open(ctx, devs, domain.Options{Locks: textLocks{}, IOTimeout: 30 * time.Second})
			return Disk{d}, err
		}})
	if err != nil {
		b.Fatal(err)
	}
	var held time.Duration
	b.ResetTimer()
	for range b.N {
		rep, err := role.Start(b.Context(), StartRequest{ExpectVersion: l.version})
		if err != nil {
			b.Fatal(err)
		}
		held += rep.Took
		if _, err := role.Stop(b.Context(), StopRequest{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(held.Milliseconds())/float64(b.N), "ms-held-to-serving")
	b.StopTimer()
	_ = role.Close(context.Background())
}
