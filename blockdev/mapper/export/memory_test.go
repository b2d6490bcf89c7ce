package export

import (
	"sync"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// TestProcess_memory: clients that ask for all they can at once do not make the process large.
func TestProcess_memory(t *testing.T) {
	t.Parallel()
	spec := testSpec(t, testutil.SparseFile(t, "lun", 64*mib), 64*mib, 64*mib)
	e := mustStart(t, spec)
	ctx := testutil.Deadline(t)
	var wg sync.WaitGroup
	for i := range 4 {
		d, err := blockdev.Open(ctx, e.uri, blockdev.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for k := range 8 {
			wg.Go(func() {
				p := make([]byte, 4*mib)
				off := int64((i*8+k)%16) * 4 * mib
				for range 4 {
					if err := d.WriteAt(ctx, p, off); err != nil {
						t.Error(err)
					}
					if err := d.ReadAt(ctx, p, off); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	peak := memoryKiB(t, e.PID, "VmHWM")
	t.Logf("peak resident memory: %d KiB", peak)
	if peak > 40<<10 && !raceOn { // the race detector takes memory of its own
		t.Errorf("peak resident memory %d KiB", peak)
	}
}
