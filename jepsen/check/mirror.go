package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// VolumesFile is the list that a host answered from its mirror when everything had healed: a JSON list of api.Volume.
func VolumesFile(host string) string { return "volumes-" + host + ".json" }

// Mirrored judges that the mirror of every host is what the LUN says: the volumes that lvm2 lists, no more and no fewer, with their
// slot, image, parent and size; and that the hosts agree in everything else.
func Mirrored(r Record) history.Verdict {
	const name = "mirrors"
	var lvs []LV
	if err := readJSON(r.Folder, LVsFile, &lvs); err != nil {
		return failed(name, err)
	}
	disk := map[string]LV{}
	for _, v := range lvs {
		if !slices.Contains(specialLVs, v.Name) {
			disk[v.Name] = v
		}
	}
	var f findings
	if len(lvs) <= len(disk) {
		f.add("lvm2 listed none of the domain's own volumes, so its list is none")
	}
	first := ""
	lists := map[string]map[string]api.Volume{}
	for _, host := range r.Run.Hosts {
		list, err := loadMirror(r.Folder, host)
		if err != nil {
			f.add("%s: %v", host, err)
			continue
		}
		againstDisk(&f, host, list, disk)
		if lists[host] = list; first == "" {
			first = host
		} else {
			againstOther(&f, first, lists[first], host, list)
		}
	}
	if len(r.Run.Hosts) == 0 {
		f.add("the run names no host")
	}
	return f.verdict(name, "%d hosts, %d volumes on the LUN", len(r.Run.Hosts), len(disk))
}

func loadMirror(folder, host string) (map[string]api.Volume, error) {
	var all []api.Volume
	if err := readJSON(folder, VolumesFile(host), &all); err != nil {
		return nil, err
	}
	list := map[string]api.Volume{}
	for _, v := range all {
		if _, twice := list[v.ID]; twice {
			return nil, fmt.Errorf("volume %s is listed twice", v.ID)
		}
		list[v.ID] = v
	}
	return list, nil
}

// againstDisk holds a host's list against lvm2's.
func againstDisk(f *findings, host string, list map[string]api.Volume, disk map[string]LV) {
	for _, id := range sortedKeys(list) {
		v := list[id]
		lv, ok := disk[id]
		if !ok {
			f.add("%s lists volume %s (%s), which is not on the LUN", host, id, v.Name)
			continue
		}
		parent := cmp.Or(v.Parent, "00000000-0000-0000-0000-000000000000")
		for _, tag := range []string{"IU_" + v.Image, "PU_" + parent, fmt.Sprintf("MD_%d", v.Slot)} {
			if !slices.Contains(lv.Tags, tag) {
				f.add("%s lists volume %s with %s, and its tags on the LUN are %v", host, id, tag, lv.Tags)
			}
		}
		if v.Allocated != lv.Size {
			f.add("%s lists volume %s with %d bytes, and it has %d on the LUN", host, id, v.Allocated, lv.Size)
		}
	}
	for _, id := range sortedKeys(disk) {
		if _, ok := list[id]; !ok {
			f.add("volume %s (%v) is on the LUN, and %s does not list it", id, disk[id].Tags, host)
		}
	}
}

// againstOther holds two hosts' lists against each other. What one of them lacks has been said already.
func againstOther(f *findings, a string, listA map[string]api.Volume, b string, listB map[string]api.Volume) {
	for _, id := range sortedKeys(listA) {
		if v, ok := listB[id]; ok && v != listA[id] {
			f.add("%s and %s differ about volume %s: %+v and %+v", a, b, id, listA[id], v)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
