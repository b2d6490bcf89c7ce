package leases

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrGeometry says that sector size, area size or offset cannot hold a lease.
	ErrGeometry = errors.New("lease area does not fit")
	// ErrCorrupt says that a record fails its checksum or contradicts itself.
	ErrCorrupt = errors.New("lease record is corrupt")
	// ErrNoLease says that there is no lease of the expected kind and name: never initialised, cleared, or another's.
	ErrNoLease = errors.New("no such lease here")
	// ErrVersion says that the record was written in a format this program does not know.
	ErrVersion = errors.New("lease record has an unknown format version")
	// ErrHostIDRange says that the lease has no room for this host id.
	ErrHostIDRange = errors.New("host id is out of the lease's range")
	// ErrHostIDBusy says that another host has this host id. Surely not joined.
	ErrHostIDBusy = errors.New("host id is in use by another host")
	// ErrLost says that the lockspace is not (or no longer) held by this host. All its leases are void.
	ErrLost = errors.New("lockspace lost")
	// ErrHeldHere says that this process holds the resource already.
	ErrHeldHere = errors.New("resource is held by this process already")
	// ErrBusy says that another call on the same resource is under way or not settled yet.
	ErrBusy = errors.New("resource is busy: a call is under way or its outcome is not settled yet")
	// ErrNotHeld says that the lease to release is not held.
	ErrNotHeld = errors.New("lease is not held")
	// ErrChanged says that a record is not what it was: somebody else wrote it. Nothing was written.
	ErrChanged = errors.New("record changed on disk")
	// ErrLeasesHeld says that a lockspace cannot be left while its leases are held.
	ErrLeasesHeld = errors.New("resource leases are still held: release them first")
	// ErrLVB says that there is no lock value block to use: not asked for, too much data, or no room in the lease area.
	ErrLVB = errors.New("lock value block is not available")
	// ErrRequest says that the owner of a resource cannot be asked for it: the version asked for is not the next one, or
	// another host has asked for a later one. Nothing was written.
	ErrRequest = errors.New("resource cannot be asked for")
	// ErrShared says that a resource is held shared where an exclusive owner is needed. Nothing was written.
	ErrShared = errors.New("resource is held shared")
	// ErrNoLockspace says that the owner of a resource cannot be judged because no lockspace is joined.
	ErrNoLockspace = errors.New("the owner cannot be judged without a joined lockspace")
	// ErrHeld says that the resource belongs to another host. Use errors.As with *HeldError for the details.
	ErrHeld = errors.New("resource is held by another host")
)

// HeldError tells who holds a resource and when it could be had. It matches ErrHeld.
type HeldError struct {
	Resource   string
	HostID     int
	Generation uint64
	Version    uint64
	HostName   string
	State      HostState
	// Free is how long it takes until the holder counts as dead if it is not heard of again; 0 when it is alive.
	Free time.Duration
	// Shared is true when the holder has a shared lease.
	Shared bool
	// ShortHold is true when the holder is only about to share the lease.
	ShortHold bool
	// fleeting is true when the record does not say that the lease is to be held for longer: another host completed the holder's ballot and
	// could not know, or it is free again.
	fleeting bool
}

// Error implements error.
func (e *HeldError) Error() string {
	when := ""
	if e.Free > 0 {
		when = fmt.Sprintf(", can be taken in %v if it stays silent", e.Free.Round(time.Second))
	}
	how := "held"
	if e.Shared {
		how = "shared"
	}
	return fmt.Sprintf("resource %s is %s by host %d (%s, generation %d, %s, version %d)%s",
		e.Resource, how, e.HostID, e.HostName, e.Generation, e.State, e.Version, when)
}

// Is makes errors.Is(err, ErrHeld) work.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }
