package direct

import (
	"context"
	"math"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/rindex"
)

// FormatIndex makes an empty resource index. The geometry is the device's default when zero.
func (t Tool) FormatIndex(ctx context.Context, p Place, space string, geo leases.Geometry) (err error) {
	dev, geo, err := t.writable(ctx, p, geo, 2, 0)
	if err != nil {
		return err
	}
	defer closing(dev, &err)
	ctx, cancel := context.WithTimeout(ctx, 2*initTimeout)
	defer cancel()
	return rindex.Format(ctx, rindex.Config{Device: dev, Offset: p.Offset, Lockspace: space}, geo, 0)
}

// LookupIndex finds an offset by name, a name by offset, checks a pair, or finds a free slot when given neither.
func (t Tool) LookupIndex(ctx context.Context, p Place, space, name string, off int64) (found rindex.Found, err error) {
	err = t.withIndex(ctx, p, space, true, t.IOTimeout, func(ctx context.Context, x *rindex.Index) error {
		found, err = x.Lookup(ctx, name, off)
		return err
	})
	return found, err
}

// UpdateIndex gives the slot at off to name, or frees it when remove is set.
func (t Tool) UpdateIndex(ctx context.Context, p Place, space, name string, off int64, remove bool) error {
	return t.withIndex(ctx, p, space, false, t.IOTimeout, func(ctx context.Context, x *rindex.Index) error {
		switch {
		case off == 0, name == "" && !remove:
			return codef(CodeInvalid, "name and offset are needed")
		case remove:
			name = ""
		}
		return x.Update(ctx, name, off)
	})
}

// RebuildIndex makes the index anew from the leases behind it.
func (t Tool) RebuildIndex(ctx context.Context, p Place, space string) error {
	return t.withIndex(ctx, p, space, false, initTimeout, func(ctx context.Context, x *rindex.Index) error {
		_, err := x.Rebuild(ctx)
		return err
	})
}

func (t Tool) withIndex(ctx context.Context, p Place, space string, readOnly bool, limit time.Duration,
	f func(context.Context, *rindex.Index) error) (err error) {
	dev, err := t.open(ctx, p, readOnly, 0)
	if err != nil {
		return err
	}
	defer closing(dev, &err)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	x, err := rindex.Open(ctx, rindex.Config{Device: dev, Offset: p.Offset, Lockspace: space, End: end(dev, p)})
	if err != nil {
		return err
	}
	return f(ctx, x)
}

// end is where leases must end: nowhere on a file, which grows.
func end(dev blockdev.Device, p Place) int64 {
	if isRegular(p.Path) {
		return math.MaxInt64
	}
	return dev.Size()
}
