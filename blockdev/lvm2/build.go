package lvm2

import (
	"errors"
	"fmt"
	"strings"
)

// buildIndex makes the index by name, finds duplicates, and marks volumes that others use. refs are the segments
// that may name volumes.
func (vg *VG) buildIndex(refs []string) error {
	vg.index = newIndex(vg.LVs)
	if len(vg.index.base) != len(vg.LVs) {
		return errors.New("two logical volumes have the same name")
	}
	for _, lv := range vg.LVs {
		for i := range lv.Segments {
			if !knownType(lv.Segments[i].Type) {
				vg.unknown = true
			}
		}
	}
	for _, text := range refs {
		vg.markRefs(text)
	}
	return nil
}

// markRefs marks every volume that a segment names, in whatever key.
func (vg *VG) markRefs(text string) {
	for {
		i := strings.IndexAny(text, `"'`)
		if i < 0 {
			return
		}
		end := strings.IndexByte(text[i+1:], text[i])
		if end < 0 {
			return
		}
		if lv := vg.index.get(text[i+1 : i+1+end]); lv != nil {
			lv.Foreign = true
		}
		text = text[i+end+2:]
	}
}

// buildFree makes the free map and finds extents that are used twice or do not exist.
func (vg *VG) buildFree() error {
	used := make([][]usedRun, len(vg.PVs))
	vg.free.loose = false
	for _, lv := range vg.LVs {
		for i := range lv.Segments {
			err := lv.Segments[i].used(func(pv int, r run, loose bool) error {
				if !loose && r.end() > vg.PVs[pv].PECount {
					return fmt.Errorf("volume %s uses extent %d of %s, which has %d", lv.Name, r.end()-1, vg.PVs[pv].name, vg.PVs[pv].PECount)
				}
				used[pv] = append(used[pv], usedRun{r, lv.Name, loose})
				vg.free.loose = vg.free.loose || loose
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	vg.free.pvs = make([]pvFree, len(vg.PVs))
	for i := range vg.PVs {
		p, err := invert(used[i], vg.PVs[i].usable)
		if err != nil {
			return fmt.Errorf("%s: %w", vg.PVs[i].name, err)
		}
		vg.free.pvs[i] = p
	}
	return nil
}
