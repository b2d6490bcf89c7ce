package leases

import (
	"encoding/binary"
	"fmt"
)

const (
	requestSize    = 20
	magicRequest   = 0x08292011
	versionRequest = 0x00010001
)

// Request is the record in which a host asks the owner of a resource to give it up.
type Request struct {
	Magic, Version uint32
	Lver           uint64
	ForceMode      ForceMode
}

// ForceMode says how a resource is asked for.
type ForceMode uint32

// The modes of a request.
const (
	// RequestNone: nothing is asked for.
	RequestNone ForceMode = 0
	// RequestForce: the owner's users are to be killed.
	RequestForce ForceMode = 1
	// RequestGraceful: the owner's users are to be told.
	RequestGraceful ForceMode = 2
)

// String is the mode as people write it.
func (m ForceMode) String() string {
	switch m {
	case RequestNone:
		return "none"
	case RequestForce:
		return "force"
	case RequestGraceful:
		return "graceful"
	}
	return fmt.Sprintf("mode %d", uint32(m))
}

// Pending says whether the holder of version lver is asked to give it up. A request for a version that was reached is
// over; nobody resets it.
func (r *Request) Pending(lver uint64) bool { return r.ForceMode != RequestNone && r.Lver > lver }

// Decode fills r from a sector and checks magic and major version.
func (r *Request) Decode(b []byte) error {
	if len(b) < requestSize {
		return fmt.Errorf("%w: request record of %d bytes", ErrCorrupt, len(b))
	}
	le := binary.LittleEndian
	*r = Request{Magic: le.Uint32(b[0:]), Version: le.Uint32(b[4:]), Lver: le.Uint64(b[8:]), ForceMode: ForceMode(le.Uint32(b[16:]))}
	if r.Magic != magicRequest {
		return fmt.Errorf("%w: magic 0x%08x is not a request's", ErrNoLease, r.Magic)
	}
	if r.Version&0xffff0000 != versionRequest&0xffff0000 {
		return fmt.Errorf("%w: request 0x%08x", ErrVersion, r.Version)
	}
	return nil
}

// Encode writes r into b.
func (r *Request) Encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], r.Magic)
	le.PutUint32(b[4:], r.Version)
	le.PutUint64(b[8:], r.Lver)
	le.PutUint32(b[16:], uint32(r.ForceMode))
}
