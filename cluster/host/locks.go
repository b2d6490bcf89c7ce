package host

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// Locks lets package domain write and read sanlock areas without knowing package leases.
type Locks struct {
	// IOTimeout is N, as stored in new lockspaces.
	IOTimeout time.Duration
	// Log is for what does not fail an operation; nil: nowhere.
	Log *slog.Logger
}

// geometry of a block domain's locks: 1 MiB areas, as VDSM makes them, on either sector size.
func geometry(dev blockdev.Device) leases.Geometry { return geometryOf(dev.SectorSize()) }

func geometryOf(sectorSize int) leases.Geometry {
	return leases.Geometry{SectorSize: sectorSize, AlignSize: 1 << 20}
}

// InitLockspace writes an empty lockspace.
func (l Locks) InitLockspace(ctx context.Context, dev blockdev.Device, off int64, name string) error {
	return leases.InitLockspace(ctx, dev, off, geometry(dev), name, l.IOTimeout)
}

// maxHostID is the highest host id a pool gives out; 250 is for tools. Leases with room for no more than these cost an
// eighth of the I/O of full-sized ones, and sanlock honours the number.
const maxHostID = 250

// InitResource writes a free resource over its whole area.
func (l Locks) InitResource(ctx context.Context, dev blockdev.Device, off int64, lockspace, resource string) error {
	return leases.InitResource(ctx, dev, off, geometry(dev), lockspace, resource, maxHostID)
}

// EncodeResource is the head of a free resource where the rest of the area is zero.
func (l Locks) EncodeResource(sectorSize int, lockspace, resource string) ([]byte, error) {
	return leases.EncodeResource(geometryOf(sectorSize), lockspace, resource, maxHostID)
}

// CheckLockspace tells what is wrong with the records of the hosts.
func (l Locks) CheckLockspace(ctx context.Context, dev blockdev.Device, off int64, name string) (map[int]error, error) {
	return leases.CheckLockspace(ctx, dev, off, geometry(dev), name, maxHostID)
}

// resourceMagic begins every resource lease (sanlock's paxos leader).
const resourceMagic = 0x06152010

// ReadResource names the resource that lies at off.
func (l Locks) ReadResource(ctx context.Context, dev blockdev.Device, off int64) (string, string, error) {
	buf := make([]byte, 4096)
	if err := dev.ReadAt(ctx, buf, off); err != nil {
		return "", "", fmt.Errorf("reading resource at %d on %s: %w", off, dev.Name(), err)
	}
	var leader leases.Leader
	if err := leader.Decode(buf); err != nil {
		return "", "", fmt.Errorf("resource at %d on %s: %w", off, dev.Name(), err)
	}
	if leader.Magic != resourceMagic {
		return "", "", fmt.Errorf("no resource at %d on %s: magic 0x%08x: %w", off, dev.Name(), leader.Magic, leases.ErrNoLease)
	}
	return leader.Space.String(), leader.Resource.String(), nil
}
