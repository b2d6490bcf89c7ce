package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/rindex"
)

// Result numbers of sanlock, as scripts see them.
const (
	CodeOK           = 0
	CodeFailed       = -1   // the area's sizes are unknown: no record that tells them
	CodeNotFound     = -2   // no such file, or no such name
	CodeIO           = -5   // the device failed
	CodeAgain        = -11  // shared by live hosts
	CodeNoDevice     = -19  // lockspace device cannot be opened
	CodeInvalid      = -22  // an argument cannot be right
	CodeNoSpace      = -28  // index full
	CodeShort        = -90  // beyond the end of the device
	CodeTimeout      = -202 // I/O did not come back
	CodeCorruptBlock = -214
	CodeMagic        = -223
	CodeVersion      = -224
	CodeLockspaceBad = -226 // the record names another lockspace
	CodeResourceBad  = -227 // the record names another resource
	CodeNumHosts     = -228
	CodeChecksum     = -229
	CodeLockspace    = -241 // owned by somebody who cannot be judged
	CodeOwned        = -244 // another host won
	CodeReleaseLver  = -250
	CodeReleaseOwner = -251
	CodeHostIDBusy   = -262
	CodeIndexMagic   = -274
	CodeIndexVersion = -275
	CodeIndexSpace   = -276
	CodeIndexOffset  = -277
	CodeIndexDiffers = -278
)

// Error is a failure with sanlock's number for it.
type Error struct {
	Number int
	Err    error
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%v (%d)", e.Err, e.Number) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// coded gives err a number.
func coded(number int, err error) error { return &Error{number, err} }

func codef(number int, format string, args ...any) error {
	return coded(number, fmt.Errorf(format, args...))
}

// numbers are looked at in order: what is more exact comes first.
var numbers = []struct {
	err    error
	number int
}{
	{leases.ErrNoLockspace, CodeLockspace}, {leases.ErrHostIDBusy, CodeHostIDBusy}, {leases.ErrNotHeld, CodeReleaseOwner},
	{leases.ErrChanged, CodeReleaseOwner}, {leases.ErrHeld, CodeOwned}, {leases.ErrHostIDRange, CodeNumHosts},
	{leases.ErrVersion, CodeVersion}, {leases.ErrNoLease, CodeMagic}, {leases.ErrCorrupt, CodeChecksum},
	{leases.ErrGeometry, CodeInvalid}, {rindex.ErrMagic, CodeIndexMagic}, {rindex.ErrVersion, CodeIndexVersion},
	{rindex.ErrLockspace, CodeIndexSpace}, {rindex.ErrOffset, CodeIndexOffset}, {rindex.ErrNotFound, CodeNotFound},
	{rindex.ErrMismatch, CodeIndexDiffers}, {rindex.ErrFull, CodeNoSpace},
	{blockdev.ErrMisaligned, CodeInvalid}, {blockdev.ErrOutOfRange, CodeShort}, {blockdev.ErrOutcomeUnknown, CodeTimeout},
	{blockdev.ErrTimeout, CodeTimeout}, {context.DeadlineExceeded, CodeTimeout}, {fs.ErrNotExist, CodeNotFound},
}

// Code is sanlock's result number for err.
func Code(err error) int {
	var e *Error
	var errno unix.Errno
	switch {
	case err == nil:
		return CodeOK
	case errors.As(err, &e):
		return e.Number
	}
	var held *leases.HeldError
	if errors.As(err, &held) && held.Shared {
		return CodeAgain
	}
	for _, n := range numbers {
		if errors.Is(err, n.err) {
			return n.number
		}
	}
	if errors.As(err, &errno) {
		return -int(errno)
	}
	return CodeIO
}
