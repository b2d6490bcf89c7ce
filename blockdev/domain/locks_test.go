package domain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/holdfast-io/holdfast/blockdev"
)

// testLocks writes resources as text, and reads them back only if the rest of their area is zero: what a stale block
// of a former holder would break with the real format breaks here too.
type testLocks struct{}

var zeroArea [mib]byte

// areas are buffers for whole lease areas: with the race detector a fresh megabyte costs more than reading it.
var areas = sync.Pool{New: func() any { return new([mib]byte) }}

var errNoLease = errors.New("no lease")

func (testLocks) InitLockspace(ctx context.Context, dev blockdev.Device, off int64, name string) error {
	return dev.WriteAt(ctx, pad("SPACE "+name, mib), off)
}

func (testLocks) InitResource(ctx context.Context, dev blockdev.Device, off int64, space, name string) error {
	return dev.WriteAt(ctx, pad("LEASE "+space+" "+name, mib), off)
}

func (testLocks) FormatLeaseIndex(ctx context.Context, dev blockdev.Device, name string) error {
	return dev.WriteAt(ctx, pad("INDEX "+name, 4096), mib)
}

func (testLocks) CheckLeaseIndex(ctx context.Context, dev blockdev.Device, name string) ([]Finding, error) {
	p := make([]byte, 4096)
	if err := dev.ReadAt(ctx, p, mib); err != nil {
		return nil, err
	}
	if bytes.Equal(p, pad("INDEX "+name, 4096)) {
		return nil, nil
	}
	return []Finding{{Severity: SeverityWarning, Where: "index", What: "is not that of " + name, Repair: "rebuild it"}}, nil
}

func (testLocks) ReadResource(ctx context.Context, dev blockdev.Device, off int64) (space, name string, err error) {
	area := areas.Get().(*[mib]byte)
	defer areas.Put(area)
	p := area[:]
	if err := dev.ReadAt(ctx, p, off); err != nil {
		return "", "", err
	}
	f := strings.Fields(string(bytes.TrimRight(p[:512], "\x00")))
	if len(f) != 3 || f[0] != "LEASE" {
		return "", "", errNoLease
	}
	if !bytes.Equal(p[1024:], zeroArea[1024:]) {
		return "", "", fmt.Errorf("stale bytes behind the lease of %s", f[2])
	}
	return f[1], f[2], nil
}

func pad(s string, n int64) []byte {
	p := make([]byte, n)
	copy(p, s)
	return p
}

// encodingLocks can also give the leading sectors.
type encodingLocks struct{ testLocks }

func (encodingLocks) EncodeResource(sectorSize int, space, name string) ([]byte, error) {
	return pad("LEASE "+space+" "+name, 2*int64(sectorSize)), nil
}
