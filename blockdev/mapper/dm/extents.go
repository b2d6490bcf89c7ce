package dm

import (
	"fmt"
)

// Extents are a volume in bytes of block devices, for whoever has no volume group at hand: a process that was told where the volume
// lies. The identity is that of the logical volume, so lvm2 sees the same device.
//
// It goes by a lease, see Freeze.
type Extents struct {
	Identity Identity
	Runs     []Run
	ReadOnly bool
	// Held says that a device that was frozen may go on although it is open: nobody had the volume meanwhile.
	Held bool
	// Demoted says that whoever has the device open reads only, so that it may become one for reading under them.
	Demoted bool
}

// Run is a piece of a block device.
type Run struct {
	Path        string
	OffsetBytes int64
	LengthBytes int64
}

func (e Extents) label() string { return e.Identity.Name }

func (e Extents) plan(m *Mapper) (plan, error) {
	if err := e.Identity.check(); err != nil {
		return plan{}, err
	}
	p := plan{Identity: e.Identity, readOnly: e.ReadOnly, held: e.Held, guarded: true, demoted: e.Demoted}
	devs := map[string]pvDevice{}
	next := int64(0)
	for i, r := range e.Runs {
		dev, ok := devs[r.Path]
		if !ok {
			var err error
			if dev, err = m.cfg.resolve(r.Path); err != nil {
				return plan{}, fmt.Errorf("run %d of %s: %w", i, e.Identity.Name, err)
			}
			devs[r.Path] = dev
		}
		x, err := r.target(next, dev)
		if err != nil {
			return plan{}, fmt.Errorf("run %d of %s: %w", i, e.Identity.Name, err)
		}
		p.table = append(p.table, x)
		next += x.Length
	}
	if next == 0 || next > maxSectors {
		return plan{}, fmt.Errorf("%w: %s has %d sectors", ErrUnmappable, e.Identity.Name, next)
	}
	return p, nil
}

func (r Run) target(start int64, dev pvDevice) (Target, error) {
	x := Target{Start: start, Length: r.LengthBytes / sectorSize, Dev: dev.number, Offset: r.OffsetBytes / sectorSize}
	if r.OffsetBytes < 0 || r.LengthBytes <= 0 || r.OffsetBytes%sectorSize != 0 || r.LengthBytes%sectorSize != 0 ||
		x.Length > dev.sectors || x.Offset > dev.sectors-x.Length {
		return Target{}, fmt.Errorf("%w: %d bytes from byte %d do not lie on %s, which has %d sectors: rescan the LUN if it has grown",
			ErrUnmappable, r.LengthBytes, r.OffsetBytes, dev.path, dev.sectors)
	}
	return x, nil
}

// CheckPath tells whether a device can be mapped at all: whether it is a block device of this machine.
func CheckPath(path string) error {
	_, err := resolvePV(path)
	return err
}

var (
	_ Source = Volume{}
	_ Source = Extents{}
)
