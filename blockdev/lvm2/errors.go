package lvm2

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-io/holdfast/blockdev"
)

var (
	// ErrNotPV says that a device carries no LVM2 label.
	ErrNotPV = errors.New("not an LVM2 physical volume")
	// ErrNoVG says that none of the devices carries the metadata of a volume group.
	ErrNoVG = errors.New("no volume group metadata found")
	// ErrChanged says that the volume group is not in the state the change was built on: somebody else wrote, or
	// another transaction was committed first. Nothing was written. Refresh and try again.
	ErrChanged = errors.New("the volume group was changed by somebody else; refresh and try again")
	// ErrSplitBrain says that two different texts claim the same sequence number, or that two devices claim to be
	// the same physical volume. Writing would destroy one of them; a person must choose.
	ErrSplitBrain = errors.New("contradicting copies of the volume group metadata")
	// ErrForeign says that the volume group, or the logical volume, belongs to somebody else or uses features that
	// this package does not manage. It is left untouched.
	ErrForeign = errors.New("managed by somebody else")
	// ErrMissingPV says that a physical volume of the volume group is not among the devices given.
	// The error is a *MissingPVError.
	ErrMissingPV = errors.New("a physical volume is missing")
	// ErrMember says that a device is part of the volume group already.
	ErrMember = errors.New("part of the volume group already")
	// ErrNoSpace says that there are not enough free extents, or no free run that is long enough.
	ErrNoSpace = errors.New("not enough free extents")
	// ErrMetadataFull says that the text does not fit into half of a metadata area.
	ErrMetadataFull = errors.New("metadata area is full")
	// ErrExists says that the name or id is taken, or that a device is a physical volume already.
	ErrExists = errors.New("already exists")
	// ErrNotFound says that there is no such logical volume.
	ErrNotFound = errors.New("no such logical volume")
	// ErrInvalid says that a name, tag, size or option is not acceptable.
	ErrInvalid = errors.New("invalid argument")
	// ErrTooSmall says that a device has no room for the metadata areas and one extent.
	ErrTooSmall = errors.New("device is too small")
	// ErrCorrupt says that bytes on the device are not what they should be. The error is a *CorruptError.
	ErrCorrupt = errors.New("corrupt")
	// ErrDoubt says that an earlier commit of this Group ended without a known outcome. Refresh first.
	ErrDoubt = errors.New("the outcome of an earlier commit is unknown; refresh first")
	// ErrDone says that a transaction was used after its commit.
	ErrDone = errors.New("transaction is finished; begin a new one")
)

// CorruptError says which bytes are damaged and what can still be read.
type CorruptError struct {
	Device   string // name of the device, empty for a text without one
	What     string // label, metadata header, metadata text
	Offset   int64  // where the damage was seen, in bytes from the start of the device (of the text without a device)
	Length   int64  // how many bytes are in doubt
	Reason   string
	Readable string // what is still readable and what to do
}

// Error names the bytes, the reason and the way out.
func (e *CorruptError) Error() string {
	s := fmt.Sprintf("%s is corrupt at bytes %d..%d: %s", e.What, e.Offset, e.Offset+max(e.Length, 1)-1, e.Reason)
	if e.Device != "" {
		s = e.Device + ": " + s
	}
	if e.Readable != "" {
		s += "; " + e.Readable
	}
	return s
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// unknownOutcome marks an error of the commit point: the new state may or may not be on the disk.
func unknownOutcome(err error) error {
	if errors.Is(err, blockdev.ErrOutcomeUnknown) {
		return err
	}
	return fmt.Errorf("%w: %w", blockdev.ErrOutcomeUnknown, err)
}

// MissingPVError names the physical volumes of a volume group that are not among the devices given. It matches ErrMissingPV.
type MissingPVError struct {
	VG  string
	PVs []MissingPV
}

// MissingPV is a physical volume that was not found.
type MissingPV struct {
	ID   string // hyphenated
	Hint string // path under which it was last written, perhaps on another host
}

// Error names them.
func (e *MissingPVError) Error() string {
	names := make([]string, len(e.PVs))
	for i, p := range e.PVs {
		names[i] = fmt.Sprintf("%s (last seen as %s)", p.ID, p.Hint)
	}
	return fmt.Sprintf("volume group %s: %v: %s", e.VG, ErrMissingPV, strings.Join(names, ", "))
}

// Is makes errors.Is(err, ErrMissingPV) true.
func (e *MissingPVError) Is(target error) bool { return target == ErrMissingPV }
