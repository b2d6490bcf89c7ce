package blockdev

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// newLocal opens path and asks the kernel what it is. It may block as long as the device likes.
func newLocal(path string, o Options) (*local, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFREG && kind != unix.S_IFBLK {
		return nil, fmt.Errorf("%w: neither a regular file nor a block device", ErrNotSupported)
	}
	d := &local{path: path, block: kind == unix.S_IFBLK, readOnly: o.ReadOnly, refs: 1, flight: newInflight(o)}
	fd, err := unix.Open(path, d.flags(o), 0)
	if err != nil {
		return nil, openFailed(err, d.block)
	}
	d.fd = fd
	if err := d.measure(o); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *local) flags(o Options) int {
	flags := unix.O_CLOEXEC | unix.O_RDWR
	if o.ReadOnly {
		flags = unix.O_CLOEXEC | unix.O_RDONLY
	}
	if d.block || !o.Buffered {
		flags |= unix.O_DIRECT
	}
	if d.block && o.Exclusive {
		flags |= unix.O_EXCL
	}
	return flags
}

// openFailed translates what open(2) said.
func openFailed(err error, block bool) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case errors.Is(err, unix.EINVAL) && !block:
		return fmt.Errorf("%w: %w", ErrNoDirectIO, err)
	case errors.Is(err, unix.EROFS), block && errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOMEDIUM):
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}

// measure finds size and sector size and refuses what cannot work.
func (d *local) measure(o Options) error {
	find := d.fileSector
	if d.block {
		find = d.blockSector
		if !o.ReadOnly && d.turnedReadOnly() { // open(2) itself may well succeed
			return ErrReadOnly
		}
	}
	ss, err := find(o)
	if err != nil {
		return err
	}
	size, err := d.sizeNow()
	if err != nil {
		return err
	}
	d.sectorSize, d.size = ss, size/int64(ss)*int64(ss)
	if d.size == 0 {
		return fmt.Errorf("%w: its size is %d bytes", ErrGone, size)
	}
	return nil
}

// blockSector is the logical sector size of a block device, which no option can change.
func (d *local) blockSector(o Options) (int, error) {
	var ss int32
	if err := ioctl(d.fd, unix.BLKSSZGET, unsafe.Pointer(&ss)); err != nil {
		return 0, fmt.Errorf("ask for the sector size: %w", err)
	}
	if !validSector(int(ss)) {
		return 0, fmt.Errorf("%w: sectors of %d bytes", ErrNotSupported, ss)
	}
	if o.SectorSize != 0 && o.SectorSize != int(ss) {
		return 0, fmt.Errorf("%w: its sectors have %d bytes, not %d", ErrNotSupported, ss, o.SectorSize)
	}
	return int(ss), nil
}

// fileSector is the sector size asked for, or the smallest that direct I/O on this file system takes.
func (d *local) fileSector(o Options) (int, error) {
	need, err := d.directAlign(o)
	if err != nil {
		return 0, err
	}
	switch {
	case o.SectorSize == 0 && need <= 512:
		return 512, nil
	case o.SectorSize == 0 && need <= 4096:
		return 4096, nil
	case o.SectorSize == 0 || need > o.SectorSize:
		return 0, fmt.Errorf("%w: it needs blocks of %d bytes", ErrNoDirectIO, need)
	}
	return o.SectorSize, nil
}

// directAlign is the alignment that direct I/O on this file needs, 1 where the kernel does not tell (before 6.1, or
// a file system that does not say); then the first I/O would fail with EINVAL, loudly.
func (d *local) directAlign(o Options) (int, error) {
	var stx unix.Statx_t
	if o.Buffered {
		return 1, nil
	}
	if unix.Statx(d.fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &stx) != nil || stx.Mask&unix.STATX_DIOALIGN == 0 {
		return 1, nil
	}
	if stx.Dio_offset_align == 0 || stx.Dio_mem_align > minBuffer {
		return 0, ErrNoDirectIO
	}
	return int(stx.Dio_offset_align), nil
}

// sizeNow asks the kernel for the size at this moment.
func (d *local) sizeNow() (int64, error) {
	if d.block {
		var size uint64
		if err := ioctl(d.fd, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
			return 0, fmt.Errorf("%w: ask for the size: %w", ErrGone, err)
		}
		return int64(size), nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return 0, fmt.Errorf("ask for the size: %w", err)
	}
	return st.Size, nil
}

// ioctl makes the call with a pointer argument.
func ioctl(fd int, req uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
