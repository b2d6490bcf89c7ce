package mailbox

import (
	"fmt"
	"strconv"
)

// The layout of a message; see the package comment.
const (
	slotSize    = 64
	version     = '1'
	opExtend    = "xtnd"
	opcodeAt    = 1
	domainAt    = 5
	volumeAt    = 21
	sizeAt      = 37
	sizeDigits  = 16
	paddingAt   = sizeAt + sizeDigits
	paddingByte = '0'
	cleanByte   = 0x01
	maxSizeMiB  = 0xffffffff
)

// Message asks for a volume of at least SizeMiB, or answers: the same size when the volume is that large, 0 when not.
type Message struct {
	// Domain and Volume name what to extend. The domain may be any of the pool.
	Domain, Volume UUID
	// SizeMiB is the wanted total size in MiB, not what to add.
	SizeMiB uint32
}

// String is for logs and errors.
func (m Message) String() string {
	return fmt.Sprintf("volume %s of domain %s to %d MiB", m.Volume, m.Domain, m.SizeMiB)
}

// Encode returns the 64 bytes of a slot.
func (m Message) Encode() [slotSize]byte {
	var b [slotSize]byte
	b[0] = version
	copy(b[opcodeAt:], opExtend)
	m.Domain.pack(b[domainAt:volumeAt])
	m.Volume.pack(b[volumeAt:sizeAt])
	copy(b[sizeAt:], fmt.Sprintf("%016x", m.SizeMiB))
	for i := paddingAt; i < slotSize; i++ {
		b[i] = paddingByte
	}
	return b
}

// DecodeMessage reads a slot that is neither empty nor CLEAN. On ErrCorrupt because of the size alone the rest of the
// message is there, so that it can be refused. The padding is not looked at: nobody ever did.
func DecodeMessage(b []byte) (Message, error) {
	if len(b) != slotSize {
		return Message{}, fmt.Errorf("%w: message of %d bytes", ErrCorrupt, len(b))
	}
	if b[0] != version {
		return Message{}, fmt.Errorf("%w: version 0x%02x", ErrCorrupt, b[0])
	}
	if op := b[opcodeAt:domainAt]; string(op) != opExtend {
		return Message{}, fmt.Errorf("%w: %q", ErrOpcode, op)
	}
	m := Message{Domain: unpackUUID(b[domainAt:volumeAt]), Volume: unpackUUID(b[volumeAt:sizeAt])}
	size, err := decodeSize(b[sizeAt:paddingAt])
	m.SizeMiB = size
	return m, err
}

// decodeSize reads 16 hexadecimal digits.
func decodeSize(b []byte) (uint32, error) {
	n, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: size %q is not 16 hexadecimal digits", ErrCorrupt, b)
	}
	if n > maxSizeMiB {
		return 0, fmt.Errorf("%w: size of %d MiB, above %d", ErrCorrupt, n, uint32(maxSizeMiB))
	}
	return uint32(n), nil
}

// answers says whether r can be the answer to m: it is for the same volume, and for the same size or none.
func (m Message) answers(r Message) bool {
	return r.Domain == m.Domain && r.Volume == m.Volume && (r.SizeMiB == m.SizeMiB || r.SizeMiB == 0)
}
