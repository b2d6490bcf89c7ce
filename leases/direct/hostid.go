package direct

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
)

// AcquireID takes a host id under a host's name. It lasts 2N when the id is free or was last held under that name, and
// 8N + W + 2N when it was another's, N being that of the record found. Nobody renews it afterwards.
func (t Tool) AcquireID(ctx context.Context, p Place, space string, host uint64, hostName string) (err error) {
	dev, err := t.open(ctx, p, false, CodeNoDevice)
	if err != nil {
		return err
	}
	defer closing(dev, &err)
	if _, _, _, err := t.hostSector(ctx, dev, p, space, host); err != nil {
		return err
	}
	_, err = leases.TakeHost(ctx, leases.LockspaceConfig{Device: dev, Offset: p.Offset, Name: space, HostID: int(host),
		HostName: hostName, Profile: t.profile(), Log: t.Log})
	return err
}

// RenewID writes a new timestamp into a host's record, under the name it was taken with.
func (t Tool) RenewID(ctx context.Context, p Place, space string, host uint64) error {
	return t.changeHost(ctx, p, space, host, func(l *leases.Leader) {
		l.Timestamp = max(1, uint64(clock.System{}.Boot().Seconds()))
		l.IOTimeout = uint16(t.IOTimeout.Seconds())
	})
}

// ReleaseID marks a host id as free. Its leases can be taken at once, so the host must be gone.
func (t Tool) ReleaseID(ctx context.Context, p Place, space string, host uint64) error {
	return t.changeHost(ctx, p, space, host, func(l *leases.Leader) { l.Timestamp = 0 })
}

// changeHost rewrites the record of a host id that was taken before.
func (t Tool) changeHost(ctx context.Context, p Place, space string, host uint64, change func(*leases.Leader)) (err error) {
	dev, err := t.open(ctx, p, false, CodeNoDevice)
	if err != nil {
		return err
	}
	defer closing(dev, &err)
	geo, _, l, err := t.hostSector(ctx, dev, p, space, host)
	if err != nil {
		return err
	}
	if l.OwnerID != host { // 0 where it was never taken
		return codef(CodeInvalid, "the record of host %d names host %d", host, l.OwnerID)
	}
	change(&l)
	return t.writeHost(ctx, dev, p, geo, host, &l)
}

func (t Tool) writeHost(ctx context.Context, dev blockdev.Device, p Place, geo leases.Geometry, host uint64, l *leases.Leader) error {
	buf := make([]byte, geo.SectorSize)
	l.Encode(buf)
	if err := t.write(ctx, dev, p.Offset+geo.SectorOffset(int(host)-1), buf, t.profile().HostDead()); err != nil {
		return fmt.Errorf("writing the record of host %d: %w", host, err)
	}
	return nil
}
