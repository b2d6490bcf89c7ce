package dm

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// semTimedOp carries out one operation on a semaphore.
func semTimedOp(id uintptr, op *[6]byte, wait *unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_SEMTIMEDOP, id, uintptr(unsafe.Pointer(op)), 1, uintptr(unsafe.Pointer(wait)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
