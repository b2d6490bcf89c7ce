package blockdev

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syscall does one operation. It runs in a worker and may never return.
func (d *local) syscall(op string, buf []byte, off, n int64) error {
	if !d.block && changes(op) {
		// A file that was cut short would silently grow again.
		if err := d.checkShrunk(off + n); err != nil {
			return err
		}
	}
	err := d.retry(op, buf, off, n)
	if err == nil {
		return nil
	}
	return d.explain(op, off+n, err)
}

// retry goes on after a signal and after a short transfer.
func (d *local) retry(op string, buf []byte, off, n int64) error {
	for {
		done, err := d.once(op, buf, off, n)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case int64(done) == n:
			return nil
		case done == 0:
			return errEndOfDevice
		case done%d.sectorSize != 0:
			return fmt.Errorf("%d bytes of %d: %w", done, n, errEndOfDevice)
		}
		buf, off, n = buf[done:], off+int64(done), n-int64(done)
	}
}

// errEndOfDevice is a transfer that stopped inside what was the device when it was opened.
var errEndOfDevice = errors.New("unexpected end")

func (d *local) once(op string, buf []byte, off, n int64) (int, error) {
	switch op {
	case opRead:
		return unix.Pread(d.fd, buf, off)
	case opWrite:
		return unix.Pwrite(d.fd, buf, off)
	case opFlush:
		return int(n), unix.Fdatasync(d.fd)
	case opZero:
		return int(n), d.zeroRange(off, n)
	case opDiscard:
		return int(n), d.discardRange(off, n)
	}
	return 0, fmt.Errorf("%w: %s", ErrNotSupported, op)
}

// zeroRange asks the kernel for zeroes. BLKZEROOUT falls back to writing inside the kernel; files fall back to a
// hole, which tmpfs has and ZERO_RANGE it has not.
func (d *local) zeroRange(off, n int64) error {
	if d.block {
		arg := [2]uint64{uint64(off), uint64(n)}
		return ioctl(d.fd, unix.BLKZEROOUT, unsafe.Pointer(&arg))
	}
	err := unix.Fallocate(d.fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return d.discardRange(off, n)
	}
	return err
}

func (d *local) discardRange(off, n int64) error {
	if d.block {
		arg := [2]uint64{uint64(off), uint64(n)}
		return ioctl(d.fd, unix.BLKDISCARD, unsafe.Pointer(&arg))
	}
	return unix.Fallocate(d.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// checkShrunk fails with ErrGone when the device now ends before end.
func (d *local) checkShrunk(end int64) error {
	now, err := d.sizeNow()
	if err != nil {
		return err
	}
	if now < end {
		return fmt.Errorf("%w: it had %d bytes when it was opened and has %d now", ErrGone, d.size, now)
	}
	return nil
}

// explain translates what the kernel said into this package's errors, looking at the device again where one number
// stands for many things.
func (d *local) explain(op string, end int64, err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ESTALE),
		errors.Is(err, unix.ENOMEDIUM), errors.Is(err, errEndOfDevice):
		return fmt.Errorf("%w: %w", ErrGone, err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, unix.EPERM) && mutates(op):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	if gone := d.checkShrunk(end); gone != nil {
		return fmt.Errorf("%w: %w", gone, err)
	}
	if d.block && mutates(op) && d.turnedReadOnly() {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

// turnedReadOnly asks whether the kernel now refuses writes to the block device.
func (d *local) turnedReadOnly() bool {
	var ro int32
	return ioctl(d.fd, unix.BLKROGET, unsafe.Pointer(&ro)) == nil && ro != 0
}
