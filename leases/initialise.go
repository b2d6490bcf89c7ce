package leases

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// InitLockspace writes an empty lockspace at off, with no host joined. n is the I/O timeout that first joiners wait
// by. Whatever lay in the area is lost; hosts that use a lockspace there lose it at their next renewal.
//
// The area goes out in one write with the first record unfinished; the write of that one sector commits it.
func InitLockspace(ctx context.Context, dev blockdev.Device, off int64, geo Geometry, name string, n time.Duration) error {
	if err := checkRange(dev, off, geo); err != nil {
		return err
	}
	buf, err := encodeLockspace(geo, name, n)
	if err != nil {
		return err
	}
	first := append([]byte(nil), buf[:geo.SectorSize]...)
	clear(buf[:4])
	if err := writeSync(ctx, dev, buf, off); err != nil {
		return fmt.Errorf("initialising lockspace %s on %s: %w", name, dev.Name(), err)
	}
	if err := writeSync(ctx, dev, first, off); err != nil {
		return fmt.Errorf("committing lockspace %s on %s: %w", name, dev.Name(), err)
	}
	return nil
}

// encodeLockspace is the whole area of an empty lockspace.
func encodeLockspace(geo Geometry, name string, n time.Duration) ([]byte, error) {
	space, err := MakeName(name)
	if err != nil {
		return nil, fmt.Errorf("lockspace %w", err)
	}
	p := Profile{IOTimeout: n, Watchdog: 1}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	l := Leader{Magic: magicDelta, Version: versionDelta, Flags: geo.alignFlag(), SectorSize: uint32(geo.SectorSize),
		MaxHosts: 1, Space: space, IOTimeout: p.seconds()}
	buf := make([]byte, geo.AlignSize)
	for h := range geo.MaxHosts() {
		l.Encode(buf[geo.sector(h):])
	}
	return buf, nil
}

// InitResource writes a free resource lease at off. numHosts is the highest host id that may ever take it, 0 for as
// many as the area has room for; fewer make every acquire cheaper.
func InitResource(ctx context.Context, dev blockdev.Device, off int64, geo Geometry, lockspace, resource string, numHosts int) error {
	if err := checkRange(dev, off, geo); err != nil {
		return err
	}
	head, err := EncodeResource(geo, lockspace, resource, numHosts)
	if err != nil {
		return err
	}
	buf := make([]byte, geo.AlignSize)
	copy(buf, head)
	if err := writeSync(ctx, dev, buf, off); err != nil {
		return fmt.Errorf("initialising resource %s on %s: %w", resource, dev.Name(), err)
	}
	return nil
}

// EncodeResource is the first two sectors of a free resource lease, leader and request record. They are all that has
// to be written where the rest of the area is known to be zero.
func EncodeResource(geo Geometry, lockspace, resource string, numHosts int) ([]byte, error) {
	if err := geo.Validate(); err != nil {
		return nil, err
	}
	space, err := MakeName(lockspace)
	if err != nil {
		return nil, fmt.Errorf("lockspace %w", err)
	}
	name, err := MakeName(resource)
	if err != nil {
		return nil, fmt.Errorf("resource %w", err)
	}
	if numHosts <= 0 || numHosts > geo.MaxHosts() {
		numHosts = geo.MaxHosts()
	}
	l := Leader{Magic: magicResource, Version: versionResource, Flags: geo.alignFlag(), SectorSize: uint32(geo.SectorSize),
		NumHosts: uint64(numHosts), MaxHosts: uint64(geo.MaxHosts()), Space: space, Resource: name}
	buf := make([]byte, 2*geo.SectorSize)
	l.Encode(buf)
	(&Request{Magic: magicRequest, Version: versionRequest}).Encode(buf[geo.SectorSize:])
	return buf, nil
}
