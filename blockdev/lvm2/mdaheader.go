package lvm2

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// mdaMagic marks a metadata area header.
var mdaMagic = [16]byte{0x20, 0x4c, 0x56, 0x4d, 0x32, 0x20, 0x78, 0x5b, 0x35, 0x41, 0x25, 0x72, 0x30, 0x4e, 0x2a, 0x3e}

const (
	mdaVersion  = 1
	mdaHeader   = sector // bytes of the header; the ring begins behind it
	slotIgnored = 1      // flag of slot 0: this area is neither read nor written
	minMDA      = 8 * 4096
)

// slot points to a text in the ring: offset from the start of the area, size with the final NUL, CRC.
type slot struct {
	offset, size  int64
	sum, slotFlag uint32
}

// empty is true when the slot points to nothing.
func (s slot) empty() bool { return s.offset == 0 }

// sameText tells whether both slots name the same text, wherever it lies.
func (s slot) sameText(o slot) bool { return s.size == o.size && s.sum == o.sum }

// mdaHead is a decoded metadata area header.
//
//	 0  4  CRC of bytes 4..511
//	 4 16  magic
//	20  4  version 1
//	24  8  start of the area on the device
//	32  8  size of the area, header included
//	40 24  slot 0, committed: offset 8, size 8, CRC 4, flags 4
//	64 24  slot 1, precommitted
type mdaHead struct {
	area  byteRange
	slots [2]slot
}

// ignored is true when the area is not in use.
func (h *mdaHead) ignored() bool { return h.slots[0].slotFlag&slotIgnored != 0 }

// decodeMDA decodes the header of the area at want.
func decodeMDA(p []byte, want byteRange) (*mdaHead, error) {
	bad := func(off, length int64, format string, args ...any) (*mdaHead, error) {
		return nil, &CorruptError{What: "metadata header", Offset: want.off + off, Length: length,
			Reason: fmt.Sprintf(format, args...), Readable: "the texts in the ring may still be readable"}
	}
	if len(p) < mdaHeader {
		return bad(0, mdaHeader, "only %d bytes", len(p))
	}
	if binary.LittleEndian.Uint32(p) != checksum(p[4:mdaHeader]) {
		return bad(0, mdaHeader, "checksum mismatch")
	}
	if !bytes.Equal(p[4:20], mdaMagic[:]) || binary.LittleEndian.Uint32(p[20:]) != mdaVersion {
		return bad(4, 20, "not a metadata area of version %d", mdaVersion)
	}
	start, size := binary.LittleEndian.Uint64(p[24:]), binary.LittleEndian.Uint64(p[32:])
	if start != uint64(want.off) {
		return bad(24, 8, "header says it starts at %d", start)
	}
	if size != uint64(want.size) || size < 2*mdaHeader {
		return bad(32, 8, "header says %d bytes, the label %d", size, want.size)
	}
	h := &mdaHead{area: want}
	for i := range h.slots {
		at := 40 + 24*i
		s, err := decodeSlot(p[at:at+24], want.size, i == 0)
		if err != nil {
			return bad(int64(at), 24, "slot %d: %v", i, err)
		}
		h.slots[i] = s
	}
	return h, nil
}

// decodeSlot decodes one slot and checks it against the size of the area.
func decodeSlot(p []byte, area int64, committed bool) (slot, error) {
	off, size := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
	s := slot{sum: binary.LittleEndian.Uint32(p[16:]), slotFlag: binary.LittleEndian.Uint32(p[20:])}
	if off == 0 && size == 0 {
		return s, nil
	}
	if committed && s.slotFlag&slotIgnored != 0 && (off >= uint64(area) || size > uint64(area)) {
		return s, nil // stale by definition
	}
	if off < mdaHeader || off >= uint64(area) {
		return s, fmt.Errorf("text offset %d is outside the ring", off)
	}
	if size == 0 || size > uint64(area-mdaHeader) || size >= 1<<32 {
		return s, fmt.Errorf("text size %d is impossible", size)
	}
	s.offset, s.size = int64(off), int64(size)
	return s, nil
}

// encode writes the header into a sector of its own.
func (h *mdaHead) encode() []byte {
	p := make([]byte, mdaHeader)
	copy(p[4:], mdaMagic[:])
	binary.LittleEndian.PutUint32(p[20:], mdaVersion)
	binary.LittleEndian.PutUint64(p[24:], uint64(h.area.off))
	binary.LittleEndian.PutUint64(p[32:], uint64(h.area.size))
	for i, s := range h.slots {
		q := p[40+24*i:]
		binary.LittleEndian.PutUint64(q, uint64(s.offset))
		binary.LittleEndian.PutUint64(q[8:], uint64(s.size))
		binary.LittleEndian.PutUint32(q[16:], s.sum)
		binary.LittleEndian.PutUint32(q[20:], s.slotFlag)
	}
	binary.LittleEndian.PutUint32(p, checksum(p[4:]))
	return p
}
