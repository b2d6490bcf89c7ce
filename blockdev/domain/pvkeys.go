package domain

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-io/holdfast/blockdev/lvm2"
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

// replacePVKeys makes the keys of the PVs anew: PV0 is the one with the volume metadata, the others follow in the order that the old
// keys have, and then those that had none, in the order of the group. The numbers are without gaps; VDSM's own, after it took a
// PV out, are not, and then it cannot add one any more. What an old key calls a device stays.
func (k Keys) replacePVKeys(vg *lvm2.VG) {
	old := k.takePVKeys()
	pvs := make([]pvInfo, len(vg.PVs))
	rank := make([]int, len(vg.PVs))
	for i, pv := range vg.PVs {
		pvs[i] = pvInfo{pvGUID(pv.Device), pv.ID, pv.PECount}
		rank[i] = len(old) + i
		if o, ok := old[pv.ID]; ok {
			pvs[i].guid, rank[i] = o.guid, o.number
		}
		if i == metadataPV(vg) {
			rank[i] = -1
		}
	}
	order := make([]int, len(pvs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[a], rank[b]) })
	sorted := make([]pvInfo, len(pvs))
	for to, from := range order {
		sorted[to] = pvs[from]
	}
	k.putPVKeys(sorted)
}

// metadataPV is the PV with the beginning of the volume metadata.
func metadataPV(vg *lvm2.VG) int {
	lv := vg.LV("metadata")
	if lv == nil || len(lv.Segments) == 0 || len(lv.Segments[0].Areas) == 0 {
		return 0
	}
	return lv.Segments[0].Areas[0].PV
}

// oldPV is a PV as a key has it.
type oldPV struct {
	number int // among those that can be read
	guid   string
}

// takePVKeys removes the keys PV0, PV1, ... and returns what they say, by the PV's uuid. Those that make no sense are just removed:
// nothing is addressed by them.
func (k Keys) takePVKeys() map[string]oldPV {
	numbers := []int{}
	for key := range k {
		if n, ok := pvNumber(key); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	out := map[string]oldPV{}
	for _, n := range numbers {
		key := "PV" + strconv.Itoa(n)
		guid, id, ok := parsePVKey(k[key])
		delete(k, key)
		if _, twice := out[id]; ok && !twice {
			out[id] = oldPV{len(out), guid}
		}
	}
	return out
}

// pvNumber tells the keys of PVs from others.
func pvNumber(key string) (int, bool) {
	digits, ok := strings.CutPrefix(key, "PV")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n >= 0 && strconv.Itoa(n) == digits
}

// parsePVKey reads device and uuid of a PV out of its key. The name of a device may hold commas and colons.
func parsePVKey(value string) (guid, id string, ok bool) {
	rest, ok := strings.CutPrefix(value, "pv:")
	at := strings.LastIndex(rest, ",uuid:")
	if !ok || at < 0 {
		return "", "", false
	}
	id, _, _ = strings.Cut(rest[at+len(",uuid:"):], ",")
	return rest[:at], id, id != ""
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
