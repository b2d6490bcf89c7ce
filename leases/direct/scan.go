package direct

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/rindex"
)

// Range is a part of a device to look for lease areas.
type Range struct {
	// Offset of the first area.
	Offset int64
	// Size in bytes, rounded up to whole areas. 0 goes on until the first area that holds no lease.
	Size int64
	// Geometry of the areas. The first record tells it when it is zero, and the device where there is none.
	Geometry leases.Geometry
	// Tolerant goes on where sanlock's dump stops or looks away: what cannot be read, and what was a lease before its
	// first sector was damaged, is noted as damage.
	Tolerant bool
}

// ErrSizes says that neither a record nor the device tells sector and area size.
var ErrSizes = errors.New("cannot find out sector and area size")

// Geometry finds the geometry to read a range with: what the first record in it says. A tolerant range without any has that
// of its index, or the device's default.
func (t Tool) Geometry(ctx context.Context, dev blockdev.Device, regular bool, r Range) (leases.Geometry, error) {
	if r.Geometry != (leases.Geometry{}) {
		return r.Geometry, r.Geometry.Validate()
	}
	geo, err := t.search(ctx, dev, r)
	if err == nil || !r.Tolerant {
		return geo, err
	}
	if geo, err := t.indexSizes(ctx, dev, r.Offset); err == nil {
		return geo, nil
	}
	return defaultGeometry(dev, regular), nil
}

// searchAreas is how many areas are looked at for sizes when nothing says where to stop.
const searchAreas = 1024

// search looks for the first record that tells the sizes, at steps of the smallest area within the range.
func (t Tool) search(ctx context.Context, dev blockdev.Device, r Range) (leases.Geometry, error) {
	step := leases.Geometry512.AlignSize
	end := r.Size
	if end == 0 {
		end = searchAreas * step
	}
	for at := int64(0); ; at += step {
		geo, err := t.sizes(ctx, dev, r.Offset+at)
		switch {
		case err == nil:
			return geo, nil
		case Code(err) != CodeFailed, at+step >= end:
			return geo, errors.Join(ErrSizes, err)
		}
	}
}

// indexSizes takes the sizes from the header of an index.
func (t Tool) indexSizes(ctx context.Context, dev blockdev.Device, off int64) (leases.Geometry, error) {
	buf, err := t.read(ctx, dev, off, probeSize)
	if err != nil {
		return leases.Geometry{}, err
	}
	var h rindex.Header
	if err := h.Decode(buf); err != nil {
		return leases.Geometry{}, err
	}
	if h.Magic != rindex.Magic {
		return leases.Geometry{}, rindex.ErrMagic
	}
	return h.Geometry()
}

// Scan visits the areas of a range in order, those that hold no lease too if the range has a size. It ends without an
// error at the end of the device. geo is what Geometry found.
func (t Tool) Scan(ctx context.Context, dev blockdev.Device, r Range, geo leases.Geometry, visit func(*Area) error) error {
	sectors := r.Size / int64(geo.SectorSize)
	for at := int64(0); sectors == 0 || at < sectors*int64(geo.SectorSize); at += geo.AlignSize {
		a, err := t.area(ctx, dev, r.Offset+at, geo, r.Tolerant)
		switch {
		case errors.Is(err, blockdev.ErrOutOfRange):
			return nil
		case err != nil && r.Tolerant && goesOn(err):
			a.damaged(a.Offset, int(geo.AlignSize), "cannot be read: %v", err)
		case err != nil:
			return err
		case sectors == 0 && (a.Kind == KindOther || a.Kind == KindVDSMIndex || a.Kind == KindCleared):
			return nil
		}
		if err := visit(a); err != nil {
			return err
		}
	}
	return nil
}

// goesOn says whether the next area may be readable although this one is not.
func goesOn(err error) bool {
	return !errors.Is(err, blockdev.ErrGone) && !errors.Is(err, blockdev.ErrPending) && !errors.Is(err, context.Canceled)
}

// area reads as much of an area as its kind needs.
func (t Tool) area(ctx context.Context, dev blockdev.Device, off int64, geo leases.Geometry, tolerant bool) (*Area, error) {
	a := &Area{Offset: off, Geometry: geo}
	if off > dev.Size()-geo.AlignSize {
		return a, blockdev.ErrOutOfRange
	}
	buf, err := t.read(ctx, dev, off, 2*probeSize) // two sectors of any size
	if err != nil {
		return a, err
	}
	a.Kind = kindOf(buf)
	if a.Kind == KindOther && tolerant {
		a.guess(buf)
	}
	n := 0
	switch a.Kind {
	case KindOther, KindVDSMIndex:
		return a, nil
	case KindLockspace, KindIndex:
		n = int(geo.AlignSize)
	case KindResource, KindCleared:
		n = sectorsOf(buf, geo) * geo.SectorSize
	}
	if n > len(buf) {
		if buf, err = t.read(ctx, dev, off, n); err != nil {
			return a, err
		}
	}
	a.decode(buf)
	slices.SortStableFunc(a.Damage, func(x, y Damage) int { return cmp.Compare(x.Offset, y.Offset) })
	return a, nil
}

// sectorsOf is how many sectors of a resource can say anything.
func sectorsOf(b []byte, geo leases.Geometry) int {
	var l leases.Leader
	if l.Decode(b) != nil || l.NumHosts > uint64(geo.MaxHosts()) {
		return geo.MaxHosts() + 2
	}
	return int(l.NumHosts) + 2
}

// Dump opens the device and scans it. opened is called when the device is there, start when the geometry is known.
func (t Tool) Dump(ctx context.Context, path string, r Range, opened func(), start func(leases.Geometry), visit func(*Area) error) (err error) {
	dev, err := t.open(ctx, Place{Path: path}, true, CodeNoDevice)
	switch {
	case Code(err) == CodeShort:
		return errors.Join(ErrSizes, err)
	case err != nil:
		return err
	}
	defer closing(dev, &err)
	opened()
	geo, err := t.Geometry(ctx, dev, isRegular(path), r)
	if err != nil {
		return err
	}
	start(geo)
	return t.Scan(ctx, dev, r, geo, visit)
}
