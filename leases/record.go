package leases

import (
	"encoding/binary"
	"fmt"
)

// Magic numbers at the start of a record: they tell what it is. Tools that look at any sector need them.
const (
	MagicHost     = magicDelta    // a host's record in a lockspace
	MagicResource = magicResource // the leader of a resource
	MagicCleared  = magicCleared  // the leader of a resource that was cleared
	MagicRequest  = magicRequest  // the request record of a resource
)

// Versions that are written. A reader compares the upper 16 bits.
const (
	VersionHost     = versionDelta
	VersionResource = versionResource
	VersionRequest  = versionRequest
)

// MagicOf is the number at the start of a sector, 0 when b is too short to have one.
func MagicOf(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// RawName makes a name as sanlock's tools do: any string, cut at its first zero byte and at 48 bytes, empty allowed.
// Leases are created with MakeName, which refuses what this one cuts.
func RawName(s string) Name {
	var n Name
	copy(n[:], s)
	for i := range n {
		if n[i] == 0 {
			clear(n[i:])
			break
		}
	}
	return n
}

// Equal compares names up to the first zero byte, as sanlock does.
func (n Name) Equal(o Name) bool { return n.equal(o) }

// Intact says whether the checksum that was decoded matches the fields.
func (l *Leader) Intact() bool {
	c, b := *l, [leaderSize]byte{}
	c.Encode(b[:])
	return c.Checksum == l.Checksum
}

// Geometry is the geometry that the record names. It fails for combinations that do not exist.
func (l *Leader) Geometry() (Geometry, error) { return geometryOf(l) }

// ShortHold says that the resource is held only for as long as it takes to get it shared.
func (l *Leader) ShortHold() bool { return l.Flags&flagShortHold != 0 }

// AlignFlag is the flag with which a leader names the area size, 0 when the combination does not exist.
func (g Geometry) AlignFlag() uint32 { return g.alignFlag() }

// SectorOffset is the byte offset of sector i within an area.
func (g Geometry) SectorOffset(i int) int64 { return g.sector(i) }

// Hosts lists the hosts that are marked, in order.
func (m *Bitmap) Hosts() []int {
	var l []int
	for h := 1; h <= 8*bitmapSize; h++ {
		if m.Has(h) {
			l = append(l, h)
		}
	}
	return l
}

// BitmapOf is the bitmap in a host's sector.
func BitmapOf(sector []byte) (Bitmap, error) {
	var m Bitmap
	if len(sector) < bitmapOffset+bitmapSize {
		return m, fmt.Errorf("%w: sector of %d bytes has no room for a bitmap", ErrCorrupt, len(sector))
	}
	copy(m[:], sector[bitmapOffset:])
	return m, nil
}
