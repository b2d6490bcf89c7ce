package blockdev

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
)

// Signature is a mark that somebody's format left on a device.
type Signature struct {
	Kind   string // "lvm2", "ext4", "gpt" and so on
	Label  string // the name its owner gave it, if the format has one
	UUID   string // in the format's own spelling
	Offset int64  // where the mark is
}

// String is for a message that says what would be destroyed.
func (s Signature) String() string {
	out := fmt.Sprintf("%s at byte %d", s.Kind, s.Offset)
	if s.Label != "" {
		out += fmt.Sprintf(", label %q", s.Label)
	}
	if s.UUID != "" {
		out += ", uuid " + s.UUID
	}
	return out
}

const (
	headBytes = 2<<20 + 64<<10 // the furthest mark from the start is that of VMFS at 2 MiB
	tailBytes = 1 << 20        // the furthest from the end is ZFS's third label at 512 KiB
)

// Identify looks for the marks of file systems, volume managers, partition tables, RAID and disk images, as a last
// look before a device is taken over. The result is sorted by offset; none means that none of the known ones is
// there, not that the device is unused. It reads the first 2 MiB and the last 1 MiB.
func Identify(ctx context.Context, d Device) ([]Signature, error) {
	v, err := newView(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("look for signatures: %w", err)
	}
	return v.signatures(), nil
}

// signatures runs all probes over what was read.
func (v *view) signatures() []Signature {
	var found []Signature
	for _, p := range probes {
		off := p.off
		if off < 0 {
			off += v.size
		}
		if !bytes.Equal(v.at(off, len(p.magic)), []byte(p.magic)) {
			continue
		}
		s := Signature{Kind: p.kind, Offset: off}
		if p.fill == nil || p.fill(v, off-p.base, &s) {
			found = append(found, s)
		}
	}
	for _, f := range searches {
		found = append(found, f(v)...)
	}
	slices.SortStableFunc(found, func(a, b Signature) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	return found
}

// view is the head and tail of a device.
type view struct {
	size       int64
	sectorSize int
	head, tail []byte
}

func newView(ctx context.Context, d Device) (*view, error) {
	ss := int64(d.SectorSize())
	v := &view{size: d.Size(), sectorSize: d.SectorSize()}
	v.head = make([]byte, min(headBytes, v.size/ss*ss))
	v.tail = make([]byte, min(tailBytes, v.size/ss*ss))
	if err := d.ReadAt(ctx, v.head, 0); err != nil {
		return nil, err
	}
	return v, d.ReadAt(ctx, v.tail, v.size-int64(len(v.tail)))
}

// at returns n bytes at off, nil when they were not read.
func (v *view) at(off int64, n int) []byte {
	if off >= 0 && off+int64(n) <= int64(len(v.head)) {
		return v.head[off : off+int64(n)]
	}
	if off -= v.size - int64(len(v.tail)); off >= 0 && off+int64(n) <= int64(len(v.tail)) {
		return v.tail[off : off+int64(n)]
	}
	return nil
}

func (v *view) le32(off int64) uint32 { return binary.LittleEndian.Uint32(v.pad(off, 4)) }
func (v *view) be32(off int64) uint32 { return binary.BigEndian.Uint32(v.pad(off, 4)) }

// pad is at with zeroes where nothing was read.
func (v *view) pad(off int64, n int) []byte {
	if b := v.at(off, n); b != nil {
		return b
	}
	return make([]byte, n)
}

// text is a string of at most n bytes that ends at a zero byte, without blanks around it.
func (v *view) text(off int64, n int) string {
	b, _, _ := bytes.Cut(v.pad(off, n), []byte{0})
	return string(bytes.TrimSpace(bytes.ToValidUTF8(b, []byte("?"))))
}

// uuid is 16 bytes in the usual spelling, "" for zeroes.
func (v *view) uuid(off int64) string {
	b := v.pad(off, 16)
	if allZero(b) {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// guid is a UUID whose first three parts are little endian, as GPT has it.
func (v *view) guid(off int64) string {
	b := slices.Clone(v.pad(off, 16))
	slices.Reverse(b[0:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
