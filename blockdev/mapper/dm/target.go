package dm

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	targetSize = unix.SizeofDmTargetSpec
	offLength  = 8
	offNext    = 20
	offType    = 24
	typeLinear = "linear"
	typeError  = "error"
	maxTargets = 1 << 16
)

// encode is the payload of a load.
func (t Table) encode() []byte {
	var b []byte
	for _, x := range t {
		kind, params := typeLinear, fmt.Sprintf("%v %d", x.Dev, x.Offset)
		if x.Fails {
			kind, params = typeError, ""
		}
		n := align8(targetSize + len(params) + 1)
		s := make([]byte, n)
		binary.LittleEndian.PutUint64(s, uint64(x.Start))
		binary.LittleEndian.PutUint64(s[offLength:], uint64(x.Length))
		binary.LittleEndian.PutUint32(s[offNext:], uint32(n))
		copy(s[offType:targetSize], kind)
		copy(s[targetSize:], params)
		b = append(b, s...)
	}
	return b
}

// decodeTable reads the payload of a table status. Tables with other targets than linear ones are somebody else's.
func decodeTable(b []byte, count uint32) (Table, error) {
	if count > maxTargets {
		return nil, fmt.Errorf("%w: %d targets", ErrKernel, count)
	}
	var t Table
	at, due := int64(0), int64(0)
	for i := range count {
		if at < 0 || at > int64(len(b))-targetSize {
			return nil, fmt.Errorf("%w: target %d lies at byte %d of %d", ErrKernel, i, at, len(b))
		}
		x, err := decodeTarget(b[at:])
		if err == nil && x.Start != due {
			err = fmt.Errorf("%w: it begins at sector %d where %d is due", ErrKernel, x.Start, due)
		}
		if err != nil {
			return nil, fmt.Errorf("target %d: %w", i, err)
		}
		due = x.Start + x.Length
		t = append(t, x)
		at = int64(binary.LittleEndian.Uint32(b[at+offNext:]))
	}
	return t, nil
}

// decodeTarget reads one target at the start of b, which has room for it.
func decodeTarget(b []byte) (Target, error) {
	kind, ok := cString(b[offType:targetSize])
	params, ok2 := cString(b[targetSize:])
	if !ok || !ok2 {
		return Target{}, fmt.Errorf("%w: a text without an end", ErrKernel)
	}
	start, length := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[offLength:])
	if kind == typeError && start <= maxSectors && length > 0 && length <= maxSectors {
		return Target{Start: int64(start), Length: int64(length), Fails: true}, nil
	}
	if kind != typeLinear {
		return Target{}, fmt.Errorf("%w: a target of type %q", ErrConflict, kind)
	}
	dev, off, ok := strings.Cut(params, " ")
	offset, err := strconv.ParseUint(off, 10, 63)
	if !ok || err != nil || start > maxSectors || length == 0 || length > maxSectors || offset > maxSectors {
		return Target{}, fmt.Errorf("%w: sectors %d+%d to %.80q", ErrKernel, start, length, params)
	}
	n, err := parseNumber(dev)
	return Target{Start: int64(start), Length: int64(length), Dev: n, Offset: int64(offset)}, err
}
