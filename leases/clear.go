package leases

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
)

// ClearResource makes the resource at off unusable until it is initialised again: readers find no lease there. Whoever
// holds it loses it without notice.
func ClearResource(ctx context.Context, dev blockdev.Device, off int64, geo Geometry, lockspace, resource string) error {
	if err := checkRange(dev, off, geo); err != nil {
		return err
	}
	head, err := EncodeResource(geo, lockspace, resource, 0)
	if err != nil {
		return err
	}
	var l Leader
	if err := l.Decode(head); err != nil {
		return err
	}
	l.Magic, l.WriteTimestamp = magicCleared, stamp(clock.System{}.Boot())
	buf := make([]byte, geo.AlignSize)
	copy(buf, head)
	l.Encode(buf)
	if err := writeSync(ctx, dev, buf, off); err != nil {
		return fmt.Errorf("clearing resource %s on %s: %w", resource, dev.Name(), err)
	}
	return nil
}
