package domain

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

var (
	// ErrNotDomain says that the volume group carries no storage domain: the tag RHAT_storage_domain is missing.
	ErrNotDomain = errors.New("not a storage domain")
	// ErrUnready says that the domain's creation was interrupted. It holds nothing of value; create it again.
	ErrUnready = errors.New("creation of the domain was interrupted; create it again")
	// ErrSealBroken says that the checksum of the domain's keys does not match them.
	ErrSealBroken = errors.New("seal broken: the checksum of the domain's keys does not match them")
	// ErrBadKeys says that a required key of the domain is missing or makes no sense.
	ErrBadKeys = errors.New("bad domain keys")
	// ErrVersion says that the domain's version cannot be used this way.
	ErrVersion = errors.New("domain version not supported")
	// ErrTooSmall says that the LUNs together are smaller than a domain needs.
	ErrTooSmall = errors.New("too small for a storage domain")
	// ErrInUse says that a LUN holds something that creating a domain would destroy. See InUseError.
	ErrInUse = errors.New("device is in use")

	// ErrMember says that a LUN is one of the domain's already.
	ErrMember = errors.New("the LUN is part of the domain already; there is nothing to do")
	// ErrSilentLUN says that a LUN that was to join a domain did not answer in time. The domain is as it was; a write to the LUN
	// may still land.
	ErrSilentLUN = errors.New("the LUN did not answer in time; the domain is unchanged")

	// ErrInvalid says that a request makes no sense and can never succeed.
	ErrInvalid = errors.New("invalid request")
	// ErrConflict says that the id exists with other parameters, or that the parent cannot take a child.
	ErrConflict = errors.New("conflicts with what exists")
	// ErrNameTaken says that another image has this name.
	ErrNameTaken = errors.New("name is taken")
	// ErrBusy says that the volume is being deleted.
	ErrBusy = errors.New("volume is being deleted")
	// ErrFull says that there is no free extent or no free slot left.
	ErrFull = errors.New("domain is full")
	// ErrNotFound says that no volume has this id.
	ErrNotFound = errors.New("volume not found")
	// ErrHasChildren says that other volumes are based on this one.
	ErrHasChildren = errors.New("volume has children")
	// ErrStalled says that the device did not answer in time before anything was committed: the request surely
	// failed, and the writer refuses further ones until it has been refreshed.
	ErrStalled = errors.New("device did not answer in time; nothing was committed")
	// ErrOutcomeUnknown says that a commit was submitted and its outcome is not known. The writer refuses further
	// requests until Refresh succeeds; the change may or may not be there then.
	ErrOutcomeUnknown = blockdev.ErrOutcomeUnknown
	// ErrClosed says that the writer was closed.
	ErrClosed = errors.New("writer is closed")
)

// ErrNoSpace says that the volume group has too few free extents. See NoSpaceError.
var ErrNoSpace = errors.New("out of space")

// NoSpaceError tells how much is missing for an extension. It matches ErrNoSpace and ErrFull.
type NoSpaceError struct {
	Volume string
	Needed int64 // bytes, in whole extents
	Free   int64 // bytes
}

// Error says how much is missing.
func (e *NoSpaceError) Error() string {
	return fmt.Sprintf("volume %s needs %d bytes more and %d are free: %v", e.Volume, e.Needed, e.Free, ErrNoSpace)
}

// Is makes the error match ErrNoSpace and ErrFull.
func (e *NoSpaceError) Is(target error) bool { return target == ErrNoSpace || target == ErrFull }

// ErrVolumeHeld says that somebody uses a volume. See VolumeHeldError.
var ErrVolumeHeld = errors.New("volume is in use")

// VolumeHeldError tells who holds the lease of a volume. It matches ErrVolumeHeld.
type VolumeHeldError struct {
	Volume     string
	Holder     string        // host
	RetryAfter time.Duration // when it could be had if the holder, who is silent, stays so; 0: the holder lives
	Cause      error
}

// Error says who uses the volume.
func (e *VolumeHeldError) Error() string {
	return fmt.Sprintf("volume %s is in use by %s, which holds its lease: %v", e.Volume, e.Holder, e.Cause)
}

// Unwrap is what the keeper of the leases said.
func (e *VolumeHeldError) Unwrap() error { return e.Cause }

// Is makes the error match ErrVolumeHeld.
func (e *VolumeHeldError) Is(target error) bool { return target == ErrVolumeHeld }

// InUseError tells what creating a domain on Device would destroy. It matches ErrInUse.
type InUseError struct {
	Device string // name of the device
	Found  string // what was found, for people
	Name   string // what CreateOptions.Force must say to destroy it
}

// Error says what was found and how to go on.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s holds %s; to destroy it, force with %q", e.Device, e.Found, e.Name)
}

// Is makes the error match ErrInUse.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }
