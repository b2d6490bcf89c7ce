package check

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// sectorSize and leaseSize are those of the harness's LUNs: 512-byte sectors, lease areas of 1 MiB.
const (
	sectorSize = 512
	leaseSize  = 1 << 20
)

// Magic numbers of sanlock's records.
const (
	magicHost    = 0x12212010 // the record of a host id
	magicLease   = 0x06152010
	magicCleared = 0x11282016 // a lease that was destroyed
)

// leader is what the checkers need of sanlock's leader record. The decoder is written from the specification of the format and
// shares nothing with the program's.
//
//	  0 u32 magic       32 u64 owner's host id       48 u64 version of the lease   152 u64 time, 0: free   176 u64 who wrote it
//	168 u32 checksum    40 u64 owner's generation   104  48 name                  174 u16 I/O timeout
type leader struct {
	magic   uint32
	owner   uint64
	gen     uint64
	version uint64
	name    string
	time    uint64
	writer  uint64
}

// free reports whether nobody holds the lease, by this record alone.
func (l leader) free() bool { return l.time == 0 || l.magic == magicCleared }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// leaderSum is CRC-32C that starts with the complement of 1, without inversion at the end.
func leaderSum(b []byte) uint32 { return ^crc32.Update(1, castagnoli, b) }

// decodeLeader reads a leader record of a kind. One of another kind, or with a wrong sum, is none.
func decodeLeader(b []byte, kinds ...uint32) (leader, bool) {
	if len(b) < 200 {
		return leader{}, false
	}
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	l := leader{magic: binary.LittleEndian.Uint32(b), owner: u64(32), gen: u64(40), version: u64(48),
		name: string(bytes.TrimRight(b[104:152], "\x00")), time: u64(152), writer: u64(176)}
	known := false
	for _, k := range kinds {
		known = known || l.magic == k
	}
	return l, known && binary.LittleEndian.Uint32(b[168:]) == leaderSum(b[:168])
}
