package xlease

import (
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/leases"
)

var (
	// ErrIndex says that the index cannot be read: damaged, cut short, of another version or another lockspace.
	ErrIndex = errors.New("the index of external leases is damaged: rebuild it")
	// ErrUpdating says that the index was being written as a whole when its writer stopped, or is being written now.
	ErrUpdating = errors.New("the index of external leases is being rebuilt, or was when its writer stopped: rebuild it")
	// ErrNotFound says that the index has no lease of this id.
	ErrNotFound = errors.New("no such lease")
	// ErrFull says that no record is free whose resource would have room in the volume.
	ErrFull = errors.New("the volume of external leases is full: delete leases that are not needed")
	// ErrID says that an id cannot be one of an external lease.
	ErrID = errors.New("the id of a lease must be a UUID")
	// ErrInUse says that a lease is held, or that it cannot be told whether it is. See InUseError.
	ErrInUse = errors.New("the lease is held")
	// ErrDamaged says that a resource cannot be read for certain, so that nobody can tell whether it is held.
	ErrDamaged = errors.New("the resource of a lease is damaged")
	// ErrTooSmall says that a volume has no room for an index.
	ErrTooSmall = errors.New("the volume is too small for an index of external leases")
)

// InUseError refuses to destroy a lease that somebody has. It matches ErrInUse.
type InUseError struct {
	ID string
	// Judgement says who has it, and when it would be free.
	Judgement leases.Judgement
	// Others is how many further leases are held.
	Others int
}

// Error says who holds the lease.
func (e *InUseError) Error() string {
	more := ""
	if e.Others > 0 {
		more = fmt.Sprintf(", and %d more are held", e.Others)
	}
	return fmt.Sprintf("lease %s is held (%s) by host %d, %s%s", e.ID, e.Judgement.State, e.Judgement.Owner, e.Judgement.Reason, more)
}

// Is makes errors.Is(err, ErrInUse) work.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }
