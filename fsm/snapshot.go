package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// A snapshot is
//
//	8 bytes   "HFSTATE" and the version of this layout
//	records   byte kind, uint32 length (big endian), msgpack of that length
//	the end   byte 0xff, uint32 4, CRC-32C (big endian) of everything before this record
//
// Kinds are append-only. A kind with bit 6 set may be passed over by a program that does not know it.
const (
	snapshotMagic   = "HFSTATE"
	snapshotVersion = 1
	skippableRecord = 0x40
	endRecord       = 0xff
	// maxRecord bounds one record, so that a corrupt length cannot ask for all memory.
	maxRecord = MaxCommandSize
)

// ErrSnapshot is wrapped by the error of a snapshot that cannot be read.
var ErrSnapshot = errors.New("snapshot is not readable")

const (
	recHeader   = 1
	recHost     = 2
	recRemoved  = 3
	recPool     = 4
	recDomain   = 5
	recToken    = 6
	recProof    = 7
	recConfig   = 8
	recVolume   = 9
	recFloor    = 10
	recTomb     = 11
	recRequest  = 12
	recEvent    = 13 | skippableRecord
	recDevice   = 14
	recFence    = 15
	minRecordSz = 5
)

type snapshotHeader struct {
	Index uint64 `codec:"i"`
	Meta  Meta   `codec:"m"`
}

type keyed[V any] struct {
	Key   string `codec:"k"`
	Value V      `codec:"v"`
}

// Snapshot is a frozen copy of the state machine; taking one is cheap, and Apply goes on while it is written.
type Snapshot struct {
	header   snapshotHeader
	state    *State
	floors   Table[Stamp]
	tombs    Table[Tombstone]
	requests Table[request]
	order    Table[string]
}

// Snapshot freezes the present state. A replica that is too old must not make one: raft would drop the log that the
// upgraded program still needs.
func (f *FSM) Snapshot() (*Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tooOld != "" {
		return nil, &RefusedError{Code: CodeTooOld, Message: f.tooOld}
	}
	return &Snapshot{
		header: snapshotHeader{Index: f.index, Meta: f.tables.meta},
		state:  f.tables.publish(f.index, ""),
		floors: f.tables.floors.publish(), tombs: f.tables.tombs.publish(),
		requests: f.tables.requests.publish(), order: f.tables.requestOrder.publish(),
	}, nil
}

// WriteTo writes the snapshot. The bytes depend on the state only.
func (s *Snapshot) WriteTo(dst io.Writer) (int64, error) {
	w := &snapshotWriter{dst: bufio.NewWriterSize(dst, 64<<10)}
	w.raw(append([]byte(snapshotMagic), snapshotVersion))
	w.record(recHeader, s.header)
	writeTable(w, recHost, s.state.Hosts)
	writeTable(w, recRemoved, s.state.Removed)
	writeTable(w, recPool, s.state.Pools)
	writeTable(w, recDomain, s.state.Domains)
	writeTable(w, recToken, s.state.Tokens)
	writeTable(w, recProof, s.state.Proofs)
	for k, v := range s.state.Config.All() {
		w.record(recConfig, keyed[string]{k, v})
	}
	writeTable(w, recDevice, s.state.FenceDevices)
	writeTable(w, recFence, s.state.Fences)
	writeTable(w, recVolume, s.state.volumes)
	for k, v := range s.floors.All() {
		w.record(recFloor, keyed[Stamp]{k, v})
	}
	writeTable(w, recTomb, s.tombs)
	for _, id := range s.order.All() {
		if r, ok := s.requests.Get(id); ok {
			w.record(recRequest, r)
		}
	}
	writeTable(w, recEvent, s.state.events)
	return w.finish()
}

func writeTable[V any](w *snapshotWriter, kind byte, t Table[V]) {
	for _, v := range t.All() {
		w.record(kind, v)
	}
}

type snapshotWriter struct {
	dst *bufio.Writer
	buf bytes.Buffer
	sum uint32
	n   int64
	err error
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (w *snapshotWriter) raw(b []byte) {
	if w.err != nil {
		return
	}
	w.sum = crc32.Update(w.sum, castagnoli, b)
	n, err := w.dst.Write(b)
	w.n, w.err = w.n+int64(n), err
}

func (w *snapshotWriter) record(kind byte, v any) {
	w.buf.Reset()
	if err := codec.NewEncoder(&w.buf, handle()).Encode(v); err != nil && w.err == nil {
		w.err = fmt.Errorf("encoding record %d: %w", kind, err)
	}
	w.raw(binary.BigEndian.AppendUint32([]byte{kind}, uint32(w.buf.Len())))
	w.raw(w.buf.Bytes())
}

func (w *snapshotWriter) finish() (int64, error) {
	end := binary.BigEndian.AppendUint32([]byte{endRecord}, 4)
	w.raw(binary.BigEndian.AppendUint32(end, w.sum))
	if w.err == nil {
		w.err = w.dst.Flush()
	}
	if w.err != nil {
		return w.n, fmt.Errorf("writing snapshot: %w", w.err)
	}
	return w.n, nil
}
