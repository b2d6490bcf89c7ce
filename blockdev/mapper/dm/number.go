package dm

import (
	"fmt"
	"strconv"
	"strings"
)

// Number is the number of a block device.
type Number struct{ Major, Minor uint32 }

// String is major:minor, as tables have it.
func (n Number) String() string { return fmt.Sprintf("%d:%d", n.Major, n.Minor) }

// encode is the kernel's 64-bit form.
func (n Number) encode() uint64 {
	return uint64(n.Minor&0xff) | uint64(n.Major)<<8 | uint64(n.Minor&^0xff)<<12
}

func decodeNumber(v uint64) Number {
	return Number{Major: uint32(v>>8) & 0xfff, Minor: uint32(v&0xff) | uint32(v>>12)&^0xff}
}

// parseNumber reads major:minor.
func parseNumber(s string) (Number, error) {
	a, b, ok := strings.Cut(s, ":")
	major, err := strconv.ParseUint(a, 10, 12)
	minor, err2 := strconv.ParseUint(b, 10, 20)
	if !ok || err != nil || err2 != nil {
		return Number{}, fmt.Errorf("%w: %.40q is no device number", ErrKernel, s)
	}
	return Number{Major: uint32(major), Minor: uint32(minor)}, nil
}
