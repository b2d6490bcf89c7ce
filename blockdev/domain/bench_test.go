package domain

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// fileDomain makes a domain on a sparse file with direct I/O and fills it with volumes.
func fileDomain(b *testing.B, volumes int) (*Domain, blockdev.Device) {
	b.Helper()
	name := testutil.SparseFile(b, "lun", 512*gib)
	lun, err := blockdev.Open(deadline(b), name, blockdev.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = lun.Close() })
	d := newDomain(b, lun)
	w := writer(b, d)
	var wg sync.WaitGroup
	for n := range volumes {
		wg.Go(func() {
			if _, err := w.Create(deadline(b), thin(100000+n)); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	_ = w.Close()
	return d, lun
}

func benchCreate(b *testing.B, volumes, callers int) {
	d, _ := fileDomain(b, volumes)
	w := writer(b, d)
	var next atomic.Int64
	b.ResetTimer()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				n := int(next.Add(1))
				if n > b.N {
					return
				}
				if _, err := w.Create(deadline(b), qcow(n%1000+1000*(n/1000))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "volumes/s")
}

// Run these with -benchtime=400x: a domain has room for 1947 volumes.
func BenchmarkCreate_alone500(b *testing.B)  { benchCreate(b, 500, 1) }
func BenchmarkCreate_alone1500(b *testing.B) { benchCreate(b, 1500, 1) }
func BenchmarkCreate_64callers(b *testing.B) { benchCreate(b, 500, 64) }

func BenchmarkOpen_1900(b *testing.B) {
	_, lun := fileDomain(b, 1900)
	b.ResetTimer()
	for range b.N {
		d := openDomain(b, lun)
		_ = writer(b, d).Close()
	}
}

// benchExtend extends one volume after the other by an extent, in a domain with so many volumes.
func benchExtend(b *testing.B, volumes int) {
	d, _ := fileDomain(b, volumes)
	w := writer(b, d)
	const first = 100000
	for n := 0; b.Loop(); n++ {
		id := volID(first + n%volumes)
		v, ok := d.Volume(id)
		if !ok {
			b.Fatal("no volume")
		}
		if v.AllocatedBytes >= v.MaxAllocation() {
			b.Skip("the volumes have no room to grow; use fewer iterations")
		}
		if _, err := w.Extend(deadline(b), id, v.AllocatedBytes+1); err != nil {
			b.Fatal(err)
		}
	}
}

// An extension at 1,900 volumes may cost at most twice of one at 10.
func BenchmarkExtend_10(b *testing.B)   { benchExtend(b, 10) }
func BenchmarkExtend_1900(b *testing.B) { benchExtend(b, 1900) }
