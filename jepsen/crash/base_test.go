package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

// base is the LUN on which every history begins: a domain with a raw volume, a chain of two, and three external leases. Old
// bytes lie in the extents, lease areas and places that are used next.
type base struct {
	mem   *blockdev.Mem
	pages map[int64]bool // that were ever written
	world world
}

// theBase makes it once for all tests: it is never changed.
var theBase = sync.OnceValue(func() *base { return new(base) })

var makeBase sync.Once

func newBase(t *testing.T) *base {
	t.Helper()
	b := theBase()
	makeBase.Do(func() {
		synctest.Test(t, func(t *testing.T) {
			if err := b.build(bubbleContext(t)); err != nil {
				t.Error(err)
				return
			}
		})
	})
	if b.mem == nil {
		t.Fatal("there is no domain to begin with")
	}
	return b
}

// bubbleContext ends after an hour of virtual time.
func bubbleContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	t.Cleanup(cancel)
	return ctx
}

// noFileSystem takes the place of mke2fs: nobody mounts the master volume.
func noFileSystem(context.Context, string) error { return nil }

func (b *base) build(ctx context.Context) error {
	rec := faulty.NewRecorder(blockdev.NewMem(allLUNs, sector))
	o := domainOptions()
	if _, err := domain.Create(ctx, domain.CreateOptions{UUID: domainID, Name: "data", PoolUUID: poolID, PoolName: "pool", Master: true,
		Devices: []blockdev.Device{window(rec, 0)}, Locks: locks, Leases: locks, Host: "alpha", Now: o.Now, IOTimeout: o.IOTimeout, FormatMaster: noFileSystem}); err != nil {
		return err
	}
	w := &world{dev: rec}
	if err := w.start(ctx); err != nil {
		return err
	}
	if err := w.furnish(ctx); err != nil {
		w.a.crash(ctx)
		return err
	}
	b.pages = map[int64]bool{}
	for _, e := range rec.Log() {
		pagesOf(e, b.pages)
	}
	w.a, w.dead = nil, nil
	b.world, b.mem = *w, rec.Device.(*blockdev.Mem)
	return nil
}

// furnish makes what is there before every history, and stops the agent.
func (w *world) furnish(ctx context.Context) error {
	for _, kind := range "rqclll" {
		if err := w.do(ctx, byte(kind)); err != nil {
			return err
		}
	}
	if err := w.soil(ctx); err != nil {
		return err
	}
	return w.a.stop(ctx)
}

// soil leaves noise where the next volumes and leases will lie.
func (w *world) soil(ctx context.Context) error {
	for _, kind := range "rrl" {
		if err := w.do(ctx, byte(kind)); err != nil {
			return err
		}
	}
	d, err := openDomain(ctx, w.dev, domainOptions())
	if err != nil {
		return err
	}
	noise := bytes.Repeat([]byte("noise..."), 1024)
	for _, v := range w.vols[len(w.vols)-2:] {
		dev, err := d.Device(v.id)
		if err != nil {
			return err
		}
		for off := int64(0); off < dev.Size(); off += 128 * mib {
			if err := dev.WriteAt(ctx, bytes.Repeat(noise, 64), off); err != nil {
				return fmt.Errorf("soiling %s: %w", v.id, err)
			}
		}
	}
	for _, kind := range "ddx" {
		if err := w.do(ctx, byte(kind)); err != nil {
			return err
		}
	}
	return errors.Join(soilLeases(ctx, d), w.soilSpares(ctx))
}

// soilLeases leaves noise in the areas of leases that come next. The leaders stay: they belong to the format.
func soilLeases(ctx context.Context, d *domain.Domain) error {
	noise := bytes.Repeat([]byte("noise..."), 1024)
	dev, err := d.Device("xleases")
	if err != nil {
		return err
	}
	for _, at := range []int64{6*mib + 1024, 6*mib + 64<<10, 7*mib + 4096} {
		if err := dev.WriteAt(ctx, noise, at); err != nil {
			return err
		}
	}
	for slot := 4; slot < 8; slot++ {
		dev, off, err := d.VolumeResource(slot)
		if err != nil {
			return err
		}
		for _, at := range []int64{1024, mib / 2, mib - 8192} {
			if err := dev.WriteAt(ctx, noise, off+at); err != nil {
				return err
			}
		}
	}
	return nil
}
