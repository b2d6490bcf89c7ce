package direct

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
)

// defaultGeometry is used where nothing was asked for: by the sector size for a block device, 512 bytes and 1 MiB for a
// file.
func defaultGeometry(dev blockdev.Device, regular bool) leases.Geometry {
	if regular {
		return leases.Geometry512
	}
	return leases.DefaultGeometry(dev.SectorSize())
}

// writable opens a place where n bytes, or an area of the default geometry, are going to be written. A regular file
// grows if it is too short.
func (t Tool) writable(ctx context.Context, p Place, geo leases.Geometry, areas int64, noDevice int) (blockdev.Device, leases.Geometry, error) {
	room := geo
	if room.AlignSize == 0 {
		room = leases.Geometry512
	}
	regular, err := grow(p, areas*room.AlignSize)
	if err != nil {
		return nil, geo, err
	}
	dev, err := t.open(ctx, p, false, noDevice)
	if err != nil {
		return nil, geo, err
	}
	if geo.AlignSize == 0 {
		geo = defaultGeometry(dev, regular)
	}
	return dev, geo, nil
}

// InitLockspace writes an empty lockspace with N in its records. The geometry is the device's default when zero.
func (t Tool) InitLockspace(ctx context.Context, p Place, space string, geo leases.Geometry) (err error) {
	dev, geo, err := t.writable(ctx, p, geo, 1, CodeNoDevice)
	if err != nil {
		return err
	}
	defer closing(dev, &err)
	l := leases.Leader{Magic: leases.MagicHost, Version: leases.VersionHost, Flags: geo.AlignFlag(), SectorSize: uint32(geo.SectorSize),
		MaxHosts: 1, Space: leases.RawName(space), IOTimeout: uint16(t.IOTimeout.Seconds())}
	buf := make([]byte, geo.AlignSize)
	for h := range geo.MaxHosts() {
		l.Encode(buf[geo.SectorOffset(h):])
	}
	first := append([]byte(nil), buf[:geo.SectorSize]...)
	clear(buf[:4]) // the second write, of one sector, makes it a lockspace
	if err := t.write(ctx, dev, p.Offset, buf, initTimeout); err != nil {
		return fmt.Errorf("initialising lockspace %s: %w", space, err)
	}
	if err := t.write(ctx, dev, p.Offset, first, initTimeout); err != nil {
		return fmt.Errorf("committing lockspace %s: %w", space, err)
	}
	return nil
}

// ResourceInit says how a resource is to be made.
type ResourceInit struct {
	Space, Name string
	// Geometry is the device's default when zero.
	Geometry leases.Geometry
	// NumHosts is as many as there is room for when it is 0 or more than that.
	NumHosts int
	// Clear makes the resource unusable instead.
	Clear bool
}

// InitResource writes a free resource, or clears one.
func (t Tool) InitResource(ctx context.Context, p Place, r ResourceInit) (err error) {
	dev, geo, err := t.writable(ctx, p, r.Geometry, 1, 0)
	if err != nil {
		return err
	}
	defer closing(dev, &err)
	l := leases.Leader{Magic: leases.MagicResource, Version: leases.VersionResource, Flags: geo.AlignFlag(), SectorSize: uint32(geo.SectorSize),
		NumHosts: uint64(geo.MaxHosts()), MaxHosts: uint64(geo.MaxHosts()), Space: leases.RawName(r.Space), Resource: leases.RawName(r.Name)}
	if r.NumHosts > 0 && r.NumHosts < geo.MaxHosts() {
		l.NumHosts = uint64(r.NumHosts)
	}
	if r.Clear {
		l.Magic, l.WriteTimestamp = leases.MagicCleared, uint64(clock.System{}.Boot().Seconds())
	}
	buf := make([]byte, geo.AlignSize)
	l.Encode(buf)
	(&leases.Request{Magic: leases.MagicRequest, Version: leases.VersionRequest}).Encode(buf[geo.SectorSize:])
	if err := t.write(ctx, dev, p.Offset, buf, initTimeout); err != nil {
		return fmt.Errorf("initialising resource %s: %w", r.Name, err)
	}
	return nil
}
