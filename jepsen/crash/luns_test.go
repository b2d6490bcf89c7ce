package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// The LUNs of a history lie behind each other on one recorded device, so that what is lost and what is torn is one order for all of
// them. A flush of one is a flush of all then; that each is flushed for itself is for the crash tests of blockdev/domain to show.
const (
	spares    = 3 // LUNs that operation p adds, one after the other
	spareSize = gib
	allLUNs   = lunSize + spares*spareSize
)

// window is the LUN of that number on a device.
func window(dev blockdev.Device, n int) blockdev.Device {
	seg := blockdev.Segment{Dev: dev, Len: lunSize}
	if n > 0 {
		seg.Off, seg.Len = lunSize+int64(n-1)*spareSize, spareSize
	}
	l, err := blockdev.NewLinear(fmt.Sprint("lun", n), []blockdev.Segment{seg})
	if err != nil {
		panic(err) // the numbers above are wrong
	}
	return l
}

// openDomain opens the domain with the LUNs that it has, as a host does.
func openDomain(ctx context.Context, dev blockdev.Device, o domain.Options) (*domain.Domain, error) {
	devs := []blockdev.Device{window(dev, 0)}
	for {
		d, err := domain.Open(ctx, devs, o)
		var missing *lvm2.MissingPVError
		if !errors.As(err, &missing) || len(devs) > spares {
			return d, err
		}
		devs = append(devs, window(dev, len(devs)))
	}
}

// soilSpares leaves noise on the LUNs that are added later, which is no signature of anything.
func (w *world) soilSpares(ctx context.Context) error {
	noise := bytes.Repeat([]byte("noise..."), 8192)
	for n := 1; n <= spares; n++ {
		lun := window(w.dev, n)
		for _, off := range []int64{0, 129 * mib, lun.Size() - 128*mib, lun.Size() - 64<<10} {
			if err := lun.WriteAt(ctx, noise, off); err != nil {
				return fmt.Errorf("soiling LUN %d: %w", n, err)
			}
		}
	}
	return nil
}
