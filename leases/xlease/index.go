package xlease

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Record is one lease of an index.
type Record struct {
	// N is the record's number, which gives the resource its place.
	N  int    `json:"record"`
	ID string `json:"id"`
	// Offset is where the resource lies in the volume, in bytes.
	Offset int64 `json:"offset"`
	// Updating is true for what an interrupted operation of an old VDSM left. Lookups do not see it.
	Updating bool `json:"updating,omitempty"`
}

// Index is the index as one read found it.
type Index struct {
	raw   []byte
	align int64
	head  head
}

// CheckID refuses ids that VDSM would not take: anything but a UUID in its usual form.
func CheckID(id string) error {
	if len(id) != 36 || uuid.Validate(id) != nil {
		return fmt.Errorf("%w: %.60q", ErrID, id)
	}
	return nil
}

// newIndex makes an index without records.
func newIndex(align int64, h head) *Index {
	x := &Index{raw: make([]byte, IndexSize), align: align, head: h}
	h.encode(x.raw)
	for n := range MaxRecords {
		copy(x.record(n), freeRecord)
	}
	return x
}

// decodeIndex takes over b. The index can be looked at even when its head is bad, which the error says.
func decodeIndex(b []byte, align int64) (*Index, error) {
	if len(b) != IndexSize {
		return nil, fmt.Errorf("%w: it has %d bytes of %d", ErrIndex, len(b), IndexSize)
	}
	x := &Index{raw: b, align: align}
	var err error
	x.head, err = decodeHead(b)
	return x, err
}

// Lockspace is the name in the index's head.
func (x *Index) Lockspace() string { return x.head.lockspace }

// Modified is when the index was formatted or rebuilt.
func (x *Index) Modified() time.Time { return x.head.mtime }

// Updating says that the index must not be used, only rebuilt.
func (x *Index) Updating() bool { return x.head.updating }

// Records lists the leases in the order of their places, those being updated too. Records that cannot be read are not
// among them.
func (x *Index) Records() []Record {
	var out []Record
	for n := range MaxRecords {
		if id, updating, state := decodeRecord(x.record(n)); state == recordUsed {
			out = append(out, Record{N: n, ID: id, Offset: x.offset(n), Updating: updating})
		}
	}
	return out
}

// Lookup finds a lease.
func (x *Index) Lookup(id string) (Record, error) {
	n := x.find(id)
	if n < 0 || id == "" {
		return Record{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	switch _, updating, state := decodeRecord(x.record(n)); {
	case state != recordUsed:
		return Record{}, fmt.Errorf("%w: record %d cannot be read", ErrIndex, n)
	case updating:
		return Record{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return Record{N: n, ID: id, Offset: x.offset(n)}, nil
}

// find is the number of the first record with the id, whatever its flag; -1 when there is none.
func (x *Index) find(id string) int {
	want := make([]byte, nameSize+1)
	copy(want[:nameSize], id)
	for n := range MaxRecords {
		if bytes.Equal(x.record(n)[:nameSize+1], want) {
			return n
		}
	}
	return -1
}

// free is the first of the first `capacity` records that can be taken; -1 when there is none.
func (x *Index) free(capacity int) int {
	for n := range capacity {
		if bytes.Equal(x.record(n), freeRecord) {
			return n
		}
	}
	return -1
}

// put writes record n; an empty id frees it.
func (x *Index) put(n int, id string) {
	off := int64(0)
	if id != "" {
		off = x.offset(n)
	}
	encodeRecord(x.record(n), id, off)
}

// setHead changes the head.
func (x *Index) setHead(h head) {
	x.head = h
	h.encode(x.raw)
}

func (x *Index) record(n int) []byte { return x.raw[headSize+n*recordSize:][:recordSize] }

// offset is the place of record n's resource. What the record itself says is for people.
func (x *Index) offset(n int) int64 { return resourceOffset(n, x.align) }

func resourceOffset(n int, align int64) int64 { return int64(resourceAreas+n) * align }

// sectorOf is where in the index the sector with record n begins, and the sector.
func (x *Index) sectorOf(n, sectorSize int) (int64, []byte) {
	at := (headSize + n*recordSize) / sectorSize * sectorSize
	return int64(at), x.raw[at:][:sectorSize]
}

// clone is a copy that can be changed.
func (x *Index) clone() *Index { return &Index{raw: slices.Clone(x.raw), align: x.align, head: x.head} }
