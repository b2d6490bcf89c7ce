package rindex

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// Config says where an index lies.
type Config struct {
	Device blockdev.Device
	// Offset is where the index area starts, in bytes.
	Offset int64
	// Lockspace that the resources belong to.
	Lockspace string
	// End bounds the leases: no slot that reaches beyond is given out. The device's size when 0; plain files that
	// are allowed to grow may have more.
	End int64
}

func (c *Config) end() int64 {
	if c.End > 0 {
		return c.End
	}
	return c.Device.Size()
}

// Index is an opened index. It keeps nothing of the entries: every call reads them anew.
type Index struct {
	cfg    Config
	header Header
	geo    leases.Geometry
}

// Format writes an empty index and its guarding lease. maxResources is DefaultMaxResources when 0. What lay in the two
// areas is lost.
func Format(ctx context.Context, cfg Config, geo leases.Geometry, maxResources int) error {
	if err := geo.Validate(); err != nil {
		return err
	}
	if maxResources == 0 {
		maxResources = DefaultMaxResources
	}
	if most := int(16000 * geo.AlignSize / mib); maxResources < 0 || maxResources > most {
		return fmt.Errorf("%w: room for %d resources, not %d", ErrFull, most, maxResources)
	}
	if cfg.Offset < 0 || cfg.Offset > cfg.Device.Size()-2*geo.AlignSize {
		return fmt.Errorf("%w: index at %d on %s with %d bytes", blockdev.ErrOutOfRange, cfg.Offset, cfg.Device.Name(), cfg.Device.Size())
	}
	x := &Index{cfg: cfg, geo: geo, header: newHeader(cfg, geo, maxResources)}
	if err := x.writeArea(ctx, nil); err != nil {
		return err
	}
	return leases.InitResource(ctx, cfg.Device, cfg.Offset+geo.AlignSize, geo, cfg.Lockspace, LeaseName, 0)
}

func newHeader(cfg Config, geo leases.Geometry, maxResources int) Header {
	return Header{Magic: Magic, Version: version, Flags: uint32(geo.AlignSize / mib), SectorSize: uint32(geo.SectorSize),
		MaxResources: uint32(maxResources), Offset: uint64(cfg.Offset), Space: leases.RawName(cfg.Lockspace)}
}

// Open reads and verifies the header.
func Open(ctx context.Context, cfg Config) (*Index, error) {
	buf := make([]byte, 4096)
	if err := cfg.Device.ReadAt(ctx, buf, cfg.Offset); err != nil {
		return nil, fmt.Errorf("reading the resource index: %w", err)
	}
	x := &Index{cfg: cfg}
	if err := x.header.Decode(buf); err != nil {
		return nil, err
	}
	if err := x.header.Verify(leases.RawName(cfg.Lockspace), cfg.Offset); err != nil {
		return nil, fmt.Errorf("resource index at %d on %s: %w", cfg.Offset, cfg.Device.Name(), err)
	}
	geo, err := x.header.Geometry()
	if err != nil {
		return nil, err
	}
	x.geo = geo
	return x, nil
}

// Geometry is the sector and area size of the index and its leases.
func (x *Index) Geometry() leases.Geometry { return x.geo }

// Slots is how many resources fit: what the header says, less what sanlock would compute wrongly, less what lies beyond
// the end.
func (x *Index) Slots() int {
	n := min(int64(min(x.header.MaxResources, maxEntries)), (int64(1)<<31)/x.geo.AlignSize,
		(x.geo.AlignSize-int64(x.geo.SectorSize))/entrySize, (x.cfg.end()-x.base())/x.geo.AlignSize)
	return int(max(0, n))
}

// base is where the first lease lies.
func (x *Index) base() int64 { return x.cfg.Offset + 2*x.geo.AlignSize }

// OffsetOf is where the lease of a slot lies.
func (x *Index) OffsetOf(slot int) int64 { return x.base() + int64(slot)*x.geo.AlignSize }

// slotOf is the slot of the lease at off.
func (x *Index) slotOf(off int64) (int, error) {
	d := off - x.base()
	if d < 0 || d%x.geo.AlignSize != 0 || d/x.geo.AlignSize >= int64(x.Slots()) {
		return 0, fmt.Errorf("%w: %d, slots start at %d every %d bytes and there are %d", ErrOffset, off, x.base(), x.geo.AlignSize, x.Slots())
	}
	return int(d / x.geo.AlignSize), nil
}

// Entries reads all slots.
func (x *Index) Entries(ctx context.Context) ([]Entry, error) {
	n := int64(min(x.header.MaxResources, maxEntries)) * entrySize
	n = min((n+4095)/4096*4096+int64(x.geo.SectorSize), x.geo.AlignSize)
	buf := make([]byte, n)
	if err := x.cfg.Device.ReadAt(ctx, buf, x.cfg.Offset); err != nil {
		return nil, fmt.Errorf("reading the resource index: %w", err)
	}
	return x.header.Entries(buf), nil
}

// Found is the answer of a lookup.
type Found struct {
	// Name is empty when the slot is free.
	Name   string
	Offset int64
}

// Lookup answers four questions, without a lock. With a name: where its lease is. With an offset: which name it has.
// With both: whether they belong together. With neither: the first free slot.
func (x *Index) Lookup(ctx context.Context, name string, off int64) (Found, error) {
	entries, err := x.Entries(ctx)
	if err != nil {
		return Found{}, err
	}
	switch {
	case off != 0:
		return x.at(entries, name, off)
	case name != "":
		slot, err := x.find(entries, leases.RawName(name))
		return Found{name, x.OffsetOf(slot)}, err
	}
	slot, err := x.free(entries)
	return Found{"", x.OffsetOf(slot)}, err
}

// at looks at the slot of one offset.
func (x *Index) at(entries []Entry, name string, off int64) (Found, error) {
	d := off - x.base()
	if d < 0 || d%x.geo.AlignSize != 0 || d/x.geo.AlignSize >= int64(len(entries)) {
		return Found{}, fmt.Errorf("%w: %d", ErrOffset, off)
	}
	e := &entries[d/x.geo.AlignSize]
	if name != "" && !e.Name.Equal(leases.RawName(name)) {
		return Found{}, fmt.Errorf("%w: %q is at %d", ErrMismatch, e.Name, off)
	}
	return Found{e.Name.String(), off}, nil
}

// find looks for a name.
func (x *Index) find(entries []Entry, name leases.Name) (int, error) {
	for i := range entries {
		if !entries[i].Free() && entries[i].Name.Equal(name) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrNotFound, name)
}

// free is the first slot that may be given out.
func (x *Index) free(entries []Entry) (int, error) {
	for i := range min(len(entries), x.Slots()) {
		if entries[i].Free() {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: all of %d slots are taken", ErrFull, min(len(entries), x.Slots()))
}

// writeArea writes the whole index with these entries.
func (x *Index) writeArea(ctx context.Context, entries []Entry) error {
	buf := make([]byte, x.geo.AlignSize)
	x.header.Encode(buf)
	for i := range entries {
		entries[i].Encode(buf[x.geo.SectorSize+i*entrySize:])
	}
	return x.write(ctx, buf, 0)
}

// write writes at a byte of the area and makes it durable.
func (x *Index) write(ctx context.Context, buf []byte, at int64) error {
	dev := x.cfg.Device
	if err := dev.WriteAt(ctx, buf, x.cfg.Offset+at); err != nil {
		return fmt.Errorf("writing the resource index: %w", err)
	}
	if err := dev.Flush(ctx); err != nil && !errors.Is(err, blockdev.ErrNotSupported) {
		return fmt.Errorf("writing the resource index: %w", err)
	}
	return nil
}
