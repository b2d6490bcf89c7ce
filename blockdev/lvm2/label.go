package lvm2

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Sizes and places of the label. A sector is 512 bytes everywhere in the format.
const (
	sector       = 512
	labelSectors = 4 // the label is one of the first four sectors
	labelSector  = 1 // where new labels go
	labelBody    = 32
	extVersion   = 2
	extUsed      = 1 // extension flag: the PV belongs to a VG
	maxMDAs      = 2
)

// extent of bytes on a device: data area, metadata area or bootloader area.
type byteRange struct{ off, size int64 }

// label is the decoded label sector with the PV header in it.
//
//	sector  0  8  "LABELONE"
//	        8  8  number of the sector the label lies in
//	       16  4  CRC of bytes 20..511
//	       20  4  offset of the PV header: 32
//	       24  8  "LVM2 001"
//	PV hdr  0 32  PV uuid without hyphens
//	       32  8  device size in bytes
//	       40 16* data areas (offset, size), ended by offset 0
//	          16* metadata areas, ended by offset 0
//	           4  extension version, 4 flags, 16* bootloader areas
type label struct {
	sector     int64
	uuid       string // hyphenated
	deviceSize int64
	data       []byteRange
	mdas       []byteRange
	extVersion uint32
	extFlags   uint32
	boot       []byteRange
}

// used is true when the header says that a VG uses the PV.
func (l *label) used() bool { return l.extVersion >= 2 && l.extFlags&extUsed != 0 }

// findLabel looks for the first valid label in the first sectors of a device.
func findLabel(head []byte) (*label, error) {
	var damage error
	for n := int64(0); n < labelSectors && (n+1)*sector <= int64(len(head)); n++ {
		s := head[n*sector : (n+1)*sector]
		if !bytes.Equal(s[:8], []byte("LABELONE")) {
			continue
		}
		l, err := decodeLabel(s, n)
		if err == nil {
			return l, nil
		}
		if damage == nil {
			damage = err
		}
	}
	if damage != nil {
		return nil, damage
	}
	return nil, ErrNotPV
}

// decodeLabel decodes the label in sector n.
func decodeLabel(s []byte, n int64) (*label, error) {
	bad := func(off, length int64, reason string) (*label, error) {
		return nil, &CorruptError{What: "label", Offset: n*sector + off, Length: length, Reason: reason,
			Readable: "metadata areas and data are untouched; pvck --repair can write a new label"}
	}
	if len(s) < sector || !bytes.Equal(s[:8], []byte("LABELONE")) {
		return bad(0, 8, "no label id")
	}
	if got := binary.LittleEndian.Uint64(s[8:]); got != uint64(n) {
		return bad(8, 8, fmt.Sprintf("label says it is in sector %d", got))
	}
	if sum := binary.LittleEndian.Uint32(s[16:]); sum != checksum(s[20:sector]) {
		return bad(16, sector-16, "checksum mismatch")
	}
	if !bytes.Equal(s[24:32], []byte("LVM2 001")) {
		return bad(24, 8, "label of an unknown type")
	}
	off := binary.LittleEndian.Uint32(s[20:])
	if off < labelBody || off > sector-40 {
		return bad(20, 4, "PV header lies outside the sector")
	}
	l := &label{sector: n}
	if err := l.decodeHeader(s[off:sector]); err != nil {
		return bad(int64(off), sector-int64(off), err.Error())
	}
	return l, nil
}

// decodeHeader decodes the PV header in p, which ends where the sector ends.
func (l *label) decodeHeader(p []byte) (err error) {
	if l.uuid, err = canonicalID(string(p[:idLen])); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint64(p[32:])
	if size > 1<<62 {
		return fmt.Errorf("absurd device size %d", size)
	}
	l.deviceSize = int64(size)
	p = p[40:]
	if l.data, p, err = decodeRanges(p); err != nil {
		return fmt.Errorf("data areas: %w", err)
	}
	if l.mdas, p, err = decodeRanges(p); err != nil {
		return fmt.Errorf("metadata areas: %w", err)
	}
	if len(l.mdas) > maxMDAs {
		return fmt.Errorf("%d metadata areas; at most %d are possible", len(l.mdas), maxMDAs)
	}
	return l.decodeExtension(p)
}

// decodeExtension decodes what follows the area lists. It may be absent.
func (l *label) decodeExtension(p []byte) (err error) {
	if len(p) < 8 || binary.LittleEndian.Uint32(p) == 0 {
		return nil
	}
	l.extVersion, l.extFlags = binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:])
	if l.boot, _, err = decodeRanges(p[8:]); err != nil {
		return fmt.Errorf("bootloader areas: %w", err)
	}
	return nil
}

// decodeRanges decodes a list of areas up to its end mark and returns what follows.
func decodeRanges(p []byte) ([]byteRange, []byte, error) {
	var out []byteRange
	for len(p) >= 16 {
		off, size := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		p = p[16:]
		if off == 0 {
			return out, p, nil
		}
		if off > 1<<62 || size > 1<<62 {
			return nil, nil, fmt.Errorf("absurd area %d+%d", off, size)
		}
		out = append(out, byteRange{int64(off), int64(size)})
	}
	return nil, nil, fmt.Errorf("list without an end")
}

// encode writes the label into a sector of its own.
func (l *label) encode() ([]byte, error) {
	raw, err := rawID(l.uuid)
	if err != nil {
		return nil, err
	}
	s := make([]byte, 0, sector)
	s = append(s, "LABELONE"...)
	s = binary.LittleEndian.AppendUint64(s, uint64(l.sector))
	s = binary.LittleEndian.AppendUint32(s, 0)
	s = binary.LittleEndian.AppendUint32(s, labelBody)
	s = append(s, "LVM2 001"...)
	s = append(s, raw...)
	s = binary.LittleEndian.AppendUint64(s, uint64(l.deviceSize))
	s = appendRanges(s, l.data)
	s = appendRanges(s, l.mdas)
	s = binary.LittleEndian.AppendUint32(s, l.extVersion)
	s = binary.LittleEndian.AppendUint32(s, l.extFlags)
	s = appendRanges(s, l.boot)
	if len(s) > sector {
		return nil, fmt.Errorf("%w: the PV header does not fit into its sector", ErrInvalid)
	}
	s = s[:sector]
	binary.LittleEndian.PutUint32(s[16:], checksum(s[20:]))
	return s, nil
}

// appendRanges writes a list of areas with its end mark.
func appendRanges(s []byte, list []byteRange) []byte {
	for _, r := range append(list[:len(list):len(list)], byteRange{}) {
		s = binary.LittleEndian.AppendUint64(s, uint64(r.off))
		s = binary.LittleEndian.AppendUint64(s, uint64(r.size))
	}
	return s
}
