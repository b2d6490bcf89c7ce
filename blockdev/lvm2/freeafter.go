package lvm2

import "errors"

// errLoose ends a look at volumes whose use of extents is not known.
var errLoose = errors.New("a volume uses extents in a way that is not known")

// freeAfter makes the free map from that of an earlier state, by what the volumes that went and came used. It says false
// when only looking at all volumes tells: then buildFree finds out, and has the words for what is wrong.
func (vg *VG) freeAfter(before *VG, gone, fresh []*LV) bool {
	if before.free.loose || len(before.free.pvs) != len(vg.PVs) || !vg.sameRoom(before) {
		return false
	}
	free := before.free.clone()
	if !eachRun(gone, free.give) || !eachRun(fresh, free.take) {
		return false
	}
	vg.free = free.clone() // nobody owns the runs any more
	return true
}

// sameRoom tells whether every physical volume has the extents that it had, all of them on its device.
func (vg *VG) sameRoom(before *VG) bool {
	for i := range vg.PVs {
		old := &before.PVs[i]
		if vg.PVs[i].PECount != old.PECount || old.usable != old.PECount {
			return false
		}
	}
	return true
}

// eachRun calls f for all that the volumes use, as long as it goes well.
func eachRun(lvs []*LV, f func(pv int, r run) error) bool {
	for _, lv := range lvs {
		for i := range lv.Segments {
			err := lv.Segments[i].used(func(pv int, r run, loose bool) error {
				if loose {
					return errLoose
				}
				return f(pv, r)
			})
			if err != nil {
				return false
			}
		}
	}
	return true
}
