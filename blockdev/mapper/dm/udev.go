package dm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// udevControl is there while udevd runs and can be reached from here.
	udevControl = "/run/udev/control"
	// primarySource tells udev's rules that an event is one of activation or removal; they pass over others.
	primarySource = 0x40
	flagsShift    = 16
	// cookieMagic is the upper half of the key of every semaphore that udev's rules are willing to count down.
	cookieMagic  = 0x0D4D
	cookieTries  = 16
	semWaitSlice = 100 * time.Millisecond
)

// notifier makes the event of a resume or a removal one that udev acts upon, and waits until it has.
type notifier interface {
	begin() (ticket, error)
}

// ticket is one event.
type ticket interface {
	// event is what the ioctl carries.
	event() uint32
	// done waits until udev is through with the event, if there was one.
	done(ctx context.Context, generated bool) error
}

// noUdev is a machine or a container without udevd: nobody makes nodes but us.
type noUdev struct{}

func (noUdev) begin() (ticket, error)           { return noUdev{}, nil }
func (noUdev) event() uint32                    { return 0 }
func (noUdev) done(context.Context, bool) error { return nil }

// udevd is a running one. Its rule for the device-mapper counts a semaphore down when it is done with an event; the number
// of the semaphore travels with the event.
type udevd struct{}

// findUdev tells whether udevd runs.
func findUdev() notifier {
	if _, err := os.Stat(udevControl); err != nil {
		return noUdev{}
	}
	return udevd{}
}

// cookie is a semaphore of System V with one member, which is 1 until udev is done.
type cookie struct {
	id   uintptr
	base uint16
}

// begin makes a semaphore under a number that nobody uses.
func (udevd) begin() (ticket, error) {
	var last error
	for range cookieTries {
		var b [2]byte
		_, _ = rand.Read(b[:]) // never fails since Go 1.24
		base := binary.LittleEndian.Uint16(b[:])
		if base == 0 {
			continue
		}
		key := uintptr(cookieMagic)<<flagsShift | uintptr(base)
		id, _, errno := unix.Syscall(unix.SYS_SEMGET, key, 1, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
		if errno == 0 {
			return newCookie(id, base)
		}
		last = errno
		if !errors.Is(errno, unix.EEXIST) {
			break
		}
	}
	return nil, fmt.Errorf("making a semaphore for udev: %w", last)
}

func newCookie(id uintptr, base uint16) (ticket, error) {
	c := &cookie{id: id, base: base}
	if err := c.add(1, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("setting a semaphore for udev: %w", err), c.drop())
	}
	return c, nil
}

func (c *cookie) event() uint32 { return primarySource<<flagsShift | uint32(c.base) }

// done waits for zero in slices, so that ctx is heard, and takes the semaphore away in any case: nothing may be left of it.
func (c *cookie) done(ctx context.Context, generated bool) error {
	if !generated {
		return c.drop()
	}
	for {
		err := c.add(0, semWaitSlice)
		if err == nil {
			return c.drop()
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return errors.Join(fmt.Errorf("waiting for udev: %w", err), c.drop())
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("udev is not done with the event: %w", context.Cause(ctx)), c.drop())
		}
	}
}

// add adds to the semaphore, or waits for 0 when n is 0; no longer than wait.
func (c *cookie) add(n int16, wait time.Duration) error {
	// struct sembuf: number of the semaphore in its set, operation, flags.
	var op [6]byte
	binary.NativeEndian.PutUint16(op[2:], uint16(n))
	ts := unix.NsecToTimespec(int64(wait))
	return semTimedOp(c.id, &op, &ts)
}

func (c *cookie) drop() error {
	const ipcRmid = 0
	_, _, errno := unix.Syscall(unix.SYS_SEMCTL, c.id, 0, ipcRmid)
	if errno != 0 && !errors.Is(errno, unix.EIDRM) && !errors.Is(errno, unix.EINVAL) {
		return fmt.Errorf("removing udev's semaphore: %w", errno)
	}
	return nil
}
