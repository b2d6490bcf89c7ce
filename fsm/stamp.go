package fsm

import (
	"cmp"
	"encoding/binary"
)

// Stamp orders what SPMs say about one domain: the epoch of the lease first, then the SPM's own sequence.
type Stamp struct {
	Epoch uint64 `codec:"e" json:"epoch"`
	Seq   uint64 `codec:"s" json:"seq"`
}

// Compare is negative when s is older than o.
func (s Stamp) Compare(o Stamp) int {
	if c := cmp.Compare(s.Epoch, o.Epoch); c != 0 {
		return c
	}
	return cmp.Compare(s.Seq, o.Seq)
}

// key is s as a string that sorts like s.
func (s Stamp) key() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], s.Epoch)
	binary.BigEndian.PutUint64(b[8:], s.Seq)
	return string(b[:])
}
