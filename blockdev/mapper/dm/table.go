package dm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// sectorSize is the kernel's unit, whatever the device's own sectors are.
const sectorSize = 512

// Target is a run of sectors of a mapped device, and where they lie.
type Target struct {
	Start, Length int64 // sectors of 512 bytes
	Dev           Number
	Offset        int64 // sectors on Dev
	Fails         bool  // every read and write fails; Dev and Offset are nothing
}

// String is the line as dmsetup shows it.
func (t Target) String() string {
	if t.Fails {
		return fmt.Sprintf("%d %d error", t.Start, t.Length)
	}
	return fmt.Sprintf("%d %d linear %v %d", t.Start, t.Length, t.Dev, t.Offset)
}

// Table is the mapping of a linear device: its targets, one behind the other from sector 0 on.
type Table []Target

// String has one target a line.
func (t Table) String() string {
	lines := make([]string, len(t))
	for i, x := range t {
		lines[i] = x.String()
	}
	return strings.Join(lines, "\n")
}

// Bytes is the size of the device.
func (t Table) Bytes() int64 {
	if len(t) == 0 {
		return 0
	}
	last := t[len(t)-1]
	return (last.Start + last.Length) * sectorSize
}

// fails tells whether nothing can be read or written.
func (t Table) fails() bool {
	return len(t) > 0 && !slices.ContainsFunc(t, func(x Target) bool { return !x.Fails })
}

// failing is a table of the same size by which everything fails.
func (t Table) failing() Table {
	return Table{{Length: max(t.Bytes()/sectorSize, 1), Fails: true}}
}

// merged joins targets that continue each other: the same mapping in the fewest lines.
func (t Table) merged() Table {
	var out Table
	for _, x := range t {
		if n := len(out) - 1; n >= 0 && out[n].continues(x) {
			out[n].Length += x.Length
			continue
		}
		out = append(out, x)
	}
	return out
}

func (t Target) continues(next Target) bool {
	return !t.Fails && !next.Fails && t.Dev == next.Dev && t.Start+t.Length == next.Start && t.Offset+t.Length == next.Offset
}

// Equal tells whether both map the same sectors to the same places, in however many lines.
func (t Table) Equal(o Table) bool { return slices.Equal(t.merged(), o.merged()) }

// beginsWith tells whether t maps all that o maps, to the same places, and perhaps more behind it.
func (t Table) beginsWith(o Table) bool {
	a, b := t.merged(), o.merged()
	if len(b) == 0 || len(a) < len(b) {
		return len(b) == 0
	}
	last := len(b) - 1
	x := a[last]
	if x.Fails {
		return t.Equal(o)
	}
	x.Length = min(x.Length, b[last].Length)
	return slices.Equal(a[:last], b[:last]) && x == b[last]
}

// pvDevice is a physical volume as the kernel knows it.
type pvDevice struct {
	path    string
	number  Number
	sectors int64
}

// makeTable computes the table of a volume: one target for each segment, as lvm2 does. pvs are the devices of vg.PVs.
func makeTable(vg *lvm2.VG, lv *lvm2.LV, pvs []pvDevice) (Table, error) {
	if lv.Foreign {
		return nil, fmt.Errorf("%w: %s is not a plain linear volume", ErrUnmappable, lv.Name)
	}
	if len(lv.Segments) == 0 || len(pvs) != len(vg.PVs) || vg.ExtentSize <= 0 || vg.ExtentSize%sectorSize != 0 {
		return nil, fmt.Errorf("%w: %s has %d segments in extents of %d bytes, and %d devices stand for %d physical volumes",
			ErrUnmappable, lv.Name, len(lv.Segments), vg.ExtentSize, len(pvs), len(vg.PVs))
	}
	t := make(Table, 0, len(lv.Segments))
	next := int64(0)
	for i := range lv.Segments {
		x, err := makeTarget(vg, &lv.Segments[i], pvs)
		if err == nil && x.Start != next {
			err = fmt.Errorf("%w: it begins at sector %d where %d is due", ErrUnmappable, x.Start, next)
		}
		if err != nil {
			return nil, fmt.Errorf("segment %d of %s: %w", i, lv.Name, err)
		}
		next = x.Start + x.Length
		t = append(t, x)
	}
	return t, nil
}

func makeTarget(vg *lvm2.VG, s *lvm2.Seg, pvs []pvDevice) (Target, error) {
	if len(s.Areas) != 1 || s.Areas[0].PV < 0 || s.Areas[0].PV >= len(pvs) {
		return Target{}, fmt.Errorf("%w: it is not a run of extents of one physical volume", ErrUnmappable)
	}
	a := s.Areas[0]
	pv, dev := &vg.PVs[a.PV], pvs[a.PV]
	extent := vg.ExtentSize / sectorSize
	limit := dev.sectors / extent // no product below can overflow: each is at most the size of a device
	if s.ExtentCount <= 0 || s.StartExtent < 0 || a.StartPE < 0 || pv.PEStart < 0 || pv.PEStart%sectorSize != 0 ||
		s.ExtentCount > limit || a.StartPE > limit || s.StartExtent > maxSectors/extent {
		return Target{}, outside(pv, s, dev)
	}
	x := Target{Start: s.StartExtent * extent, Length: s.ExtentCount * extent, Dev: dev.number,
		Offset: pv.PEStart/sectorSize + a.StartPE*extent}
	if x.Offset > dev.sectors-x.Length {
		return Target{}, outside(pv, s, dev)
	}
	return x, nil
}

// maxSectors keeps sizes in bytes inside 63 bits.
const maxSectors = 1 << 53

func outside(pv *lvm2.PV, s *lvm2.Seg, dev pvDevice) error {
	return fmt.Errorf("%w: %d extents from extent %d of physical volume %s do not lie on %s, which has %d sectors: "+
		"rescan the LUN if it has grown", ErrUnmappable, s.ExtentCount, s.Areas[0].StartPE, pv.ID, dev.path, dev.sectors)
}
