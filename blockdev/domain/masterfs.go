package domain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
)

// formatMaster puts an ext3 file system on the master volume, which a VDSM that becomes SPM mounts. It is made in a
// sparse file and its data copied, so that it works on every kind of Device. The volume is zero already.
func (c *creation) formatMaster(ctx context.Context, master blockdev.Device) error {
	dir, err := os.MkdirTemp("", "holdfast-master-")
	if err != nil {
		return fmt.Errorf("making the master file system: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f, err := os.Create(filepath.Join(dir, "master"))
	if err != nil {
		return fmt.Errorf("making the master file system: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(master.Size()); err != nil {
		return fmt.Errorf("making the master file system: %w", err)
	}
	if err := c.o.FormatMaster(ctx, f.Name()); err != nil {
		return fmt.Errorf("making the master file system: %w", err)
	}
	if err := copyData(ctx, c.io, master, f); err != nil {
		return fmt.Errorf("copying the master file system: %w", err)
	}
	return nil
}

// copyData copies the parts of a sparse file that are not zero.
func copyData(ctx context.Context, t ioCtx, dst blockdev.Device, f *os.File) error {
	buf := make([]byte, mib)
	zero := make([]byte, mib)
	for off := int64(0); off < dst.Size(); {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		if err != nil {
			return fmt.Errorf("looking for data: %w", err)
		}
		off = start / (64 * kib) * (64 * kib)
		n, err := f.ReadAt(buf[:min(mib, dst.Size()-off)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !bytes.Equal(buf[:n], zero[:n]) {
			if err := t.write(ctx, dst, buf[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
	}
	return nil
}
