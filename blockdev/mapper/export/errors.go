package export

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
)

var (
	// ErrNoSpace says that a write lies behind what is allocated and no extension came within the patience. Extend
	// the volume, call Grow, and let the guest go on.
	ErrNoSpace = errors.New("behind the allocated end of the volume, and no extension came in time")
	// ErrMapping says that segments cannot be mapped, or do not continue the mapping in use. Read the volume group again.
	ErrMapping = errors.New("segments cannot be mapped")
	// ErrDetached says that the export ends or has ended. Attach the volume again.
	ErrDetached = errors.New("export is detached")
	// ErrQuarantine says that an earlier write to the same bytes has not come back, and could land on top of a new
	// one. Try again when the device answers, or detach.
	ErrQuarantine = errors.New("an earlier write to these bytes has not come back")
	// ErrConfig says that a configuration cannot be served.
	ErrConfig = errors.New("invalid export configuration")
)

// errOtherFlush is the flush of a client whose writes a failed flush of another one may have lost.
var errOtherFlush = errors.New("an earlier flush of another client failed: write again what was written since the last good one")

// toErrno is what a client is told. Whatever is not its own mistake or a lack of space is an I/O error: a lost lease and
// a write of unknown outcome too.
func toErrno(err error) uint32 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrNoSpace):
		return uint32(unix.ENOSPC)
	case errors.Is(err, ErrDetached):
		return uint32(unix.ESHUTDOWN)
	case errors.Is(err, blockdev.ErrReadOnly):
		return uint32(unix.EPERM)
	}
	return uint32(unix.EIO)
}
