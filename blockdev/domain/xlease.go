package domain

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// The index of external leases lies at one alignment from the start of the volume xleases: a 512-byte head
//
//	0    4  magic 0x12152016, big-endian
//	5    4  version "0001"
//	10  48  lockspace, padded with zeroes
//	59  10  seconds since 1970, decimal
//	70   1  '-' normal, 'u' being written
//	511  1  '\n'
//
// and 3960 records of 64 bytes: id (48), zero, offset for people (11 digits), zero, '-' or 'u', '-', '\n'.
const (
	xleaseMagic   = 0x12152016
	xleaseSize    = 62 * 4096
	xleaseRecords = 3960
	xleaseHead    = 512
	xleaseRecord  = 64
	xleaseName    = 48

	xleaseNormal   = '-'
	xleaseUpdating = 'u'
)

// encodeXleases returns an index without records.
func encodeXleases(lockspace string, mtime time.Time, flag byte) []byte {
	p := make([]byte, xleaseSize)
	binary.BigEndian.PutUint32(p, xleaseMagic)
	copy(p[5:], "0001")
	copy(p[10:10+xleaseName], lockspace)
	copy(p[59:], fmt.Sprintf("%010d", mtime.Unix()))
	p[70] = flag
	p[xleaseHead-1] = '\n'
	for i := range xleaseRecords {
		r := p[xleaseHead+i*xleaseRecord:][:xleaseRecord]
		copy(r[49:], "00000000000")
		r[61], r[62], r[63] = '-', '-', '\n'
	}
	return p
}

// checkXleases tells what is wrong with the head of an index, nil if it can be used.
func checkXleases(p []byte, lockspace string) error {
	if len(p) < xleaseHead || binary.BigEndian.Uint32(p) != xleaseMagic {
		return fmt.Errorf("no magic at the index of external leases: %w", ErrBadKeys)
	}
	name := make([]byte, xleaseName)
	copy(name, lockspace)
	switch {
	case string(p[5:9]) != "0001":
		return fmt.Errorf("index of external leases has version %q: %w", p[5:9], ErrBadKeys)
	case string(p[10:10+xleaseName]) != string(name):
		return fmt.Errorf("index of external leases is of lockspace %q: %w", p[10:10+xleaseName], ErrBadKeys)
	case p[70] != xleaseNormal:
		return fmt.Errorf("index of external leases was being written (flag %q): %w", p[70], ErrBadKeys)
	}
	return nil
}

// formatXleases writes an empty index into the volume xleases: first marked as being written, then its head again.
// A crash in between leaves an index that nobody uses.
func formatXleases(ctx context.Context, io ioCtx, lv blockdev.Device, align int64, lockspace string, now func() time.Time) error {
	p := encodeXleases(lockspace, now(), xleaseUpdating)
	if err := io.write(ctx, lv, p, align); err != nil {
		return fmt.Errorf("formatting the index of external leases: %w", err)
	}
	if err := io.flush(ctx, lv); err != nil {
		return fmt.Errorf("formatting the index of external leases: %w", err)
	}
	head := encodeXleases(lockspace, now(), xleaseNormal)[:xleaseHead]
	if err := io.write(ctx, lv, head, align); err != nil {
		return fmt.Errorf("formatting the index of external leases: %w", err)
	}
	return nil
}
