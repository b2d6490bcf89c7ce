package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// Restore replaces the state by a snapshot's. When it fails, the state is the one from before.
func (f *FSM) Restore(src io.Reader) error {
	t, index, err := readSnapshot(bufio.NewReaderSize(src, 64<<10))
	if err != nil {
		return fmt.Errorf("restoring state: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tables, f.index, f.tooOld = t, index, ""
	f.publish()
	return nil
}

type snapshotReader struct {
	src *bufio.Reader
	sum uint32
}

func (r *snapshotReader) raw(n int) ([]byte, error) {
	var buf bytes.Buffer // grows with what is really there, so a corrupt length costs nothing
	if _, err := io.CopyN(&buf, r.src, int64(n)); err != nil {
		return nil, fmt.Errorf("%w: cut short: %w", ErrSnapshot, err)
	}
	r.sum = crc32.Update(r.sum, castagnoli, buf.Bytes())
	return buf.Bytes(), nil
}

func readSnapshot(src *bufio.Reader) (*tables, uint64, error) {
	r := &snapshotReader{src: src}
	head, err := r.raw(len(snapshotMagic) + 1)
	if err != nil {
		return nil, 0, err
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic || head[len(snapshotMagic)] != snapshotVersion {
		return nil, 0, fmt.Errorf("%w: it does not begin with %s version %d", ErrSnapshot, snapshotMagic, snapshotVersion)
	}
	l := &loader{t: newTables()}
	for {
		before := r.sum
		head, err := r.raw(minRecordSz)
		if err != nil {
			return nil, 0, err
		}
		size := binary.BigEndian.Uint32(head[1:])
		if size > maxRecord {
			return nil, 0, fmt.Errorf("%w: record %d has %d bytes", ErrSnapshot, head[0], size)
		}
		body, err := r.raw(int(size))
		if err != nil {
			return nil, 0, err
		}
		if head[0] == endRecord {
			return l.finish(body, before)
		}
		if err := l.load(head[0], body); err != nil {
			return nil, 0, err
		}
	}
}

// loader fills tables from records.
type loader struct {
	t      *tables
	header *snapshotHeader
}

func (l *loader) finish(body []byte, sum uint32) (*tables, uint64, error) {
	if len(body) != 4 || binary.BigEndian.Uint32(body) != sum {
		return nil, 0, fmt.Errorf("%w: the checksum does not match", ErrSnapshot)
	}
	if l.header == nil {
		return nil, 0, fmt.Errorf("%w: it has no header", ErrSnapshot)
	}
	return l.t, l.header.Index, nil
}

func (l *loader) load(kind byte, body []byte) error {
	t := l.t
	switch kind {
	case recHeader:
		l.header = &snapshotHeader{}
		err := decodeRecord(kind, body, l.header)
		t.meta = l.header.Meta
		return err
	case recHost:
		return loadInto(kind, body, func(v Host) { t.hosts.put(v.Name, v) })
	case recRemoved:
		return loadInto(kind, body, func(v RemovedHost) { t.removed.put(v.Name, v) })
	case recPool:
		return loadInto(kind, body, func(v Pool) { t.pools.put(v.ID, v) })
	case recDomain:
		return loadInto(kind, body, func(v Domain) { t.domains.put(v.ID, v) })
	case recToken:
		return loadInto(kind, body, func(v Token) { t.tokens.put(v.ID, v) })
	case recProof:
		return loadInto(kind, body, func(v Proof) { t.proofs.put(ProofKey(v.Host, v.Generation), v) })
	case recConfig:
		return loadInto(kind, body, func(v keyed[string]) { t.config.put(v.Key, v.Value) })
	case recDevice:
		return loadInto(kind, body, func(v FenceDevice) { t.fenceDevices.put(FenceDeviceKey(v.Host, v.Name), v) })
	case recFence:
		return loadInto(kind, body, func(v FenceOp) { t.putFence(v) })
	case recVolume:
		return loadInto(kind, body, func(v Volume) { t.putVolume(v) })
	case recFloor:
		return loadInto(kind, body, func(v keyed[Stamp]) { t.floors.put(v.Key, v.Value) })
	case recTomb:
		return loadInto(kind, body, func(v Tombstone) { t.bury(v.Domain, v.ID, v.Stamp) })
	case recRequest:
		return loadInto(kind, body, func(v request) { t.remember(v.ID, v.Index, v.Outcome) })
	case recEvent:
		return loadInto(kind, body, func(v Event) { t.events.put(eventKey(v.Index, v.Number), v) })
	}
	if kind&skippableRecord != 0 {
		return nil
	}
	return fmt.Errorf("%w: record %d comes from a newer release; upgrade this host", ErrSnapshot, kind)
}

func loadInto[V any](kind byte, body []byte, put func(V)) error {
	var v V
	if err := decodeRecord(kind, body, &v); err != nil {
		return err
	}
	put(v)
	return nil
}

func decodeRecord(kind byte, body []byte, v any) (err error) {
	defer func() { // the codec panics on some malformed inputs
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: record %d: %v", ErrSnapshot, kind, p)
		}
	}()
	if err := codec.NewDecoderBytes(body, handle()).Decode(v); err != nil {
		return fmt.Errorf("%w: record %d: %w", ErrSnapshot, kind, err)
	}
	return nil
}
