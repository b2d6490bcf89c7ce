package leases

import (
	"encoding/binary"
	"fmt"
)

const (
	dblockSize    = 56
	dblockSumSize = 48
	modeOffset    = 128
	hostBlockSize = 144

	flagReleased = 0x1
	flagShared   = 0x1
)

// DBlock is a host's part in the ballots of a resource.
type DBlock struct {
	Mbal, Bal        uint64
	Inp, Inp2, Inp3  uint64
	Lver             uint64
	Checksum, Flags  uint32
	ModeFlags        uint32
	ModeGeneration   uint64
	SumOK, ZeroValue bool // set by Decode
}

// Released says that the host gave up the lease of this version.
func (d *DBlock) Released() bool { return d.Flags&flagReleased != 0 }

// gaveUp says that the owner that l names has version l.Lver no more, by d, its own block. It is asked where another host
// wrote l, perhaps late and over a release. The owner has released that version, or is in a ballot for a later one: nobody is
// for what it holds. A release of an earlier version says nothing, and stands there while two sectors are read at different
// moments.
func (d *DBlock) gaveUp(l *Leader) bool {
	return l.WriteID != l.OwnerID && d.SumOK && (d.Lver > l.Lver || d.Lver == l.Lver && d.Released())
}

// Shared says that the host holds the lease shared.
func (d *DBlock) Shared() bool { return d.ModeFlags&flagShared != 0 }

// Valid says whether ballot numbers and value may be trusted: empty, or with a matching checksum.
func (d *DBlock) Valid() bool { return d.ZeroValue || d.SumOK }

// Decode fills d from a host's sector. Bytes between and after the two structures are undefined and not looked at.
func (d *DBlock) Decode(b []byte) error {
	if len(b) < hostBlockSize {
		return fmt.Errorf("%w: host block of %d bytes", ErrCorrupt, len(b))
	}
	le := binary.LittleEndian
	d.Mbal, d.Bal, d.Inp = le.Uint64(b[0:]), le.Uint64(b[8:]), le.Uint64(b[16:])
	d.Inp2, d.Inp3, d.Lver = le.Uint64(b[24:]), le.Uint64(b[32:]), le.Uint64(b[40:])
	d.Checksum, d.Flags = le.Uint32(b[48:]), le.Uint32(b[52:])
	d.ModeFlags, d.ModeGeneration = le.Uint32(b[modeOffset:]), le.Uint64(b[modeOffset+8:])
	d.ZeroValue = d.Checksum == 0 && d.Mbal == 0 && d.Bal == 0 && d.Inp == 0 && d.Lver == 0
	d.SumOK = !d.ZeroValue && checksum(b[:dblockSumSize]) == d.Checksum
	return nil
}

// Encode writes d into b, a whole sector, with a fresh checksum and zero padding.
func (d *DBlock) Encode(b []byte) {
	clear(b)
	le := binary.LittleEndian
	for i, v := range [...]uint64{d.Mbal, d.Bal, d.Inp, d.Inp2, d.Inp3, d.Lver} {
		le.PutUint64(b[8*i:], v)
	}
	d.Checksum = checksum(b[:dblockSumSize])
	le.PutUint32(b[48:], d.Checksum)
	le.PutUint32(b[52:], d.Flags)
	le.PutUint32(b[modeOffset:], d.ModeFlags)
	le.PutUint64(b[modeOffset+8:], d.ModeGeneration)
}

// idleBlock says of a host's sector, without decoding it, that it has no part in ballots for version next and does not
// share the lease. Nearly all of up to 2,000 blocks are so.
func idleBlock(b []byte, next uint64) bool {
	le := binary.LittleEndian
	return le.Uint64(b[40:]) < next && le.Uint32(b[modeOffset:])&flagShared == 0
}

// emptyBlock says of a host's sector that the host never took part.
func emptyBlock(b []byte) bool {
	le := binary.LittleEndian
	return le.Uint64(b)|le.Uint64(b[8:])|le.Uint64(b[16:])|le.Uint64(b[40:])|uint64(le.Uint32(b[48:])) == 0
}
