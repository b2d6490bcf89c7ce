package dm

import "errors"

var (
	// ErrUnavailable says that this machine has no device-mapper. Load the module dm_mod, or attach by an export.
	ErrUnavailable = errors.New("no device-mapper here: load the module dm_mod, or attach by an export")
	// ErrUnmappable says that a logical volume cannot be mapped: it is not linear, or it lies on something that is no
	// block device of this machine. Attach it by an export.
	ErrUnmappable = errors.New("logical volume cannot be mapped")
	// ErrNotActive says that a volume has no device on this host. Activate it.
	ErrNotActive = errors.New("logical volume is not active on this host")
	// ErrOpen says that something on this host has the device open. Stop what uses it, and deactivate again.
	ErrOpen = errors.New("device is open: stop what uses it")
	// ErrStale says that the device has an older, shorter table than the metadata. Refresh it.
	ErrStale = errors.New("device is shorter than the metadata says: refresh it")
	// ErrConflict says that the device maps other extents than the metadata. Nothing was changed: what is written through it
	// goes to the wrong place. Stop what uses it and deactivate it.
	ErrConflict = errors.New("device does not map what the metadata says: stop what uses it and deactivate it")
	// ErrSuspended says that I/O to the device waits for a resume, which somebody owes it. Refresh does it.
	ErrSuspended = errors.New("device is suspended: refresh it")
	// ErrFrozen says that the device was cut off when the right to write ended, and that somebody has it open still. What that one
	// remembers of the volume may be wrong: stop it, and activate again.
	ErrFrozen = errors.New("device was cut off, and what used it has it open still: stop it")
	// ErrNameTaken says that another device has the volume's name. Remove that one (dmsetup info NAME shows it).
	ErrNameTaken = errors.New("another device has the name")
	// ErrKernel says that the kernel answered with something that is not understood.
	ErrKernel = errors.New("unexpected answer of the device-mapper")
)
