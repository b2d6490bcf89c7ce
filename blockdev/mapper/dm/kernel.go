package dm

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kernel takes the ioctls of the device-mapper. The buffer is the request, and has the reply afterwards. Calls may be
// made at the same time; the kernel puts them in order.
type Kernel interface {
	Ioctl(cmd uint, buf []byte) error
	Close() error
}

// DefaultDir is where the device-mapper's nodes are.
const DefaultDir = "/dev/mapper"

// controlNode is the kernel of this machine.
type controlNode struct{ fd int }

// Available tells whether this machine has a device-mapper.
func Available() bool {
	k, err := OpenKernel()
	if err != nil {
		return false
	}
	_ = k.Close()
	return true
}

// OpenKernel opens the kernel's control node. ErrUnavailable says that there is none.
func OpenKernel() (Kernel, error) {
	path := filepath.Join(DefaultDir, unix.DM_CONTROL_NODE)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("%s: %w (%v)", path, ErrUnavailable, err)
	case err != nil:
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return controlNode{fd}, nil
}

// Ioctl implements Kernel.
func (c controlNode) Ioctl(cmd uint, buf []byte) error {
	if len(buf) < headerSize {
		return unix.EINVAL
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), uintptr(cmd), uintptr(unsafe.Pointer(&buf[0])))
	runtime.KeepAlive(buf)
	if errno != 0 {
		return errno
	}
	return nil
}

// Close implements Kernel.
func (c controlNode) Close() error { return unix.Close(c.fd) }
