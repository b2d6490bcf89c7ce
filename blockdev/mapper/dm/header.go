package dm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	headerSize   = unix.SizeofDmIoctl
	offDataSize  = 12
	offDataStart = 16
	offTargets   = 20
	offOpen      = 24
	offFlags     = 28
	offEvent     = 32
	offDev       = 40
	offName      = 48
	offUUID      = 176
	offPadding   = 305

	nameLen = unix.DM_NAME_LEN
	uuidLen = unix.DM_UUID_LEN

	interfaceMajor = 4
	// maxReply bounds what is asked of the kernel; a table of 20,000 segments needs half of it.
	maxReply = 4 << 20
)

// header is struct dm_ioctl without what only concerns the buffer.
type header struct {
	version [3]uint32
	targets uint32
	open    int32
	flags   uint32
	event   uint32
	dev     Number
	name    string
	uuid    string
}

// encode makes the buffer of a call: the header, the payload, and room for a reply of at least that size.
func (h *header) encode(payload []byte, room int) ([]byte, error) {
	if len(h.name) >= nameLen || len(h.uuid) >= uuidLen {
		return nil, fmt.Errorf("%w: a name of %d and a uuid of %d bytes; the kernel takes %d and %d",
			ErrUnmappable, len(h.name), len(h.uuid), nameLen-1, uuidLen-1)
	}
	b := make([]byte, headerSize+max(len(payload), room))
	le := binary.LittleEndian
	le.PutUint32(b, interfaceMajor)
	le.PutUint32(b[offDataSize:], uint32(len(b)))
	le.PutUint32(b[offDataStart:], headerSize)
	le.PutUint32(b[offTargets:], h.targets)
	le.PutUint32(b[offFlags:], h.flags)
	le.PutUint32(b[offEvent:], h.event)
	le.PutUint64(b[offDev:], h.dev.encode())
	copy(b[offName:offUUID-1], h.name)
	copy(b[offUUID:offPadding-1], h.uuid)
	copy(b[headerSize:], payload)
	return b, nil
}

// decodeHeader reads what the kernel left in the buffer: the header, and the payload, which lies inside the buffer.
func decodeHeader(b []byte) (h header, payload []byte, err error) {
	if len(b) < headerSize {
		return header{}, nil, fmt.Errorf("%w: %d bytes are no header", ErrKernel, len(b))
	}
	le := binary.LittleEndian
	h = header{
		version: [3]uint32{le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])},
		targets: le.Uint32(b[offTargets:]), open: int32(le.Uint32(b[offOpen:])),
		flags: le.Uint32(b[offFlags:]), event: le.Uint32(b[offEvent:]), dev: decodeNumber(le.Uint64(b[offDev:])),
	}
	if h.version[0] != interfaceMajor {
		return header{}, nil, fmt.Errorf("%w: interface version %d, known is %d", ErrKernel, h.version[0], interfaceMajor)
	}
	var ok, ok2 bool
	h.name, ok = cString(b[offName:offUUID])
	h.uuid, ok2 = cString(b[offUUID:offPadding])
	if !ok || !ok2 {
		return header{}, nil, fmt.Errorf("%w: a name or uuid without an end", ErrKernel)
	}
	size, start := le.Uint32(b[offDataSize:]), le.Uint32(b[offDataStart:])
	if int64(size) > int64(len(b)) {
		return header{}, nil, fmt.Errorf("%w: %d bytes in a buffer of %d", ErrKernel, size, len(b))
	}
	if start < headerSize || start >= size {
		return h, nil, nil // calls without a result end before their payload begins
	}
	return h, b[start:size], nil
}

// cString is the text up to the first NUL; not ok when there is none.
func cString(b []byte) (s string, ok bool) {
	n := bytes.IndexByte(b, 0)
	if n < 0 {
		return "", false
	}
	return string(b[:n]), true
}

// align8 rounds up to a multiple of 8.
func align8(n int) int { return (n + 7) &^ 7 }
