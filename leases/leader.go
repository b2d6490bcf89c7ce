package leases

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	leaderSize    = 200
	leaderSumSize = 168
	nameSize      = 48

	magicDelta    = 0x12212010
	magicResource = 0x06152010
	magicCleared  = 0x11282016

	versionDelta    = 0x00030004
	versionResource = 0x00060004

	flagShortHold = 0x1
)

// Name is a name as it lies on disk: 48 bytes, zero padded, with no terminator when full.
type Name [nameSize]byte

// MakeName refuses names that are empty, too long, or that contain a zero byte.
func MakeName(s string) (Name, error) {
	var n Name
	if s == "" || len(s) > nameSize || bytes.IndexByte([]byte(s), 0) >= 0 {
		return n, fmt.Errorf("name %q: use 1 to %d bytes without zero bytes", s, nameSize)
	}
	copy(n[:], s)
	return n, nil
}

// String is the name up to its first zero byte.
func (n Name) String() string {
	if i := bytes.IndexByte(n[:], 0); i >= 0 {
		return string(n[:i])
	}
	return string(n[:])
}

// equal compares up to the first zero byte, as sanlock does.
func (n Name) equal(o Name) bool {
	for i := range n {
		if n[i] != o[i] {
			return false
		}
		if n[i] == 0 {
			return true
		}
	}
	return true
}

// Leader is the leader record of a lockspace's host or of a resource. The package comment has the layout.
type Leader struct {
	Magic           uint32
	Version         uint32
	Flags           uint32
	SectorSize      uint32
	NumHosts        uint64
	MaxHosts        uint64
	OwnerID         uint64
	OwnerGeneration uint64
	Lver            uint64
	Space           Name
	Resource        Name
	Timestamp       uint64
	Unused1         uint64
	Checksum        uint32
	Unused2         uint16
	IOTimeout       uint16
	WriteID         uint64
	WriteGeneration uint64
	WriteTimestamp  uint64
}

// Decode fills l from the first 200 bytes of b without judging them. It fails only when b is too short.
func (l *Leader) Decode(b []byte) error {
	if len(b) < leaderSize {
		return fmt.Errorf("%w: leader of %d bytes", ErrCorrupt, len(b))
	}
	le := binary.LittleEndian
	l.Magic, l.Version, l.Flags, l.SectorSize = le.Uint32(b[0:]), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])
	l.NumHosts, l.MaxHosts = le.Uint64(b[16:]), le.Uint64(b[24:])
	l.OwnerID, l.OwnerGeneration, l.Lver = le.Uint64(b[32:]), le.Uint64(b[40:]), le.Uint64(b[48:])
	copy(l.Space[:], b[56:])
	copy(l.Resource[:], b[104:])
	l.Timestamp, l.Unused1 = le.Uint64(b[152:]), le.Uint64(b[160:])
	l.Checksum, l.Unused2, l.IOTimeout = le.Uint32(b[168:]), le.Uint16(b[172:]), le.Uint16(b[174:])
	l.WriteID, l.WriteGeneration, l.WriteTimestamp = le.Uint64(b[176:]), le.Uint64(b[184:]), le.Uint64(b[192:])
	return nil
}

// Encode writes the 200 bytes of l into b with a fresh checksum, which it also stores in l.
func (l *Leader) Encode(b []byte) {
	_ = b[leaderSize-1]
	le := binary.LittleEndian
	le.PutUint32(b[0:], l.Magic)
	le.PutUint32(b[4:], l.Version)
	le.PutUint32(b[8:], l.Flags)
	le.PutUint32(b[12:], l.SectorSize)
	le.PutUint64(b[16:], l.NumHosts)
	le.PutUint64(b[24:], l.MaxHosts)
	le.PutUint64(b[32:], l.OwnerID)
	le.PutUint64(b[40:], l.OwnerGeneration)
	le.PutUint64(b[48:], l.Lver)
	copy(b[56:104], l.Space[:])
	copy(b[104:152], l.Resource[:])
	le.PutUint64(b[152:], l.Timestamp)
	le.PutUint64(b[160:], l.Unused1)
	l.Checksum = checksum(b[:leaderSumSize])
	le.PutUint32(b[168:], l.Checksum)
	le.PutUint16(b[172:], l.Unused2)
	le.PutUint16(b[174:], l.IOTimeout)
	le.PutUint64(b[176:], l.WriteID)
	le.PutUint64(b[184:], l.WriteGeneration)
	le.PutUint64(b[192:], l.WriteTimestamp)
}

// verifyDelta checks a decoded lockspace record in sanlock's order; b are the bytes it came from.
func (l *Leader) verifyDelta(b []byte, space Name) error {
	switch {
	case l.Magic != magicDelta:
		return fmt.Errorf("%w: magic 0x%08x is not a lockspace's", ErrNoLease, l.Magic)
	case l.Version&0xffff0000 != versionDelta&0xffff0000:
		return fmt.Errorf("%w: 0x%08x", ErrVersion, l.Version)
	case !l.Space.equal(space):
		return fmt.Errorf("%w: the lockspace here is %q", ErrNoLease, l.Space)
	case checksum(b[:leaderSumSize]) != l.Checksum:
		return fmt.Errorf("%w: checksum 0x%08x, the bytes say 0x%08x", ErrCorrupt, l.Checksum, checksum(b[:leaderSumSize]))
	}
	return nil
}

// verifyResource checks a decoded resource leader in sanlock's order; hostID 0 skips the check of the range.
func (l *Leader) verifyResource(b []byte, space, resource Name, hostID int) error {
	switch {
	case l.Magic == magicCleared:
		return fmt.Errorf("%w: the lease was cleared", ErrNoLease)
	case l.Magic != magicResource:
		return fmt.Errorf("%w: magic 0x%08x is not a resource's", ErrNoLease, l.Magic)
	case l.Version&0xffff0000 != versionResource&0xffff0000:
		return fmt.Errorf("%w: 0x%08x", ErrVersion, l.Version)
	case !l.Space.equal(space):
		return fmt.Errorf("%w: it belongs to lockspace %q", ErrNoLease, l.Space)
	case !l.Resource.equal(resource):
		return fmt.Errorf("%w: the resource here is %q", ErrNoLease, l.Resource)
	case l.NumHosts < uint64(hostID):
		return fmt.Errorf("%w: it takes %d hosts, we are host %d", ErrHostIDRange, l.NumHosts, hostID)
	case checksum(b[:leaderSumSize]) != l.Checksum:
		return fmt.Errorf("%w: checksum 0x%08x, the bytes say 0x%08x", ErrCorrupt, l.Checksum, checksum(b[:leaderSumSize]))
	}
	return l.checkCounts()
}

// checkCounts refuses counts that would lead a reader beyond the area.
func (l *Leader) checkCounts() error {
	g, err := geometryOf(l)
	if err != nil {
		return err
	}
	if l.MaxHosts != uint64(g.MaxHosts()) || l.NumHosts > l.MaxHosts {
		return fmt.Errorf("%w: %d of %d hosts where %d fit", ErrCorrupt, l.NumHosts, l.MaxHosts, g.MaxHosts())
	}
	return nil
}
