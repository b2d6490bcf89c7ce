package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// Place is a lease area on a device.
type Place struct {
	// Path of a file or block device, or an nbd URI.
	Path string
	// Offset in bytes.
	Offset int64
}

// Tool does the operations with one set of times.
type Tool struct {
	// IOTimeout is N: the limit of each read and write, and what is written where a record holds it.
	IOTimeout time.Duration
	// Watchdog is W; 60 s with sanlock up to 3.8.5.
	Watchdog time.Duration
	Log      *slog.Logger
}

// Default has sanlock's times.
func Default(log *slog.Logger) Tool {
	return Tool{IOTimeout: leases.Compatible.IOTimeout, Watchdog: leases.Compatible.Watchdog, Log: log}
}

// probeSize is read where neither sector size nor kind is known yet.
const probeSize = 4096

// initTimeout bounds a write of a whole area, and openTimeout an open(2).
const (
	initTimeout = 60 * time.Second
	openTimeout = 30 * time.Second
)

func (t Tool) profile() leases.Profile {
	return leases.Profile{Name: "direct", IOTimeout: t.IOTimeout, Watchdog: t.Watchdog}
}

// open opens the device. What cannot be opened has the number noDevice, if that is not 0.
func (t Tool) open(ctx context.Context, p Place, readOnly bool, noDevice int) (blockdev.Device, error) {
	if err := t.profile().Validate(); err != nil {
		return nil, coded(CodeInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	dev, err := blockdev.Open(ctx, p.Path, blockdev.Options{ReadOnly: readOnly, IOTimeout: t.IOTimeout})
	if err == nil {
		return dev, nil
	}
	number := openNumber(p.Path, err)
	if noDevice != 0 && number != CodeShort {
		number = noDevice
	}
	return nil, coded(number, err)
}

// openNumber is what open(2) would have said, for the cases that blockdev refuses before it.
func openNumber(path string, err error) int {
	var errno unix.Errno
	st, serr := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || path == "":
		return CodeNotFound
	case serr == nil && st.IsDir():
		return -int(unix.EISDIR)
	case serr == nil && st.Mode().IsRegular() && st.Size() < 512:
		return CodeShort
	case errors.As(err, &errno):
		return -int(errno)
	}
	return CodeInvalid
}

// grow makes a regular file long enough for n bytes at its offset, which is what a write there would do. The file must
// exist.
func grow(p Place, n int64) (regular bool, err error) {
	st, err := os.Stat(p.Path)
	if err != nil || !st.Mode().IsRegular() {
		return false, nil //nolint:nilerr // opening it says better what is wrong
	}
	if p.Offset < 0 || p.Offset%512 != 0 {
		return true, codef(CodeInvalid, "offset %d is not a multiple of the sector size", p.Offset)
	}
	if st.Size() >= p.Offset+n {
		return true, nil
	}
	if err := os.Truncate(p.Path, p.Offset+n); err != nil {
		return true, fmt.Errorf("making room for a lease area: %w", err)
	}
	return true, nil
}

// read reads n bytes at off within N.
func (t Tool) read(ctx context.Context, dev blockdev.Device, off int64, n int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, t.IOTimeout)
	defer cancel()
	buf := make([]byte, n)
	return buf, dev.ReadAt(ctx, buf, off)
}

// write writes and makes durable within limit.
func (t Tool) write(ctx context.Context, dev blockdev.Device, off int64, buf []byte, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := dev.WriteAt(ctx, buf, off); err != nil {
		return err
	}
	if err := dev.Flush(ctx); err != nil && !errors.Is(err, blockdev.ErrNotSupported) {
		return err
	}
	return nil
}

// closing closes dev at the end of an operation; an error of its own matters only if there is no other.
func closing(dev blockdev.Device, err *error) {
	if cerr := dev.Close(); cerr != nil && *err == nil {
		*err = cerr
	}
}

// sizes reads which sector and area size a place has. A place that holds no record has none.
func (t Tool) sizes(ctx context.Context, dev blockdev.Device, off int64) (leases.Geometry, error) {
	buf, err := t.read(ctx, dev, off, probeSize)
	if err != nil {
		return leases.Geometry{}, err
	}
	var l leases.Leader
	if err := l.Decode(buf); err != nil {
		return leases.Geometry{}, coded(CodeFailed, err)
	}
	if l.Magic != leases.MagicHost && l.Magic != leases.MagicResource {
		return leases.Geometry{}, codef(CodeFailed, "no lease record at %d on %s tells sector and area size", off, dev.Name())
	}
	g, err := l.Geometry()
	if err != nil {
		return g, coded(CodeFailed, err)
	}
	return g, nil
}

func isRegular(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}
