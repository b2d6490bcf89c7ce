package domain

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// pvInfo is what the keys say of a PV. VDSM addresses nothing by it.
type pvInfo struct {
	guid    string // base name of the device, on a multipath device its WWID
	uuid    string // LVM's
	extents int64
}

// putPVKeys adds the keys PV0, PV1, ... for PVs in their order; the first one holds the volume metadata.
func (k Keys) putPVKeys(pvs []pvInfo) {
	var offset int64
	for i, pv := range pvs {
		k["PV"+strconv.Itoa(i)] = fmt.Sprintf("pv:%s,uuid:%s,pestart:0,pecount:%d,mapoffset:%d", pv.guid, pv.uuid, pv.extents, offset)
		offset += pv.extents
	}
}

// pvGUID makes the name of a PV's device for the keys. A comma would split the value for every reader.
func pvGUID(hint string) string {
	return strings.Map(func(r rune) rune {
		if r == ',' || r == ':' {
			return '_'
		}
		return r
	}, path.Base(hint))
}
