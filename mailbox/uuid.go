package mailbox

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// UUID names a storage domain or a volume. The bytes are in the usual, big-endian order.
type UUID [16]byte

// ParseUUID reads the form 8-4-4-4-12 in hexadecimal digits.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("%w: %q is no UUID", ErrRequest, s)
	}
	plain := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(u[:], []byte(plain)); err != nil {
		return UUID{}, fmt.Errorf("%w: %q is no UUID: %w", ErrRequest, s, err)
	}
	return u, nil
}

// String is the form 8-4-4-4-12 in lower case.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[0:8], h[8:12], h[12:16], h[16:20], h[20:32]}, "-")
}

// pack writes u in the order of a message: reversed.
func (u UUID) pack(b []byte) {
	for i := range u {
		b[len(u)-1-i] = u[i]
	}
}

// unpackUUID reads what pack wrote.
func unpackUUID(b []byte) (u UUID) {
	for i := range u {
		u[i] = b[len(u)-1-i]
	}
	return u
}
