package direct

import (
	"context"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// ReadHost reads and verifies the record of a host in a lockspace. The leader is what was read, also when it is wrong.
func (t Tool) ReadHost(ctx context.Context, p Place, space string, host uint64) (l leases.Leader, err error) {
	dev, err := t.open(ctx, p, true, CodeNoDevice)
	if err != nil {
		return l, err
	}
	defer closing(dev, &err)
	_, _, l, err = t.hostSector(ctx, dev, p, space, host)
	return l, err
}

// hostSector reads and verifies the sector of a host.
func (t Tool) hostSector(ctx context.Context, dev blockdev.Device, p Place, space string, host uint64) (leases.Geometry, []byte, leases.Leader, error) {
	var l leases.Leader
	geo, err := t.sizes(ctx, dev, p.Offset)
	if err != nil {
		return geo, nil, l, err
	}
	if host < 1 || host > 1<<50 {
		return geo, nil, l, codef(CodeInvalid, "host id %d", host)
	}
	buf, err := t.read(ctx, dev, p.Offset+geo.SectorOffset(int(host)-1), geo.SectorSize)
	if err != nil {
		return geo, nil, l, err
	}
	if err := l.Decode(buf); err != nil {
		return geo, nil, l, err
	}
	return geo, buf, l, verify(&l, leases.MagicHost, leases.VersionHost, space, nil)
}

// ReadResource reads and verifies the leader of a resource. The leader is what was read, also when it is wrong.
func (t Tool) ReadResource(ctx context.Context, p Place, space, name string) (l leases.Leader, err error) {
	dev, err := t.open(ctx, p, true, 0)
	if err != nil {
		return l, err
	}
	defer closing(dev, &err)
	return t.resourceLeader(ctx, dev, p, space, name)
}

// resourceLeader reads and verifies the leader of a resource.
func (t Tool) resourceLeader(ctx context.Context, dev blockdev.Device, p Place, space, name string) (leases.Leader, error) {
	var l leases.Leader
	buf, err := t.read(ctx, dev, p.Offset, probeSize)
	if err != nil {
		return l, err
	}
	if err := l.Decode(buf); err != nil {
		return l, err
	}
	return l, verify(&l, leases.MagicResource, leases.VersionResource, space, &name)
}

// verify checks a record in sanlock's order, each fault with its own number.
func verify(l *leases.Leader, magic, version uint32, space string, name *string) error {
	switch {
	case l.Magic != magic:
		return codef(CodeMagic, "magic 0x%08x", l.Magic)
	case l.Version&0xffff0000 != version&0xffff0000:
		return codef(CodeVersion, "version 0x%08x", l.Version)
	case !l.Space.Equal(leases.RawName(space)):
		return codef(CodeLockspaceBad, "the record belongs to lockspace %q", l.Space)
	case name != nil && !l.Resource.Equal(leases.RawName(*name)):
		return codef(CodeResourceBad, "the record belongs to resource %q", l.Resource)
	case !l.Intact():
		return codef(CodeChecksum, "checksum 0x%08x does not match", l.Checksum)
	}
	return nil
}
