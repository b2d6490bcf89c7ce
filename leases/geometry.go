package leases

import (
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
)

const (
	mib = int64(1) << 20

	flagAlignMask = 0xf0
)

// Geometry is the size of sectors and of lease areas. The zero value is not valid.
type Geometry struct {
	// SectorSize is 512 or 4096 bytes.
	SectorSize int `json:"sector_size"`
	// AlignSize is the size of one lease area in bytes: 1 MiB with 512-byte sectors, else 1, 2, 4 or 8 MiB.
	AlignSize int64 `json:"align_size"`
}

// Geometry512 is what 512-byte devices and plain files use.
var Geometry512 = Geometry{SectorSize: 512, AlignSize: mib}

// DefaultGeometry is what sanlock uses for a sector size when nothing is asked for.
func DefaultGeometry(sectorSize int) Geometry {
	if sectorSize == 4096 {
		return Geometry{SectorSize: 4096, AlignSize: 8 * mib}
	}
	return Geometry512
}

// Validate refuses combinations that sanlock does not know.
func (g Geometry) Validate() error {
	if g.alignFlag() == 0 {
		return fmt.Errorf("%w: sectors of %d bytes with lease areas of %d bytes", ErrGeometry, g.SectorSize, g.AlignSize)
	}
	return nil
}

// MaxHosts is the highest host id that has room in a lease area.
func (g Geometry) MaxHosts() int {
	switch {
	case g.alignFlag() == 0:
		return 0
	case g.SectorSize == 512:
		return 2000
	}
	return int(250 * (g.AlignSize / mib))
}

// alignFlag is the leader flag that names the area size, 0 when the combination is not legal.
func (g Geometry) alignFlag() uint32 {
	switch {
	case g.SectorSize == 512 && g.AlignSize == mib, g.SectorSize == 4096 && g.AlignSize == mib:
		return 0x10
	case g.SectorSize == 4096 && g.AlignSize == 2*mib:
		return 0x20
	case g.SectorSize == 4096 && g.AlignSize == 4*mib:
		return 0x40
	case g.SectorSize == 4096 && g.AlignSize == 8*mib:
		return 0x80
	}
	return 0
}

// sector is the byte offset of sector i within an area.
func (g Geometry) sector(i int) int64 { return int64(i) * int64(g.SectorSize) }

// geometryOf reads the geometry out of a leader. Records of old writers carry no align flag.
func geometryOf(l *Leader) (Geometry, error) {
	g := Geometry{SectorSize: int(l.SectorSize)}
	switch l.Flags & flagAlignMask {
	case 0:
		g = DefaultGeometry(g.SectorSize)
	case 0x10:
		g.AlignSize = mib
	case 0x20:
		g.AlignSize = 2 * mib
	case 0x40:
		g.AlignSize = 4 * mib
	case 0x80:
		g.AlignSize = 8 * mib
	}
	if int(l.SectorSize) != g.SectorSize {
		return Geometry{}, fmt.Errorf("%w: the record says sectors of %d bytes", ErrGeometry, l.SectorSize)
	}
	return g, g.Validate()
}

// checkRange refuses an area that does not fit the device or its sectors.
func checkRange(dev blockdev.Device, off int64, g Geometry) error {
	if err := g.Validate(); err != nil {
		return err
	}
	if g.SectorSize < dev.SectorSize() {
		return fmt.Errorf("%w: lease sectors of %d bytes on %s, whose sectors have %d", ErrGeometry, g.SectorSize, dev.Name(), dev.SectorSize())
	}
	if off < 0 || off%int64(g.SectorSize) != 0 || off > dev.Size()-g.AlignSize {
		return fmt.Errorf("%w: lease area at %d on %s with %d bytes", ErrGeometry, off, dev.Name(), dev.Size())
	}
	return nil
}
