package dm

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	listHead    = 12 // device number and next
	uuidsListed = 45 // the minor version from which on lists have uuids
)

// listed is a device in a list.
type listed struct {
	dev  Number
	name string
	uuid string
	// told says that the kernel has told whether there is a uuid. It does since 4.45, and only those who ask for it.
	told bool
}

// decodeList reads the payload of a list of devices.
func decodeList(b []byte, withUUID bool) ([]listed, error) {
	var out []listed
	for len(b) > 0 {
		e, next, err := decodeListed(b, withUUID)
		if err != nil {
			return nil, fmt.Errorf("device %d of the list: %w", len(out), err)
		}
		if e.dev == (Number{}) {
			break // the one entry of an empty list
		}
		out = append(out, e)
		if next == 0 {
			break
		}
		b = b[next:]
	}
	return out, nil
}

// decodeListed reads the entry at the start of b, and where the next one is.
func decodeListed(b []byte, withUUID bool) (e listed, next int, err error) {
	if len(b) < listHead {
		return listed{}, 0, fmt.Errorf("%w: %d bytes", ErrKernel, len(b))
	}
	e.dev = decodeNumber(binary.LittleEndian.Uint64(b))
	n := binary.LittleEndian.Uint32(b[8:])
	if n != 0 && (int64(n) > int64(len(b)) || n < listHead) {
		return listed{}, 0, fmt.Errorf("%w: the next one at %d of %d bytes", ErrKernel, n, len(b))
	}
	if n != 0 {
		b = b[:n]
	}
	var ok bool
	if e.name, ok = cString(b[listHead:]); !ok && e.dev != (Number{}) {
		return listed{}, 0, fmt.Errorf("%w: a name without an end", ErrKernel)
	}
	if tail := align8(listHead + len(e.name) + 1); withUUID && tail+8 <= len(b) {
		if err := e.tellUUID(binary.LittleEndian.Uint32(b[tail+4:]), b[tail+8:]); err != nil {
			return listed{}, 0, err
		}
	}
	return e, int(n), nil
}

// tellUUID reads what follows the flags.
func (e *listed) tellUUID(flags uint32, b []byte) error {
	const has, hasNot = unix.DM_NAME_LIST_FLAG_HAS_UUID, unix.DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID
	e.told = flags&(has|hasNot) != 0
	if flags&has == 0 {
		return nil
	}
	var ok bool
	if e.uuid, ok = cString(b); !ok {
		return fmt.Errorf("%w: a uuid without an end", ErrKernel)
	}
	return nil
}
