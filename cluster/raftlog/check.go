package raftlog

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"hash/crc64"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	ecma       = crc64.MakeTable(crc64.ECMA)

	trailerMagic = []byte("HFc1")
	recordMagic  = []byte("HFk1")
)

const (
	trailerSize = 8
	recordSize  = 24
	keySize     = 8
)

// seal makes the value of an entry.
func seal(key []byte, l *raft.Log) ([]byte, error) {
	var buf bytes.Buffer
	var h codec.MsgpackHandle
	h.TimeNotBuiltin = true // as raft-boltdb writes times by default; it reads both forms
	if err := codec.NewEncoder(&buf, &h).Encode(l); err != nil {
		return nil, err
	}
	sum := sealSum(key, buf.Bytes())
	buf.Write(trailerMagic)
	return binary.LittleEndian.AppendUint32(buf.Bytes(), sum), nil
}

func sealSum(key, entry []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, entry)
}

// intact checks the value of an entry, and decodes it if that is needed for it, or asked for.
func intact(key, value []byte, l *raft.Log) error {
	if len(key) != keySize {
		return damagedf("the key of an entry has %d bytes", len(key))
	}
	index := binary.BigEndian.Uint64(key)
	n := len(value) - trailerSize
	sealed := n >= 0 && bytes.Equal(value[n:n+4], trailerMagic)
	if sealed {
		if sealSum(key, value[:n]) != binary.LittleEndian.Uint32(value[n+4:]) {
			return damagedf("entry %d has another checksum than it was written with", index)
		}
		value = value[:n]
		if l == nil {
			return nil
		}
	}
	if l == nil {
		l = new(raft.Log)
	}
	d := codec.NewDecoderBytes(value, &codec.MsgpackHandle{})
	if err := d.Decode(l); err != nil {
		return damagedf("entry %d cannot be decoded: %v", index, err)
	}
	if l.Index != index || d.NumBytesRead() != len(value) {
		return damagedf("the entry at %d says that it is %d, in %d of %d bytes", index, l.Index, d.NumBytesRead(), len(value))
	}
	return nil
}

// pairSum is a pair's part of the sum over the content.
func pairSum(bucket, key, value []byte) uint64 {
	var head [9]byte
	head[0] = bucket[0]
	binary.LittleEndian.PutUint64(head[1:], uint64(len(key)))
	sum := crc64.Update(0, ecma, head[:])
	return crc64.Update(crc64.Update(sum, ecma, key), ecma, value)
}

// record is what conf/holdfast.check holds.
type record struct {
	tx  uint64 // that wrote it
	sum uint64 // over all other pairs
}

func (r record) encode() []byte {
	b := append([]byte(nil), recordMagic...)
	b = binary.LittleEndian.AppendUint64(b, r.tx)
	b = binary.LittleEndian.AppendUint64(b, r.sum)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeRecord(b []byte) (record, error) {
	if len(b) != recordSize || !bytes.Equal(b[:4], recordMagic) || crc32.Checksum(b[:20], castagnoli) != binary.LittleEndian.Uint32(b[20:]) {
		return record{}, damagedf("the sum over its content cannot be read")
	}
	return record{tx: binary.LittleEndian.Uint64(b[4:]), sum: binary.LittleEndian.Uint64(b[12:])}, nil
}
