package spm

import (
	"errors"
	"fmt"
)

var (
	// ErrNotSPM matches every NotSPMError.
	ErrNotSPM = errors.New("this host is not the SPM")
	// ErrChanged says that the lease on disk is not the one that the decision to start was made on. Nothing was
	// written; decide again on what is on disk now.
	ErrChanged = errors.New("the SPM lease changed since the decision")
	// ErrBusy says that the role is being started or stopped, or looks at the disk again after a doubtful write.
	ErrBusy = errors.New("the SPM role is changing; try again in a moment")
	// ErrInvalid says that a request can never work as it is.
	ErrInvalid = errors.New("invalid request")
	// ErrPending says that writes of this host have not come back from the device. The lease is kept until they do.
	ErrPending = errors.New("writes have not come back from the device; the lease is kept until they do")
	// ErrNoDomain says that the pool has no such domain.
	ErrNoDomain = errors.New("no such domain")
	// ErrDomainDown says that this SPM cannot serve a domain now. Its other domains are not affected.
	ErrDomainDown = errors.New("the domain is not served now")
	// ErrMasterMoved says that another domain is the pool's master by what is on the disks. The mirror was told; decide again.
	ErrMasterMoved = errors.New("another domain is the pool's master")
	// ErrNotMaster says that a domain is not the pool's master by its own keys.
	ErrNotMaster = errors.New("the domain does not say that it is the pool's master")
	// ErrMasterUnclear says that a change of the master was cut short, and whether it happened cannot be read now.
	ErrMasterUnclear = errors.New("a change of the master was cut short, and the domain that tells how it ended cannot be read")
	// ErrMasterUnconfirmed says that a domain was not to be had for a while, and that the cluster has not said since whether the pool's
	// master is still ours.
	ErrMasterUnconfirmed = errors.New("waiting for a word from the pool's leader that the master has not changed")
	// ErrRetired says that this host gave its word not to take the role on a master that is being given up for lost.
	ErrRetired = errors.New("this host gave its word not to take the SPM role on a master that is given up")
	// ErrNotCommitted says that the request surely changed nothing; it may be sent again with the same key.
	ErrNotCommitted = errors.New("nothing was committed; send the request again with the same key")
)

// NotSPMError refuses a request on a host that does not hold the role, and says who did when it was last known.
type NotSPMError struct {
	Holder string // host name; empty: unknown or nobody
	Epoch  uint64 // of Holder
	Reason string // why this host does not serve
}

// Error says who holds the role.
func (e *NotSPMError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "nobody known"
	}
	return fmt.Sprintf("%v (%s); holder: %s, epoch %d: send the request there or wait for the election",
		ErrNotSPM, e.Reason, holder, e.Epoch)
}

// Is makes errors.Is(err, ErrNotSPM) true.
func (e *NotSPMError) Is(target error) bool { return target == ErrNotSPM }

// invalidf makes an ErrInvalid with what to change.
func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
