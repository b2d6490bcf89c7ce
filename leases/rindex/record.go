package rindex

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/leases"
)

const (
	// Magic is the number an index starts with.
	Magic = 0x01042018
	// LeaseName is the resource that guards an index.
	LeaseName = "rindex_lease"
	// DefaultMaxResources is what Format writes when nothing is asked for.
	DefaultMaxResources = 4096

	version    = 0x00010002
	headerSize = 80
	entrySize  = 64
	mib        = int64(1) << 20
)

var (
	// ErrMagic says that there is no index here.
	ErrMagic = errors.New("no resource index here")
	// ErrVersion says that the index was written in a format this program does not know.
	ErrVersion = errors.New("resource index has an unknown format version")
	// ErrLockspace says that the index belongs to another lockspace.
	ErrLockspace = errors.New("resource index belongs to another lockspace")
	// ErrOffset says that an offset is not one of a lease in this index, or that the index was made for another place.
	ErrOffset = errors.New("offset does not belong to this resource index")
	// ErrNotFound says that no entry has this name.
	ErrNotFound = errors.New("no such resource in the index")
	// ErrMismatch says that name and offset belong to different entries.
	ErrMismatch = errors.New("name and offset do not belong together")
	// ErrFull says that no slot is free.
	ErrFull = errors.New("resource index is full")
	// ErrExists says that the name is in the index already.
	ErrExists = errors.New("resource is in the index already")
)

// Header is the first record of an index.
type Header struct {
	Magic, Version, Flags    uint32
	SectorSize, MaxResources uint32
	Unused                   uint32
	Offset                   uint64
	Space                    leases.Name
}

// Decode fills h from the first 80 bytes of b without judging them. It fails only when b is too short.
func (h *Header) Decode(b []byte) error {
	if len(b) < headerSize {
		return fmt.Errorf("%w: header of %d bytes", ErrMagic, len(b))
	}
	le := binary.LittleEndian
	*h = Header{Magic: le.Uint32(b), Version: le.Uint32(b[4:]), Flags: le.Uint32(b[8:]), SectorSize: le.Uint32(b[12:]),
		MaxResources: le.Uint32(b[16:]), Unused: le.Uint32(b[20:]), Offset: le.Uint64(b[24:])}
	copy(h.Space[:], b[32:])
	return nil
}

// Encode writes the 80 bytes of h into b.
func (h *Header) Encode(b []byte) {
	_ = b[headerSize-1]
	le := binary.LittleEndian
	for i, v := range [...]uint32{h.Magic, h.Version, h.Flags, h.SectorSize, h.MaxResources, h.Unused} {
		le.PutUint32(b[4*i:], v)
	}
	le.PutUint64(b[24:], h.Offset)
	copy(b[32:headerSize], h.Space[:])
}

// Verify checks that h is the header of space's index at byte offset off, in sanlock's order.
func (h *Header) Verify(space leases.Name, off int64) error {
	switch {
	case h.Magic != Magic:
		return fmt.Errorf("%w: magic 0x%08x", ErrMagic, h.Magic)
	case h.Version&0xffff0000 != version&0xffff0000:
		return fmt.Errorf("%w: 0x%08x", ErrVersion, h.Version)
	case !h.Space.Equal(space):
		return fmt.Errorf("%w: %q", ErrLockspace, h.Space)
	case h.Offset != uint64(off):
		return fmt.Errorf("%w: it was made for offset %d and lies at %d", ErrOffset, h.Offset, off)
	}
	return nil
}

// Geometry is the geometry that the header names.
func (h *Header) Geometry() (leases.Geometry, error) {
	g := leases.Geometry{SectorSize: int(h.SectorSize), AlignSize: int64(h.Flags&0xf) * mib}
	if h.SectorSize != 512 && h.SectorSize != 4096 {
		return leases.Geometry{}, fmt.Errorf("%w: sectors of %d bytes", leases.ErrGeometry, h.SectorSize)
	}
	return g, g.Validate()
}

// Entry says which resource has a slot.
type Entry struct {
	Offset uint64
	Flags  uint32
	Unused uint32
	Name   leases.Name
}

// Free says that the slot stands for no resource.
func (e *Entry) Free() bool { return e.Offset == 0 && e.Name[0] == 0 }

// Decode fills e from the first 64 bytes of b. It fails only when b is too short.
func (e *Entry) Decode(b []byte) error {
	if len(b) < entrySize {
		return fmt.Errorf("index entry of %d bytes", len(b))
	}
	le := binary.LittleEndian
	*e = Entry{Offset: le.Uint64(b), Flags: le.Uint32(b[8:]), Unused: le.Uint32(b[12:])}
	copy(e.Name[:], b[16:])
	return nil
}

// Encode writes the 64 bytes of e into b.
func (e *Entry) Encode(b []byte) {
	_ = b[entrySize-1]
	le := binary.LittleEndian
	le.PutUint64(b, e.Offset)
	le.PutUint32(b[8:], e.Flags)
	le.PutUint32(b[12:], e.Unused)
	copy(b[16:entrySize], e.Name[:])
}

// Entries decodes the slots of an index area, as many as the header allows and the area holds.
func (h *Header) Entries(area []byte) []Entry {
	n := min(int(min(h.MaxResources, maxEntries)), max(0, len(area)-int(h.SectorSize))/entrySize)
	l := make([]Entry, max(0, n))
	for i := range l {
		_ = l[i].Decode(area[int(h.SectorSize)+i*entrySize:]) // n leaves room for each
	}
	return l
}

// maxEntries is what the largest area has room for.
const maxEntries = 128000
