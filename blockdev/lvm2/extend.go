package lvm2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/holdfast-io/holdfast/blockdev"
)

// PVOptions say what device is to become a further physical volume of a group.
type PVOptions struct {
	Device blockdev.Device
	Hint   string // path recorded in the text, for people; default the name of the device
	ID     string // default: a new one, by which the group knows the device again
	// Force takes a device that is a physical volume already. What it belonged to is destroyed.
	Force bool

	align int64 // tests only; default 1 MiB
}

// PreparedPV is a device that was made a physical volume for a group, which does not know it yet. Tx.AddPV makes it part of
// the group; Group.DropPV makes it an empty device again.
type PreparedPV struct {
	plan  *freshPV
	group string // id
	scan  *pvScan
}

// ID is the id of the physical volume, hyphenated.
func (p *PreparedPV) ID() string { return p.plan.pv.ID }

// PreparePV makes a device a physical volume as VDSM makes further ones: two metadata areas of the size that the group has, both
// ignored, and a label that says "in use". The label is written last and is durable when PreparePV returns, so that the commit
// that names it never comes before it. A crash before that commit leaves a device that PreparePV takes again without Force.
func (g *Group) PreparePV(ctx context.Context, o PVOptions, guard blockdev.Guard) (*PreparedPV, error) {
	p, err := g.planPV(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("physical volume for %s: %w", g.VG().Name, err)
	}
	w := writer{guard, g.opt.IOTimeout}
	if err := p.plan.writeAreas(ctx, w, nil); err != nil {
		return nil, fmt.Errorf("physical volume for %s: %w", g.VG().Name, err)
	}
	if err := p.plan.writeLabel(ctx, w); err != nil {
		return nil, fmt.Errorf("physical volume for %s: %w", g.VG().Name, err)
	}
	return p, nil
}

// CheckPV tells whether PreparePV would take the device. It writes nothing.
func (g *Group) CheckPV(ctx context.Context, o PVOptions) error {
	_, err := g.planPV(ctx, o)
	return err
}

// planPV refuses devices that cannot be part of the group, and plans the others.
func (g *Group) planPV(ctx context.Context, o PVOptions) (*PreparedPV, error) {
	st := g.cur.Load()
	if err := st.vg.mayGrow(); err != nil {
		return nil, err
	}
	if err := g.checkDevice(ctx, st, o); err != nil {
		return nil, err
	}
	sizes := pvSizes{extent: st.vg.ExtentSize, align: o.align}
	if sizes.align == 0 {
		sizes.align = alignment
	}
	sizes.metadata = st.mdaSize() / sizes.align * sizes.align
	if sizes.metadata == 0 { // areas of less than the alignment
		sizes.metadata = st.mdaSize()
	}
	plan, err := planPV(o.Device, sizes)
	if err != nil {
		return nil, err
	}
	id, hint := o.ID, o.Hint
	if id == "" {
		id = newPVID(st.vg.ID)
	}
	if id, err = canonicalID(id); err != nil {
		return nil, err
	}
	if hint == "" {
		hint = o.Device.Name()
	}
	plan.named("", id, hint)
	return &PreparedPV{plan: plan, group: st.vg.ID, scan: plan.scanned()}, nil
}

// mdaSize is the size of the smallest metadata area in use.
func (st *state) mdaSize() int64 {
	size := int64(0)
	for i, m := range st.mdasInUse() {
		if i == 0 || m.area.size < size {
			size = m.area.size
		}
	}
	return size
}

// scanned is what reading the device would give after it was prepared.
func (p *freshPV) scanned() *pvScan {
	s := &pvScan{dev: p.dev, label: p.label()}
	for i, r := range p.mdas {
		h := &mdaHead{area: r}
		h.slots[0].slotFlag = slotIgnored
		s.mdas = append(s.mdas, &mda{dev: p.dev, no: i, area: r, head: h})
	}
	return s
}

// checkDevice refuses a device that is part of the group, or of something else.
func (g *Group) checkDevice(ctx context.Context, st *state, o PVOptions) error {
	for _, d := range st.devices() {
		if d == o.Device || d.Name() == o.Device.Name() {
			return fmt.Errorf("%s is part of it already: %w", o.Device.Name(), ErrMember)
		}
		if d.SectorSize() != o.Device.SectorSize() {
			return fmt.Errorf("%w: %s has sectors of %d bytes, %s of %d", ErrInvalid, o.Device.Name(), o.Device.SectorSize(), d.Name(), d.SectorSize())
		}
	}
	info, err := Inspect(ctx, o.Device)
	switch {
	case errors.Is(err, ErrNotPV) || o.Force && errors.Is(err, ErrCorrupt):
		return nil
	case err != nil:
		return err
	case st.vg.hasPV(info.ID):
		return fmt.Errorf("%s is physical volume %s of it already: %w", o.Device.Name(), info.ID, ErrMember)
	case o.Force || g.Prepared(info):
		return nil
	}
	return fmt.Errorf("%s is physical volume %s of volume group %q: %w; its content would be lost", o.Device.Name(), info.ID, info.VGName, ErrExists)
}

// Prepared tells whether a device was made a physical volume for this group and is not part of it: a crash came in between, or
// it was taken out since. It holds nothing.
func (g *Group) Prepared(info *PVInfo) bool {
	vg := g.VG()
	return info.VGName == "" && info.MDAsInUse == 0 && madeFor(vg.ID, info.ID) && !vg.hasPV(info.ID)
}

// hasPV tells whether the group lists a physical volume.
func (vg *VG) hasPV(id string) bool {
	return slices.ContainsFunc(vg.PVs, func(p PV) bool { return p.ID == id })
}

// mayGrow tells whether the group can take a further physical volume.
func (vg *VG) mayGrow() error {
	if !slices.Contains(vg.Status, "RESIZEABLE") {
		return fmt.Errorf("%w: the volume group is not resizeable (vgchange --resizeable y)", ErrForeign)
	}
	s := section{items: vg.head}
	i := s.find("max_pv")
	if i < 0 {
		return nil
	}
	limit, err := strconv.ParseInt(s.items[i].raw, 0, 64)
	if err != nil || limit > 0 && int64(len(vg.PVs)) >= limit {
		return fmt.Errorf("%w: the volume group may have %s physical volumes at most (max_pv)", ErrInvalid, s.items[i].raw)
	}
	return nil
}

// DropPV makes a prepared device that did not become part of the group an empty one again.
func (g *Group) DropPV(ctx context.Context, p *PreparedPV, guard blockdev.Guard) error {
	if g.VG().hasPV(p.ID()) {
		return fmt.Errorf("drop physical volume %s: %w", p.ID(), ErrMember)
	}
	w := writer{guard, g.opt.IOTimeout}
	if err := p.plan.wipeLabel(ctx, w); err != nil {
		return err
	}
	return w.flush(ctx, p.plan.dev)
}

// AddPV makes a prepared physical volume part of the group. Its extents can be allocated by later transactions.
func (tx *Tx) AddPV(p *PreparedPV) error {
	if err := tx.usable(); err != nil {
		return fmt.Errorf("add physical volume: %w", err)
	}
	switch {
	case p.group != tx.vg.ID:
		return fmt.Errorf("add physical volume %s: it was made for another volume group: %w", p.ID(), ErrInvalid)
	case tx.vg.hasPV(p.ID()):
		return fmt.Errorf("add physical volume %s: %w", p.ID(), ErrMember)
	}
	if err := tx.vg.mayGrow(); err != nil {
		return fmt.Errorf("add physical volume %s: %w", p.ID(), err)
	}
	plan := *p.plan
	plan.named(tx.vg.freePVName(), p.ID(), plan.pv.Device)
	tx.vg.PVs = append(slices.Clip(tx.vg.PVs), plan.pv)
	whole := pvFree{owned: true}
	whole.add(run{0, plan.pv.PECount})
	tx.vg.free.pvs = append(slices.Clip(tx.vg.free.pvs), whole)
	tx.added = append(tx.added, p.scan)
	tx.changed++
	return nil
}

// freePVName is what the text calls a further physical volume. lvm2 looks names up among the physical volumes first, so none of a
// logical volume will do.
func (vg *VG) freePVName() string {
	for n := len(vg.PVs); ; n++ {
		name := "pv" + strconv.Itoa(n)
		taken := slices.ContainsFunc(vg.PVs, func(p PV) bool { return p.name == name })
		if !taken && vg.LV(name) == nil {
			return name
		}
	}
}
