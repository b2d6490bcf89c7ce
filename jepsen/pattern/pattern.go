// Package pattern is what guests write: each sector says of which volume it is, where in it, and by which write it came.
//
//	0 "HFGUEST1"    24 u64 byte offset in the volume    40 u32 CRC-32C of bytes 0 to 40 and 44 to 512
//	8 16 volume     32 u64 number of the write          44 filled with what follows from the number
package pattern

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Sizes.
const (
	Sector = 512
	Block  = 4096
)

const magic = "HFGUEST1"

var table = crc32.MakeTable(crc32.Castagnoli)

// Said is what a sector says.
type Said struct {
	Volume string
	Off    int64
	Seq    uint64
}

// ErrNone says that a sector was written by no guest.
var ErrNone = errors.New("no guest's sector")

// Make is a block of a volume as a write puts it.
func Make(volume string, off int64, seq uint64) ([]byte, error) {
	id, err := uuid.Parse(volume)
	if err != nil {
		return nil, fmt.Errorf("the volume of a guest: %w", err)
	}
	b := make([]byte, Block)
	for at := 0; at < Block; at += Sector {
		s := b[at : at+Sector]
		copy(s, magic)
		copy(s[8:], id[:])
		binary.LittleEndian.PutUint64(s[24:], uint64(off)+uint64(at))
		binary.LittleEndian.PutUint64(s[32:], seq)
		for i := 44; i < Sector; i++ {
			s[i] = byte(seq) + byte(i)
		}
		binary.LittleEndian.PutUint32(s[40:], sum(s))
	}
	return b, nil
}

func sum(s []byte) uint32 { return crc32.Update(crc32.Checksum(s[:40], table), table, s[44:]) }

// Read is what a sector says.
func Read(s []byte) (Said, error) {
	if len(s) < Sector || string(s[:8]) != magic {
		return Said{}, ErrNone
	}
	if binary.LittleEndian.Uint32(s[40:]) != sum(s[:Sector]) {
		return Said{}, errors.New("a guest's sector with a wrong sum")
	}
	return Said{Volume: uuid.UUID(s[8:24]).String(), Off: int64(binary.LittleEndian.Uint64(s[24:])), Seq: binary.LittleEndian.Uint64(s[32:])}, nil
}

// See tells what was read of a block.
func See(volume string, block int64, b []byte) history.BlockSeen {
	out := history.BlockSeen{Block: block}
	same := true
	for at := 0; at < Block; at += Sector {
		seq, err := see(volume, block*Block+int64(at), b[at:at+Sector])
		if err != nil {
			out.Wrong = fmt.Sprintf("sector %d: %v", at/Sector, err)
			return out
		}
		out.Seqs = append(out.Seqs, seq)
		same = same && seq == out.Seqs[0]
	}
	if same {
		out.Seqs = out.Seqs[:1]
	}
	return out
}

// see is the write that a sector came by; 0: it has zeroes.
func see(volume string, off int64, s []byte) (uint64, error) {
	said, err := Read(s)
	if errors.Is(err, ErrNone) && zero(s) {
		return 0, nil
	}
	if err == nil && (said.Volume != volume || said.Off != off) {
		err = fmt.Errorf("it is volume %s's at %d, write %d", said.Volume, said.Off, said.Seq)
	}
	return said.Seq, err
}

func zero(s []byte) bool {
	for _, c := range s {
		if c != 0 {
			return false
		}
	}
	return true
}
