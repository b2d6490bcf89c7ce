package lvm2

import "slices"

// VG is a volume group as one metadata text describes it. It is immutable: a transaction makes a new one. Everything
// the text has is kept, known or not, and written back.
type VG struct {
	Name       string
	ID         string // hyphenated
	Seqno      uint32
	ExtentSize int64 // bytes
	Status     []string
	Flags      []string
	Tags       []string
	PVs        []PV
	LVs        []*LV // in the order of the text: visible ones first

	head     []item // keys before physical_volumes, as they stand
	tail     []item // sections and keys behind logical_volumes
	index    lvIndex
	free     freeMap
	foreign  []string // reasons why this package must not write
	unknown  bool     // has segment types whose use of extents cannot be known
	history  []string // names of historical volumes
	textSize int64    // size of the text it was read from or written as, NUL included
}

// PV is a physical volume as the metadata text lists it.
type PV struct {
	ID      string // hyphenated
	Device  string // hint only
	DevSize int64  // bytes; hint only, lvm2 does not keep it right
	PEStart int64  // bytes
	PECount int64
	Status  []string
	Flags   []string
	Tags    []string

	name   string // pv0, pv1...: what segments call it in this text
	text   string // the section
	usable int64  // extents that lie on the device; PECount unless the device shrank
}

// Allocatable is true when new extents may be taken from the PV.
func (p *PV) Allocatable() bool {
	return slices.Contains(p.Status, "ALLOCATABLE") && !p.missing()
}

func (p *PV) missing() bool {
	return slices.Contains(p.Flags, "MISSING") || slices.Contains(p.Status, "MISSING")
}

// LV is a logical volume. It is immutable, and always the result of parsing its own text: an edit changes the text
// and parses it again, so the two cannot differ.
type LV struct {
	Name     string
	ID       string // hyphenated
	Status   []string
	Flags    []string
	Tags     []string
	Segments []Seg
	Created  int64  // unix seconds, 0 when not recorded
	Host     string // where it was created
	// Foreign marks a volume that is not a plain linear one on physical volumes, or that another one uses. It is
	// shown and kept, never changed.
	Foreign bool

	extents int64
	text    string // the section, from the name to the closing brace
}

// Extents is the size in extents.
func (l *LV) Extents() int64 { return l.extents }

// Visible is false for the internal volumes of lvm2.
func (l *LV) Visible() bool { return slices.Contains(l.Status, "VISIBLE") }

// Writable is false for a read-only volume.
func (l *LV) Writable() bool {
	return slices.Contains(l.Status, "WRITE") || slices.Contains(l.Flags, "WRITE_LOCKED")
}

// HasTag tells whether the volume carries the tag.
func (l *LV) HasTag(tag string) bool { return slices.Contains(l.Tags, tag) }

// Seg is a run of extents of a logical volume.
type Seg struct {
	StartExtent int64
	ExtentCount int64
	Type        string // as in the text; linear ones are "striped"
	Areas       []Area // where it lies; empty for types without physical extents
}

// Area is a place on a physical volume. PV is -1 when the area is another logical volume.
type Area struct {
	PV      int
	StartPE int64
}

// LV finds a logical volume by name; nil when there is none.
func (vg *VG) LV(name string) *LV { return vg.index.get(name) }

// Size is the size of a logical volume in bytes.
func (vg *VG) Size(lv *LV) int64 { return lv.extents * vg.ExtentSize }

// Extents is the number of extents that bytes need.
func (vg *VG) Extents(bytes int64) int64 {
	n := bytes / vg.ExtentSize
	if bytes%vg.ExtentSize != 0 {
		n++
	}
	return n
}

// FreeExtents is the number of extents that can be allocated.
func (vg *VG) FreeExtents() int64 {
	n := int64(0)
	for i := range vg.PVs {
		if vg.PVs[i].Allocatable() {
			n += vg.free.pvs[i].free
		}
	}
	return n
}

// TotalExtents is the number of extents of all physical volumes.
func (vg *VG) TotalExtents() int64 {
	n := int64(0)
	for i := range vg.PVs {
		n += vg.PVs[i].PECount
	}
	return n
}

// FreeOf is the number of free extents of one physical volume.
func (vg *VG) FreeOf(pv int) int64 { return vg.free.pvs[pv].free }

// TextSize is the size of the metadata text in bytes, including the final NUL.
func (vg *VG) TextSize() int64 { return vg.textSize }

// HasTag tells whether the volume group carries the tag.
func (vg *VG) HasTag(tag string) bool { return slices.Contains(vg.Tags, tag) }

// Foreign lists the reasons why this package must not write the volume group; none when it may.
func (vg *VG) Foreign() []string { return slices.Clone(vg.foreign) }
