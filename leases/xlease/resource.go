package xlease

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/leases"
)

// initResource writes a free resource in the place of record n.
func (v *Volume) initResource(ctx context.Context, n int, id string) error {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.IOTimeout)
	defer cancel()
	return leases.InitResource(ctx, v.dev, resourceOffset(n, v.geo.AlignSize), v.geo, v.cfg.Lockspace, id, v.cfg.NumHosts)
}

// clearResource writes a resource without names, which is VDSM's way to say that there is none.
func (v *Volume) clearResource(ctx context.Context, n int) error {
	head, err := nameless(v.geo, v.cfg.NumHosts)
	if err != nil {
		return err
	}
	area := make([]byte, v.geo.AlignSize)
	copy(area, head)
	off := resourceOffset(n, v.geo.AlignSize) - v.indexOffset()
	if err := v.write(ctx, area, off); err != nil {
		return fmt.Errorf("clearing the resource at %d: %w", off+v.indexOffset(), err)
	}
	return nil
}

// nameless is the start of a resource whose names are empty.
func nameless(geo leases.Geometry, numHosts int) ([]byte, error) {
	b, err := leases.EncodeResource(geo, "-", "-", numHosts)
	if err != nil {
		return nil, err
	}
	var l leases.Leader
	if err := l.Decode(b); err != nil {
		return nil, err
	}
	l.Space, l.Resource = leases.Name{}, leases.Name{}
	l.Encode(b)
	return b, nil
}
