package xlease

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"
)

const (
	// IndexSize is what the index takes from its area, in bytes.
	IndexSize = 62 * 4096
	// MaxRecords is the number of records of an index. A volume may be too small for the resources of all.
	MaxRecords = 3960

	magic      = 0x12152016
	headSize   = 512
	recordSize = 64
	nameSize   = 48

	flagNormal   = '-'
	flagUpdating = 'u'

	indexArea     = 1 // in areas
	resourceAreas = 3 // areas before the first resource
)

// head is the metadata of an index.
type head struct {
	lockspace string
	mtime     time.Time
	updating  bool
}

// encode writes h into b, 512 bytes.
func (h head) encode(b []byte) {
	clear(b[:headSize])
	binary.BigEndian.PutUint32(b, magic)
	copy(b[5:9], "0001")
	copy(b[10:10+nameSize], h.lockspace)
	copy(b[59:69], fmt.Sprintf("%010d", h.mtime.Unix()))
	b[70] = flagNormal
	if h.updating {
		b[70] = flagUpdating
	}
	b[headSize-1] = '\n'
}

// decodeHead reads what encode wrote. Padding is not looked at; any flag but '-' means that the index must not be used.
func decodeHead(b []byte) (head, error) {
	if len(b) < headSize {
		return head{}, fmt.Errorf("%w: its head has %d bytes", ErrIndex, len(b))
	}
	if m := binary.BigEndian.Uint32(b); m != magic {
		return head{}, fmt.Errorf("%w: magic 0x%08x", ErrIndex, m)
	}
	if v, ok := digits(b[5:9]); !ok || v != 1 {
		return head{}, fmt.Errorf("%w: version %q, known is 0001", ErrIndex, b[5:9])
	}
	space, ok := text(b[10 : 10+nameSize])
	if !ok {
		return head{}, fmt.Errorf("%w: lockspace %q", ErrIndex, b[10:10+nameSize])
	}
	mtime, ok := digits(b[59:69])
	if !ok {
		return head{}, fmt.Errorf("%w: time %q", ErrIndex, b[59:69])
	}
	return head{lockspace: space, mtime: time.Unix(mtime, 0), updating: b[70] != flagNormal}, nil
}

// recordState is what a record says.
type recordState int

const (
	recordFree recordState = iota
	recordUsed
	recordUnreadable // the id or the digits of the offset are garbage: nobody knows what it was
)

// freeRecord is a record that can be taken. VDSM compares all of its bytes.
var freeRecord = func() []byte {
	b := make([]byte, recordSize)
	encodeRecord(b, "", 0)
	return b
}()

// encodeRecord writes a record into b, 64 bytes; an empty id makes a free one.
func encodeRecord(b []byte, id string, off int64) {
	clear(b[:recordSize])
	copy(b[:nameSize], id)
	copy(b[49:60], fmt.Sprintf("%011d", off))
	b[61], b[62], b[63] = flagNormal, flagNormal, '\n'
}

// decodeRecord reads id and flag of a record.
func decodeRecord(b []byte) (id string, updating bool, state recordState) {
	id, ok := text(b[:nameSize])
	if _, num := digits(b[49:60]); !ok || !num {
		return "", false, recordUnreadable
	}
	if id == "" {
		return "", false, recordFree
	}
	return id, b[61] == flagUpdating, recordUsed
}

// text is a zero-padded printable ASCII string without spaces.
func text(b []byte) (string, bool) {
	b = bytes.TrimRight(b, "\x00")
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	return string(b), true
}

// digits is a number in decimal digits and nothing else.
func digits(b []byte) (int64, bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}
