package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
	"github.com/holdfast-io/holdfast/jepsen/pattern"
)

// VGFile has the sums of the volume group as the real lvm2 says at the end of the run.
const VGFile = "lun-vg.json"

// VG is what lvm2 says of the volume group as a whole.
type VG struct {
	ExtentSize int64 `json:"extent_size"`
	Extents    int64 `json:"extents"`
	Free       int64 `json:"free"`
}

// Space judges at the end of a run where the space is: used and free extents are all, none has two owners, and each volume is as large
// as somebody asked for, at least and at most.
func Space(r Record) history.Verdict {
	const name = "space"
	var vg VG
	var lvs []LV
	if err := errors.Join(readJSON(r.Folder, VGFile, &vg), readJSON(r.Folder, LVsFile, &lvs)); err != nil {
		return failed(name, err)
	}
	if vg.Extents == 0 || vg.ExtentSize == 0 || len(lvs) == 0 {
		return failed(name, errors.New("lvm2 says nothing of the volume group"))
	}
	var f findings
	used := owners(vg, lvs, &f)
	if used+vg.Free != vg.Extents {
		f.add("%d extents are used and %d free, of %d: %d are leaked", used, vg.Free, vg.Extents, vg.Extents-vg.Free-used)
	}
	sized, err := sizes(r, vg, lvs, &f)
	if err != nil {
		return failed(name, err)
	}
	return f.verdict(name, "%d extents of %d volumes and %d free ones; the sizes of %d volumes were asked for", used, len(lvs), vg.Free, sized)
}

// owners counts the extents in use, and tells of those with two owners.
func owners(vg VG, lvs []LV, f *findings) int64 {
	owner := map[int64]string{}
	used := int64(0)
	for _, v := range lvs {
		for _, s := range v.Segments {
			for off := s.Off; off < s.Off+s.Len; off += vg.ExtentSize {
				used++
				if was, ok := owner[off]; ok {
					f.add("the extent at byte %d is of %s and of %s", off, was, v.Name)
				}
				owner[off] = v.Name
			}
		}
	}
	return used
}

// Rules of sizes: what a thin volume begins with, and how guests' hosts are configured. A guest's volume is asked for in chunks, when
// less than the threshold is free behind the highest byte written.
const (
	thinChunk   = 2560 << 20
	guestChunk  = 128 << 20
	guestThresh = guestChunk * 80 / 100
	guestBurst  = 16 << 20
)

// askedSize is what was asked for of one volume.
type askedSize struct {
	least, most int64
}

// sizes compares volumes with what was asked for. It returns of how many that is known.
func sizes(r Record, vg VG, lvs []LV, f *findings) (int, error) {
	all, err := askedSizes(r)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, v := range lvs {
		a, ok := all[v.Name]
		if v.Slot() == 0 || !ok {
			continue // that it should not be there is said by FinalSet
		}
		n++
		most := (a.most + vg.ExtentSize - 1) / vg.ExtentSize * vg.ExtentSize
		switch {
		case v.Size < a.least:
			f.add("volume %s has %d bytes, and %d were promised", v.Name, v.Size, a.least)
		case v.Size > most:
			f.add("volume %s has %d bytes, and nobody asked for more than %d", v.Name, v.Size, most)
		}
	}
	return n, nil
}

// askedSizes goes through all that was asked for, whatever came of it.
func askedSizes(r Record) (map[string]askedSize, error) {
	ids, byName := map[string][]string{}, map[string]askedSize{}
	all := map[string]askedSize{}
	for _, op := range r.Ops {
		switch op.Kind {
		case history.VolumeCreate, history.VolumeExtend:
			if err := askedOf(op, ids, byName); err != nil {
				return nil, err
			}
		case history.GuestWrite:
			var in history.GuestInput
			if err := decode(op, &in, &struct{}{}); err != nil {
				return nil, err
			}
			a := all[op.Key]
			a.most = max(a.most, (in.Block+1)*pattern.Block+guestThresh+guestChunk+guestBurst)
			all[op.Key] = a
		}
	}
	for name, list := range ids {
		for _, id := range list {
			a, b := all[id], byName[name]
			if len(list) == 1 {
				a.least = max(a.least, b.least)
			}
			a.most = max(a.most, b.most)
			all[id] = a
		}
	}
	return all, nil
}

// askedOf takes in a create or an extension, by name: an extension says which volume it means by that.
func askedOf(op history.Op, ids map[string][]string, byName map[string]askedSize) error {
	var in history.VolumeInput
	var out history.VolumeAnswer
	if err := decode(op, &in, &out); err != nil {
		return err
	}
	a := byName[op.Key]
	switch {
	case op.Kind == history.VolumeExtend:
		a.most = max(a.most, in.Size)
		if op.Outcome == history.OK {
			a.least = max(a.least, in.Size)
		}
	case in.Parent != "" || in.Format == api.FormatQCOW2 && in.Initial == 0:
		a.most = max(a.most, thinChunk)
		if in.Size > 0 {
			a.most = max(byName[op.Key].most, min(thinChunk, in.Size))
		}
	case in.Format == api.FormatQCOW2:
		a.most = max(a.most, in.Initial*11/10)
	default:
		a.most = max(a.most, in.Size)
	}
	byName[op.Key] = a
	if op.Kind == history.VolumeCreate && op.Outcome == history.OK && !slices.Contains(ids[op.Key], out.ID) {
		ids[op.Key] = append(ids[op.Key], out.ID)
	}
	return nil
}

// parseVGS reads the report of vgs.
func parseVGS(out []byte) (VG, error) {
	var report struct {
		Report []struct {
			VG []struct {
				Size  string `json:"vg_extent_size"`
				Count string `json:"vg_extent_count"`
				Free  string `json:"vg_free_count"`
			} `json:"vg"`
		} `json:"report"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return VG{}, fmt.Errorf("reading the report of vgs: %w", err)
	}
	if len(report.Report) != 1 || len(report.Report[0].VG) != 1 {
		return VG{}, fmt.Errorf("the report of vgs is not about one volume group: %s", strings.TrimSpace(string(out)))
	}
	var vg VG
	v := report.Report[0].VG[0]
	_, err := fmt.Sscan(strings.Join([]string{v.Size, v.Count, v.Free}, " "), &vg.ExtentSize, &vg.Extents, &vg.Free)
	if err != nil {
		return VG{}, fmt.Errorf("reading the report of vgs: %w", err)
	}
	return vg, nil
}
