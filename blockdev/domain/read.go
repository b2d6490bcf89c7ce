package domain

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// readWindow is how much of the metadata volume one read takes: few I/Os, little memory.
const readWindow = 2 * mib

// foreignSlotError says that a slot describes a volume of another image: one that had the slot before, since a delete
// leaves it on purpose, or the LV's tag is wrong.
type foreignSlotError struct {
	image string
	ctime int64
}

func (e *foreignSlotError) Error() string {
	return fmt.Sprintf("it describes a volume of image %.40q", e.image)
}

// readVolumes makes the volumes out of the LVs' tags and their metadata slots.
func (d *Domain) readVolumes(ctx context.Context, vg *lvm2.VG, geo geometry) (map[string]*Volume, error) {
	vols := make(map[string]*Volume, len(vg.LVs))
	var slots []*Volume
	for _, lv := range vg.LVs {
		if isSpecial(lv.Name) || !lv.Visible() {
			continue
		}
		v := volumeOfLV(vg, lv)
		vols[v.ID] = v
		if v.State == StateOK && v.Problem == "" {
			slots = append(slots, v)
		}
	}
	lv := vg.LV("metadata")
	if lv == nil {
		for _, v := range slots {
			v.unreadable(errors.New("special volume metadata is missing"))
		}
		return vols, nil
	}
	dev, err := d.group.Device("metadata")
	if err != nil {
		return nil, fmt.Errorf("special volume metadata: %w", err)
	}
	r := slotReader{io: d.io, dev: dev, geo: geo, size: vg.Size(lv)}
	return vols, r.read(ctx, slots)
}

// volumeOfLV is what an LV says of its volume, without the metadata slot.
func volumeOfLV(vg *lvm2.VG, lv *lvm2.LV) *Volume {
	t := parseLVTags(lv.Name, lv.Tags)
	v := &Volume{ID: lv.Name, Image: t.image, Parent: t.parent, ParentTag: t.parent, Slot: t.slot,
		AllocatedBytes: vg.Size(lv), CreatedUnix: lv.Created, State: t.state()}
	switch {
	case v.State != StateOK:
	case t.slotTags == 0:
		v.unreadable(errors.New("LV has no MD_ tag"))
	case t.slotTags > 1:
		v.unreadable(fmt.Errorf("LV has %d MD_ tags", t.slotTags))
	case t.slot == 0:
		v.unreadable(fmt.Errorf("tag MD_%.20s is no slot", t.badSlot))
	case !t.hasImage:
		v.unreadable(errors.New("LV has no IU_ tag"))
	}
	return v
}

func (v *Volume) unreadable(why error) {
	v.State, v.Problem, v.cause = StateUnreadable, why.Error(), why
}

// fill takes over what the metadata slot says. It wins over the tags, but for the image.
func (v *Volume) fill(m *slotMeta) {
	v.Name, v.Description = decodeDescription(m.description)
	v.Format, v.Allocation = formatWord(m.format), lower(m.alloc)
	v.Legality, v.VolType, v.DiskType = lower(m.legality), lower(m.volType), m.diskType
	v.Capacity, v.CreatedUnix = m.capacity, m.ctime
	v.Generation, v.Sequence = int(m.gen), uint32(m.seq)
	v.Parent = parentOf(m.parent)
}

// slotTries is how often a slot is read whose read fails at once: a path that fails now and then must not make volumes nameless.
const slotTries = 16

// slotReader reads metadata slots in windows.
type slotReader struct {
	io   ioCtx
	dev  blockdev.Device
	geo  geometry
	size int64 // of the metadata volume
}

// read fills in the volumes. A slot that cannot be read makes its volumes unreadable; only the end of ctx fails.
func (r *slotReader) read(ctx context.Context, vols []*Volume) error {
	slices.SortFunc(vols, func(a, b *Volume) int { return a.Slot - b.Slot })
	buf := make([]byte, 0, min(readWindow, int64(len(vols)+1)*r.geo.slotStride()))
	for len(vols) > 0 {
		n := r.window(vols)
		if n == 0 {
			vols[0].unreadable(fmt.Errorf("slot %d is beyond the end of the metadata volume", vols[0].Slot))
			vols = vols[1:]
			continue
		}
		if err := r.readWindow(ctx, vols[:n], &buf); err != nil {
			return err
		}
		vols = vols[n:]
	}
	return nil
}

// window is how many of the volumes, sorted by slot, one read covers.
func (r *slotReader) window(vols []*Volume) int {
	start := r.geo.slotOffset(vols[0].Slot)
	n := 0
	for n < len(vols) {
		end := r.geo.slotOffset(vols[n].Slot) + slotSize
		if end > r.size || end-start > readWindow {
			break
		}
		n++
	}
	return n
}

func (r *slotReader) readWindow(ctx context.Context, vols []*Volume, buf *[]byte) error {
	start := r.geo.slotOffset(vols[0].Slot)
	n := r.geo.slotOffset(vols[len(vols)-1].Slot) + slotSize - start
	if int64(cap(*buf)) < n {
		*buf = make([]byte, n)
	}
	p := (*buf)[:n]
	err := r.io.read(ctx, r.dev, p, start)
	for i := 1; i < slotTries && len(vols) == 1 && mayPass(err) && ctx.Err() == nil; i++ {
		err = r.io.read(ctx, r.dev, p, start)
	}
	if err != nil && len(vols) > 1 && ctx.Err() == nil {
		return r.readOneByOne(ctx, vols, buf)
	}
	for _, v := range vols {
		if err != nil {
			v.unreadable(fmt.Errorf("reading slot %d: %w", v.Slot, err))
			continue
		}
		v.decode(p[r.geo.slotOffset(v.Slot)-start:][:slotSize])
	}
	return ctx.Err()
}

// mayPass tells of a failed read whether the next one may do better: not when the device is gone, or does not answer.
func mayPass(err error) bool {
	return err != nil && !unanswered(err) && !errors.Is(err, blockdev.ErrGone)
}

// readOneByOne finds out which slots of a failed window can be read.
func (r *slotReader) readOneByOne(ctx context.Context, vols []*Volume, buf *[]byte) error {
	for i := range vols {
		if err := r.readWindow(ctx, vols[i:i+1], buf); err != nil {
			return err
		}
	}
	return nil
}

func (v *Volume) decode(p []byte) {
	m, err := decodeSlot(p)
	if err == nil {
		err = m.checkWords()
	}
	if err == nil && m.image != v.Image {
		err = &foreignSlotError{m.image, m.ctime}
	}
	if err != nil {
		v.unreadable(fmt.Errorf("slot %d: %w", v.Slot, err))
		return
	}
	v.fill(m)
}
