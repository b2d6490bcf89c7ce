package lvm2

import (
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Locate tells where byte off of a volume lies: the device and the offset on it. It holds up to the end of the
// segment only; use Device for anything longer than a sector.
func (g *Group) Locate(lvName string, off int64) (blockdev.Device, int64, error) {
	st := g.cur.Load()
	lv, err := linear(st.vg, lvName)
	if err != nil {
		return nil, 0, fmt.Errorf("locate: %w", err)
	}
	for i := range lv.Segments {
		s := &lv.Segments[i]
		start := s.StartExtent * st.vg.ExtentSize
		if off >= start && off < start+s.ExtentCount*st.vg.ExtentSize {
			return st.pvs[s.Areas[0].PV].dev, st.vg.byteOf(s) + off - start, nil
		}
	}
	return nil, 0, fmt.Errorf("locate byte %d of volume %s, which has %d: %w", off, lvName, st.vg.Size(lv), blockdev.ErrOutOfRange)
}

// byteOf is where a linear segment begins on its physical volume.
func (vg *VG) byteOf(s *Seg) int64 {
	return vg.PVs[s.Areas[0].PV].PEStart + s.Areas[0].StartPE*vg.ExtentSize
}

// linear finds a volume that is made of linear segments on physical volumes.
func linear(vg *VG, name string) (*LV, error) {
	lv := vg.LV(name)
	if lv == nil {
		return nil, fmt.Errorf("volume %s: %w", name, ErrNotFound)
	}
	return lv, checkLinear(lv)
}

func checkLinear(lv *LV) error {
	for i := range lv.Segments {
		s := &lv.Segments[i]
		if (s.Type != "striped" && s.Type != "linear") || len(s.Areas) != 1 || s.Areas[0].PV < 0 {
			return fmt.Errorf("volume %s has a segment of type %s, not a linear one: %w", lv.Name, s.Type, ErrForeign)
		}
	}
	return nil
}

// Device is the content of a volume as one device. It stays as it is when the volume is extended or removed later.
// Closing it does not close the devices of the group.
func (g *Group) Device(lvName string) (blockdev.Device, error) {
	st := g.cur.Load()
	lv, err := linear(st.vg, lvName)
	if err != nil {
		return nil, err
	}
	return st.deviceOf(st.vg, lv)
}

// DeviceOf is Device for a volume that exists in vg only, which is that of a transaction of this group.
func (g *Group) DeviceOf(vg *VG, lv *LV) (blockdev.Device, error) {
	if err := checkLinear(lv); err != nil {
		return nil, err
	}
	return g.cur.Load().deviceOf(vg, lv)
}

// Segments tells where the content of a volume lies now.
func (g *Group) Segments(lvName string) ([]blockdev.Segment, error) {
	st := g.cur.Load()
	lv, err := linear(st.vg, lvName)
	if err != nil {
		return nil, err
	}
	return st.segmentsOf(st.vg, lv)
}

func (st *state) deviceOf(vg *VG, lv *LV) (blockdev.Device, error) {
	segs, err := st.segmentsOf(vg, lv)
	if err != nil {
		return nil, err
	}
	return blockdev.NewLinear(vg.Name+"/"+lv.Name, segs)
}

func (st *state) segmentsOf(vg *VG, lv *LV) ([]blockdev.Segment, error) {
	segs := make([]blockdev.Segment, len(lv.Segments))
	for i := range lv.Segments {
		s := &lv.Segments[i]
		if pv := s.Areas[0].PV; pv >= len(st.pvs) || s.Areas[0].StartPE+s.ExtentCount > vg.PVs[pv].usable {
			return nil, fmt.Errorf("volume %s reaches beyond the end of its device: %w", lv.Name, blockdev.ErrOutOfRange)
		}
		segs[i] = blockdev.Segment{Dev: st.pvs[s.Areas[0].PV].dev, Off: vg.byteOf(s), Len: s.ExtentCount * vg.ExtentSize}
	}
	return segs, nil
}
