package lun

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// BenchmarkWrite is 4 KiB writes through one connection of the product's client, recorded with their bytes. The processor time is that
// of client and server together; on a busy machine it says more than the rate.
func BenchmarkWrite(b *testing.B) {
	r := newRig(b, 1<<30)
	d, ctx := r.open("a"), testutil.Deadline(b)
	p := payload(1, 4096)
	b.SetBytes(4096)
	b.ResetTimer()
	before := processorTime(b)
	var workers sync.WaitGroup
	const depth = 32
	for w := range depth {
		workers.Go(func() {
			for i := w; i < b.N; i += depth {
				if err := d.WriteAt(ctx, p, int64(i%(1<<17))*4096); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/write")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
