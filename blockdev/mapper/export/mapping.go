package export

import (
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/blockdev"
)

// mapping is where the bytes of the volume are. It is never changed, only replaced.
type mapping struct {
	segs []blockdev.Segment // neighbours are joined
	dev  blockdev.Device    // all of them as one, behind the guard
	size int64              // what of it a client can use
}

// newMapping joins segments. What lies behind limit is of no use to any client.
func newMapping(name string, segs []blockdev.Segment, g blockdev.Guard, limit int64) (*mapping, error) {
	for i, s := range segs {
		if s.Dev == nil {
			return nil, fmt.Errorf("%w: segment %d has no device", ErrMapping, i)
		}
	}
	segs = joined(segs)
	d, err := blockdev.NewLinear(name, segs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMapping, err)
	}
	return &mapping{segs: segs, dev: blockdev.NewGuarded(d, g), size: min(d.Size(), limit)}, nil
}

// joined makes one segment of neighbours that touch on their device too.
func joined(segs []blockdev.Segment) []blockdev.Segment {
	var out []blockdev.Segment
	for _, s := range segs {
		if l := len(out) - 1; l >= 0 && out[l].Dev == s.Dev && out[l].Off+out[l].Len == s.Off {
			out[l].Len += s.Len
			continue
		}
		out = append(out, s)
	}
	return out
}

// extends tells whether the mapping says the same as old where old says anything.
func extends(old, now []blockdev.Segment) bool {
	last := len(old) - 1
	if len(now) <= last || !slices.Equal(old[:last], now[:last]) {
		return false
	}
	a, b := old[last], now[last]
	return a.Dev == b.Dev && a.Off == b.Off && a.Len <= b.Len
}
