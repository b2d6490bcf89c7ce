package qcow2

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// decodeVariable reads the extensions from byte pos on and the backing file name.
func (h *Header) decodeVariable(p []byte, pos int) error {
	nameOff := binary.BigEndian.Uint64(p[8:])
	nameLen := int(binary.BigEndian.Uint32(p[16:]))
	limit := min(len(p), int(h.ClusterSize()))
	if nameOff != 0 {
		if nameLen > maxBackingName || nameOff < uint64(pos) || nameOff+uint64(nameLen) > uint64(limit) {
			return fmt.Errorf("backing name of %d bytes at %d: %w", nameLen, nameOff, ErrCorrupt)
		}
		h.BackingName = string(p[nameOff : int(nameOff)+nameLen])
		if strings.ContainsRune(h.BackingName, 0) {
			return fmt.Errorf("backing name holds a zero byte: %w", ErrCorrupt)
		}
		limit = int(nameOff)
	}
	return h.decodeExtensions(p[:limit], pos)
}

func (h *Header) decodeExtensions(p []byte, pos int) error {
	for pos+8 <= len(p) {
		kind := binary.BigEndian.Uint32(p[pos:])
		n := int64(binary.BigEndian.Uint32(p[pos+4:]))
		pos += 8
		if kind == extEnd {
			return nil
		}
		if n > int64(len(p)-pos) {
			return fmt.Errorf("extension %#x of %d bytes: %w", kind, n, ErrCorrupt)
		}
		if kind == extBackingFormat {
			if n > 15 {
				return fmt.Errorf("backing format of %d bytes: %w", n, ErrCorrupt)
			}
			h.BackingFormat = string(p[pos : pos+int(n)])
		}
		pos += (int(n) + 7) &^ 7
	}
	return nil // an unterminated list ends where the name or the cluster ends, as qemu has it
}
