package blockdev

import "errors"

var (
	// ErrOutcomeUnknown says that a write was submitted and did not come back in time. It may land at any later
	// moment; it must not be treated as not done.
	ErrOutcomeUnknown = errors.New("outcome unknown: the I/O was submitted and has not come back")
	// ErrTimeout says that a read did not come back in time. Nothing was changed.
	ErrTimeout = errors.New("I/O timed out")
	// ErrNoDeadline says that the caller's context has no deadline, which is a bug of the caller.
	ErrNoDeadline = errors.New("device I/O without a deadline")
	// ErrMisaligned says that an offset or length is not a multiple of the sector size.
	ErrMisaligned = errors.New("offset or length is not a multiple of the sector size")
	// ErrOutOfRange says that the call reaches beyond the end of the device.
	ErrOutOfRange = errors.New("beyond the end of the device")
	// ErrReadOnly says that the device was opened, or is, read-only.
	ErrReadOnly = errors.New("device is read-only")
	// ErrGone says that the device vanished: closed, shrunk, unplugged, or the server hung up.
	ErrGone = errors.New("device is gone")
	// ErrNotSupported says that the device cannot do what was asked.
	ErrNotSupported = errors.New("not supported by the device")
	// ErrLeaseLost says that a Guard forbids the write: the lease is not held, or not for long enough.
	ErrLeaseLost = errors.New("lease lost or about to expire")
	// ErrPending says that the device cannot take the call because too many abandoned ones are outstanding.
	ErrPending = errors.New("too many I/Os have not come back")
	// ErrBusy says that something else on this machine uses the block device, so it was not opened exclusively.
	ErrBusy = errors.New("device is in use: unmount it, or stop what holds it")
	// ErrNoDirectIO says that the file system cannot do direct I/O at the sector size asked for.
	ErrNoDirectIO = errors.New("no direct I/O here: use another file system, or the Buffered option if one machine only uses the file")
)
