package direct

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/rindex"
)

// Kind says what lies in a lease area.
type Kind string

// The kinds of areas.
const (
	KindLockspace Kind = "lockspace"
	KindResource  Kind = "resource"
	KindCleared   Kind = "cleared"
	KindIndex     Kind = "index"
	// KindVDSMIndex is the index of a volume of VM leases. Package leases/xlease reads it.
	KindVDSMIndex Kind = "xlease-index"
	KindOther     Kind = "" // anything else, or nothing
)

// Area is one lease area as it was read. Only the fields of its kind are set.
type Area struct {
	Kind     Kind
	Offset   int64
	Geometry leases.Geometry
	// Leader is the first record of a lockspace or the leader of a resource.
	Leader leases.Leader
	// Hosts are the records of a lockspace whose host ids were ever taken.
	Hosts []HostRecord
	// Request is the request record of a resource.
	Request leases.Request
	// Blocks are the host blocks of a resource that say anything.
	Blocks []HostBlock
	// Index and Entries are an index and its slots that are taken.
	Index   rindex.Header
	Entries []IndexEntry
	// Damage lists what cannot be right, in order of offsets.
	Damage []Damage
}

// HostRecord is the record of a host in a lockspace.
type HostRecord struct {
	Offset int64
	// Slot is the host id whose place it is.
	Slot   int
	Leader leases.Leader
	// Bits are the hosts that this one wants to look at their resources.
	Bits []int
}

// HostBlock is a host's sector in a resource.
type HostBlock struct {
	Offset int64
	Host   int
	Block  leases.DBlock
}

// IndexEntry is a taken slot of an index.
type IndexEntry struct {
	Offset int64
	Slot   int
	Entry  rindex.Entry
}

// Damage says which bytes are wrong, and how.
type Damage struct {
	Offset int64
	Length int
	What   string

	run int // first host of a run of missing records
}

func (a *Area) damaged(off int64, length int, format string, args ...any) {
	a.Damage = append(a.Damage, Damage{Offset: off, Length: length, What: fmt.Sprintf(format, args...)})
}

// kindOf looks at the first bytes of an area.
func kindOf(b []byte) Kind {
	switch leases.MagicOf(b) {
	case leases.MagicHost:
		return KindLockspace
	case leases.MagicResource:
		return KindResource
	case leases.MagicCleared:
		return KindCleared
	case rindex.Magic:
		return KindIndex
	}
	return KindOther
}

// guess looks at an area whose first sector is no record: the second one may tell what it was. Bytes that are neither a
// record nor zero are damage too.
func (a *Area) guess(buf []byte) {
	second := leases.MagicOf(buf[a.Geometry.SectorSize:])
	switch {
	case binary.BigEndian.Uint32(buf) == vdsmMagic:
		a.Kind = KindVDSMIndex
	case second == leases.MagicHost:
		a.Kind = KindLockspace
	case second == leases.MagicRequest:
		a.Kind = KindResource
		a.damaged(a.Offset, 4, "leader: magic 0x%08x", leases.MagicOf(buf))
	case !allZero(buf[:a.Geometry.SectorSize]):
		a.damaged(a.Offset, a.Geometry.SectorSize, "neither a lease record nor empty: magic 0x%08x", leases.MagicOf(buf))
	}
}

// vdsmMagic is what VDSM's index of VM leases begins with, big-endian.
const vdsmMagic = 0x12152016

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// decode fills in what an area of its kind has, from as many of its bytes as were read.
func (a *Area) decode(buf []byte) {
	switch a.Kind {
	case KindLockspace:
		a.decodeHosts(buf)
	case KindResource, KindCleared:
		a.decodeResource(buf)
	case KindIndex:
		a.decodeIndex(buf)
	case KindVDSMIndex, KindOther:
	}
}

// decodeHosts takes every sector for a host's record, as sanlock does.
func (a *Area) decodeHosts(buf []byte) {
	for i := 0; a.Leader.Magic != leases.MagicHost && i < a.Geometry.MaxHosts(); i++ { // the first that is one
		_ = a.Leader.Decode(buf[a.Geometry.SectorOffset(i):]) // one sector is longer than a leader
	}
	a.checkGeometry()
	for i := 0; a.Geometry.SectorOffset(i+1) <= int64(len(buf)); i++ {
		at := a.Geometry.SectorOffset(i)
		h := HostRecord{Offset: a.Offset + at, Slot: i + 1}
		_ = h.Leader.Decode(buf[at:])
		if i < a.Geometry.MaxHosts() {
			a.checkHost(&h)
		}
		if h.Leader.Timestamp == 0 && h.Leader.OwnerID == 0 && h.Leader.OwnerGeneration == 0 {
			continue
		}
		bits, _ := leases.BitmapOf(buf[at:a.Geometry.SectorOffset(i+1)])
		for _, b := range bits.Hosts() {
			if b <= a.Geometry.MaxHosts() {
				h.Bits = append(h.Bits, b)
			}
		}
		a.Hosts = append(a.Hosts, h)
	}
}

// checkHost notes what is wrong with a host's record.
func (a *Area) checkHost(h *HostRecord) {
	l := &h.Leader
	switch {
	case l.Magic != leases.MagicHost:
		a.noRecord(h)
	case l.Version&0xffff0000 != leases.VersionHost&0xffff0000:
		a.damaged(h.Offset+4, 4, "record of host %d: version 0x%08x", h.Slot, l.Version)
	case !l.Intact():
		a.damaged(h.Offset, 172, "record of host %d: checksum 0x%08x does not match", h.Slot, l.Checksum)
	case !l.Space.Equal(a.Leader.Space):
		a.damaged(h.Offset+56, 48, "record of host %d: belongs to lockspace %q", h.Slot, l.Space)
	case l.OwnerID != 0 && l.OwnerID != uint64(h.Slot):
		a.damaged(h.Offset+32, 8, "record of host %d: names host %d", h.Slot, l.OwnerID)
	}
}

// noRecord notes a host's sector that holds no record. A run of them becomes one line.
func (a *Area) noRecord(h *HostRecord) {
	size := a.Geometry.SectorSize
	n := len(a.Damage)
	if n > 0 && a.Damage[n-1].run != 0 && a.Damage[n-1].Offset+int64(a.Damage[n-1].Length) == h.Offset {
		d := &a.Damage[n-1]
		d.Length += size
		d.What = fmt.Sprintf("records of hosts %d to %d: none there", d.run, h.Slot)
		return
	}
	a.damaged(h.Offset, size, "record of host %d: none there, magic 0x%08x", h.Slot, h.Leader.Magic)
	a.Damage[n].run = h.Slot
}

// checkGeometry notes a record that names other sizes than the area was read with.
func (a *Area) checkGeometry() {
	if len(a.Damage) > 0 {
		return // it is no record
	}
	if g, err := a.Leader.Geometry(); err != nil {
		a.damaged(a.Offset+8, 8, "%v", err)
	} else if g != a.Geometry {
		a.damaged(a.Offset+8, 8, "the record names sectors of %d and areas of %d bytes, it was read with %d and %d", g.SectorSize,
			g.AlignSize, a.Geometry.SectorSize, a.Geometry.AlignSize)
	}
}

func (a *Area) decodeResource(buf []byte) {
	l := &a.Leader
	_ = l.Decode(buf)
	a.checkGeometry()
	switch {
	case len(a.Damage) > 0:
	case l.Version&0xffff0000 != leases.VersionResource&0xffff0000:
		a.damaged(a.Offset+4, 4, "leader: version 0x%08x", l.Version)
	case !l.Intact():
		a.damaged(a.Offset, 172, "leader: checksum 0x%08x does not match", l.Checksum)
	case l.NumHosts > uint64(a.Geometry.MaxHosts()) || l.MaxHosts != uint64(a.Geometry.MaxHosts()):
		a.damaged(a.Offset+16, 16, "leader: %d of %d hosts where %d fit", l.NumHosts, l.MaxHosts, a.Geometry.MaxHosts())
	}
	req := a.Geometry.SectorOffset(1)
	if err := a.Request.Decode(buf[req:]); err != nil && a.Kind == KindResource {
		a.damaged(a.Offset+req, 20, "request record: %v", err)
	}
	for h := 1; a.Geometry.SectorOffset(h+2) <= int64(len(buf)) && h <= a.Geometry.MaxHosts(); h++ {
		a.decodeBlock(h, buf[a.Geometry.SectorOffset(h+1):])
	}
}

func (a *Area) decodeBlock(h int, sector []byte) {
	b := HostBlock{Offset: a.Offset + a.Geometry.SectorOffset(h+1), Host: h}
	_ = b.Block.Decode(sector)
	if !b.Block.Valid() {
		a.damaged(b.Offset, 52, "block of host %d: checksum 0x%08x does not match", h, b.Block.Checksum)
	}
	if b.Block.ZeroValue && b.Block.Flags == 0 && b.Block.ModeFlags == 0 {
		return
	}
	a.Blocks = append(a.Blocks, b)
}

func (a *Area) decodeIndex(buf []byte) {
	_ = a.Index.Decode(buf)
	if err := a.Index.Verify(a.Index.Space, a.Offset); err != nil {
		a.damaged(a.Offset, 80, "index: %v", err)
	}
	g, err := a.Index.Geometry()
	if err != nil {
		a.damaged(a.Offset+8, 8, "index: sectors of %d bytes, area flags 0x%x", a.Index.SectorSize, a.Index.Flags)
		return
	}
	for i, e := range a.Index.Entries(buf) {
		if e.Free() {
			continue
		}
		at := a.Offset + int64(g.SectorSize) + int64(i)*64
		a.Entries = append(a.Entries, IndexEntry{Offset: at, Slot: i, Entry: e})
		if want := a.Offset + int64(2+i)*g.AlignSize; e.Offset != uint64(want) {
			a.damaged(at, 8, "index entry %d: offset %d where %d belongs", i, e.Offset, want)
		}
	}
}
