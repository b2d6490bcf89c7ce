// Package blockdev is the only way Holdfast touches a LUN: aligned direct I/O with a deadline on every call.
//
// The package knows nothing of what lies on a device. Formats live in its sub-packages, the right to write in
// package leases, which satisfies the Guard declared here.
package blockdev

import "context"

// Device is a LUN, or a part or a disguise of one. Implementations are safe for concurrent use.
//
// Offsets and lengths are in bytes and multiples of SectorSize; the memory of p needs no alignment, because data
// passes through buffers that the device owns. That is what makes an abandoned call harmless: the caller gets its
// slice back at once, and the buffer stays with the I/O until the kernel or the server lets go of it.
//
// Every call needs a context with a deadline; one without is refused with ErrNoDeadline. A write, flush, zeroing or
// discard that did not come back in time fails with ErrOutcomeUnknown: it may still land later. A read that did not
// come back in time fails with ErrTimeout.
type Device interface {
	// Name says in errors and logs which device this is: its path or URI.
	Name() string
	// Size is the size in bytes when the device was opened.
	Size() int64
	// SectorSize is the logical sector size in bytes: 512 or 4096. Writes of one sector are taken to be atomic.
	SectorSize() int
	// ReadAt fills p from byte offset off.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// WriteAt writes p at byte offset off. It returns nil only when all of p is on the device or in its cache.
	WriteAt(ctx context.Context, p []byte, off int64) error
	// Flush makes every write that returned before it durable.
	Flush(ctx context.Context) error
	// WriteZeroes makes n bytes at off read as zeroes, by the kernel's or server's own means where there are any.
	WriteZeroes(ctx context.Context, off, n int64) error
	// Discard tells the device that n bytes at off are not needed. ErrNotSupported where it cannot be told.
	Discard(ctx context.Context, off, n int64) error
	// Pending is the number of calls that were abandoned and have not come back. While it is not zero, a write
	// with unknown outcome may still land.
	Pending() int
	// Close releases the device. It does not wait for abandoned calls.
	Close() error
}
