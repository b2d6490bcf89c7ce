package lvm2

import "slices"

// Words that lvm2 knows in the status lists. An unknown one makes lvm2 reject the text; a later version may have
// given it a meaning that we would violate.
var (
	vgStatus = []string{"RESIZEABLE", "READ", "WRITE", "EXPORTED", "CLUSTERED", "PVMOVE", "SHARED", "PARTIAL", "WRITE_LOCKED"}
	pvStatus = []string{"ALLOCATABLE", "EXPORTED", "MISSING"}
	lvStatus = []string{"READ", "WRITE", "VISIBLE", "FIXED_MINOR", "PVMOVE", "LOCKED", "NOTSYNCED", "REBUILD", "WRITEMOSTLY"}
)

// notOurs lists why the volume group must not be written.
func (vg *VG) notOurs() []string {
	var out []string
	for _, s := range vg.Status {
		if !slices.Contains(vgStatus, s) || s == "EXPORTED" || s == "CLUSTERED" || s == "SHARED" || s == "PARTIAL" {
			out = append(out, "status "+s)
		}
	}
	if !slices.Contains(vg.Status, "WRITE") && !slices.Contains(vg.Flags, "WRITE_LOCKED") {
		out = append(out, "status without WRITE")
	}
	for i := range vg.PVs {
		for _, s := range vg.PVs[i].Status {
			if !slices.Contains(pvStatus, s) || s == "EXPORTED" {
				out = append(out, "status "+s+" of "+vg.PVs[i].name)
			}
		}
	}
	return append(out, vg.oddVolumes()...)
}

// oddVolumes lists volumes whose status has words that nobody knows.
func (vg *VG) oddVolumes() []string {
	var out []string
	for _, lv := range vg.LVs {
		for _, s := range lv.Status {
			if !slices.Contains(lvStatus, s) {
				out = append(out, "status "+s+" of "+lv.Name)
			}
		}
	}
	return out
}
