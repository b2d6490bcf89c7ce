package domain

import "github.com/holdfast-io/holdfast/blockdev/lvm2"

// Glance tells what a volume group says of the domain that it is, without a look at its volumes' metadata: identity, version and
// space. It fails as Open does for what is no domain. Fields that only the volumes' metadata tells are left out, and so are the LUNs.
func Glance(vg *lvm2.VG) (Info, error) {
	_, id, err := readKeys(vg)
	info := Info{
		UUID: id.uuid, Name: id.name, Version: id.geo.version, Role: id.role, Class: id.class, Type: id.kind,
		Size: vg.TotalExtents() * vg.ExtentSize, Free: vg.FreeExtents() * vg.ExtentSize, ExtentSize: vg.ExtentSize,
		SectorSize: id.geo.sector, Alignment: id.geo.align, Seqno: vg.Seqno,
	}
	if len(id.pools) > 0 {
		info.PoolUUID = id.pools[0]
	}
	return info, err
}
