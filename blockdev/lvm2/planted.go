package lvm2

import "sync"

// lastFreed is what the last deletion freed, for the planted mistake plant.DoubleFree.
var lastFreed struct {
	sync.Mutex
	vg       string
	segments []Seg
}

// freeAgain is the planted mistake plant.DoubleFree: what the deletion before freed is freed again, whoever has it by now. lv is
// what goes this time.
func freeAgain(free *freeMap, vg *VG, lv *LV) {
	lastFreed.Lock()
	defer lastFreed.Unlock()
	if lastFreed.vg == vg.ID {
		for i := range lastFreed.segments {
			_ = lastFreed.segments[i].used(func(pv int, r run, _ bool) error {
				for pe := r.start; pe < r.end(); pe++ {
					_ = free.giveUsable(pv, run{pe, 1}, vg.PVs[pv].usable) // an extent that is free refuses
				}
				return nil
			})
		}
	}
	lastFreed.vg, lastFreed.segments = vg.ID, lv.Segments
}
