package pool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a host's own file system in a file.
type disk struct {
	image string // its name begins with the pool's tag, by which Sweep finds it
	at    string // mount point

	mu      sync.Mutex // guards what follows, and changes of the disk
	mounted bool
	frozen  bool
	full    bool
	lost    bool // its power; it can only be unmounted
}

// errUnmounted says that the disk of a host without power cannot be used.
var errUnmounted = errors.New("the host is without power; start it first")

// makeDisks makes and mounts all disks and starts the child that thaws them when we are gone.
func (p *Pool) makeDisks() error {
	var mounts []string
	for _, h := range p.hosts {
		d := &disk{image: filepath.Join(p.cfg.Disks, p.cfg.Tag+"-"+h.name+".img"), at: h.data}
		mounts = append(mounts, d.at)
		h.disk = d
		if err := d.make(p.cfg.DiskBytes); err != nil {
			return fmt.Errorf("making the disk of %s: %w", h.name, err)
		}
	}
	var err error
	p.thaw, err = newThawer(p.cfg.Tag, mounts)
	return err
}

// make makes the file and the file system and mounts it.
func (d *disk) make(bytes int64) error {
	f, err := os.OpenFile(d.image, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(bytes), f.Close(), os.MkdirAll(d.at, 0o700)); err != nil {
		return err
	}
	if _, err := tool("mkfs.ext4", "-q", "-F", "-m", "0", d.image); err != nil {
		return err
	}
	return d.mount()
}

// mount mounts the disk, which replays its journal; one that is mounted is left alone.
func (d *disk) mount() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mounted {
		return nil
	}
	if err := d.leaveHeld(); err != nil {
		return err
	}
	if _, err := tool("mount", "-t", "ext4", "-o", "loop,noatime", d.image, d.at); err != nil {
		return fmt.Errorf("%w: %w", ErrCannot, err)
	}
	d.mounted = true
	if d.full {
		return nil
	}
	return d.dropBallast() // the power may have gone before its removal was flushed
}

// unmount gives mount and loop device back. Whoever holds a file there for a moment longer is waited for.
func (d *disk) unmount() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.mounted {
		return nil
	}
	if err := umount(d.at); err != nil {
		return err
	}
	d.mounted, d.lost = false, false
	d.awaitDetached()
	return nil
}

// detachTime is how long the kernel may take to give a loop device back.
const detachTime = 2 * time.Second

// awaitDetached waits until the loop device is gone, and says whether it is. It is kept by copies of the mount: a program that made a
// mount namespace of its own meanwhile, as ip netns exec does, has one until it ends.
func (d *disk) awaitDetached() bool {
	for end := time.Now().Add(detachTime); ; time.Sleep(5 * time.Millisecond) {
		loops, err := loopsOf(filepath.Base(d.image))
		if err == nil && len(loops) == 0 {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// leaveHeld goes on with a copy of a file whose last mount lives on elsewhere: mounting it again would give that mount, which has
// stopped. Nothing writes to the file any more.
func (d *disk) leaveHeld() error {
	loops, err := loopsOf(filepath.Base(d.image))
	if err != nil || len(loops) == 0 {
		return err
	}
	next := d.image + "+"
	if _, err := tool("cp", "--sparse=always", d.image, next); err != nil {
		return err
	}
	err = os.Remove(d.image)
	d.image = next
	return err
}

// umount unmounts, and tries again for a while.
func umount(at string) error {
	var err error
	for end := time.Now().Add(toolTime); ; time.Sleep(20 * time.Millisecond) {
		if _, err = tool("umount", at); err == nil || time.Now().After(end) || !strings.Contains(err.Error(), "busy") {
			return err
		}
	}
}

// The requests of ext4 that the package unix has no names for.
const (
	fsShutdown = 0x8004587d // FS_IOC_SHUTDOWN
	noLogFlush = 2          // FS_SHUTDOWN_FLAGS_NOLOGFLUSH
	fiFreeze   = 0xc0045877 // FIFREEZE
	fiThaw     = 0xc0045878 // FITHAW
)

// ioctl asks the file system something.
func (d *disk) ioctl(request uint) error {
	f, err := os.Open(d.at)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetInt(int(f.Fd()), request, 0)
}

// losePower forgets what was not flushed: the file system stops without writing its journal out. What waits for a frozen one is
// let go afterwards, and fails.
func (d *disk) losePower() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.mounted || d.lost {
		return nil
	}
	if err := d.stopFS(); err != nil {
		return fmt.Errorf("stopping the file system: %w", err)
	}
	d.lost = true
	return nil
}

// stopFS does both with one descriptor: a file system that has stopped cannot be opened. Caller holds mu.
func (d *disk) stopFS() error {
	f, err := os.Open(d.at)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.IoctlSetPointerInt(int(f.Fd()), fsShutdown, noLogFlush)
	if d.frozen {
		err = errors.Join(err, unix.IoctlSetInt(int(f.Fd()), fiThaw, 0))
		d.frozen = false
	}
	return err
}

// freeze hangs every writer.
func (d *disk) freeze() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.mounted || d.lost {
		return errUnmounted
	}
	if d.frozen {
		return nil
	}
	if err := d.ioctl(fiFreeze); err != nil {
		return err
	}
	d.frozen = true
	return nil
}

func (d *disk) thaw() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.thawLocked()
}

// thawLocked lets writers go on. Caller holds mu.
func (d *disk) thawLocked() error {
	if !d.frozen {
		return nil
	}
	if err := d.ioctl(fiThaw); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: it is not frozen
		return err
	}
	d.frozen = false
	return nil
}

func (d *disk) ballast() string { return filepath.Join(d.at, "ballast") }

// fill takes all space, to the last block.
func (d *disk) fill() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.mounted || d.lost {
		return errUnmounted
	}
	if d.frozen {
		return errors.New("it is frozen; thaw it first")
	}
	f, err := os.OpenFile(d.ballast(), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	d.full = true
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	for off, step := fi.Size(), int64(16<<20); step >= 4096; {
		err := unix.Fallocate(int(f.Fd()), 0, off, step)
		switch {
		case err == nil:
			off += step
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
	return nil
}

// free gives the space back; that of a host without power after its disk is mounted again.
func (d *disk) free() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.full {
		return nil
	}
	if !d.mounted || d.lost {
		return errUnmounted
	}
	if err := d.dropBallast(); err != nil {
		return err
	}
	d.full = false
	return nil
}

func (d *disk) dropBallast() error {
	if err := os.Remove(d.ballast()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// FillDisk takes all space of a host's disk. The host must have power.
func (p *Pool) FillDisk(name string) error { return p.onDisk(name, "filling", (*disk).fill) }

// FreeDisk gives it back. The host must have power.
func (p *Pool) FreeDisk(name string) error { return p.onDisk(name, "freeing", (*disk).free) }

// FreezeDisk hangs a host's disk: reads of what is in memory go on, writers wait and cannot even be killed, until ThawDisk.
func (p *Pool) FreezeDisk(name string) error { return p.onDisk(name, "freezing", (*disk).freeze) }

// ThawDisk ends that; a disk that is not frozen is left alone.
func (p *Pool) ThawDisk(name string) error { return p.onDisk(name, "thawing", (*disk).thaw) }

func (p *Pool) onDisk(name, doing string, do func(*disk) error) error {
	h, err := p.need(Disk, name)
	if err != nil {
		return err
	}
	if err := do(h.disk); err != nil {
		return fmt.Errorf("%s the disk of %s: %w", doing, name, err)
	}
	return nil
}

// freeForEnd lets everything of a host go that would hold up its end.
func (h *host) freeForEnd() error {
	var err error
	if h.disk != nil {
		err = h.disk.thaw()
	}
	pids, ferr := h.family()
	for _, pid := range pids {
		err = errors.Join(err, signalPID(pid, unix.SIGCONT))
	}
	return errors.Join(err, ferr)
}

// removeDisks unmounts the disks and removes their files.
func (p *Pool) removeDisks() error {
	var errs []error
	for _, h := range p.hosts {
		if h.disk == nil {
			continue
		}
		err := errors.Join(h.disk.thaw(), h.disk.unmount())
		if err == nil {
			err = os.Remove(h.disk.image)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
