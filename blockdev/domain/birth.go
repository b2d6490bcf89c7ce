package domain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/blockdev/qcow2"
)

// birth is a volume that the batch makes.
type birth struct {
	spec   *VolumeSpec
	reqs   []*request
	vol    Volume
	lv     *lvm2.LV // nil once it is out of the transaction
	slot   int      // 0: none taken
	meta   []byte   // metadata slot
	head   []byte   // first bytes of the volume
	parent *Volume  // to be made internal
	linked bool     // counted in the index
	err    error
}

// planBirth finds out whether the volume can be made, and takes slot, name and extents for it.
func (b *batch) planBirth(r *request) {
	s := r.create
	if m := b.births[s.ID]; m != nil {
		if *m.spec != *s {
			r.err = fmt.Errorf("another request for this id is under way: %w", ErrConflict)
			return
		}
		m.reqs = append(m.reqs, r)
		return
	}
	if v, err := b.existing(s); err != nil || v != nil {
		r.err = err
		if v != nil {
			r.vol = *v
		}
		return
	}
	m := &birth{spec: s, reqs: []*request{r}}
	if r.err = b.conceive(m); r.err != nil {
		b.release(m)
		return
	}
	b.births[s.ID] = m
}

// existing returns the volume that the spec asks for if it is there already.
func (b *batch) existing(s *VolumeSpec) (*Volume, error) {
	if b.deaths[s.ID] != nil {
		return nil, ErrBusy
	}
	if isSpecial(s.ID) {
		return nil, ErrInvalid
	}
	v, ok := b.w.d.Volume(s.ID)
	switch {
	case !ok:
		return nil, nil
	case v.State == StateUnreadable:
		return nil, fmt.Errorf("volume exists, but its metadata cannot be read (%s): %w", v.Problem, ErrConflict)
	case v.State != StateOK:
		return nil, ErrBusy
	}
	if diff := s.same(&v, b.tx.VG().ExtentSize); diff != "" {
		return nil, fmt.Errorf("volume exists with %s: %w", diff, ErrConflict)
	}
	return &v, nil
}

// conceive reserves all that the volume needs and prepares its bytes.
func (b *batch) conceive(m *birth) (err error) {
	s := m.spec
	if s.Name != "" && b.w.index.nameTaken(s.Name, s.Image) {
		return fmt.Errorf("%q: %w", s.Name, ErrNameTaken)
	}
	parentFormat, err := b.checkParent(m)
	if err != nil {
		return err
	}
	geo := b.w.d.geometry()
	slot, err := freeSlot(geo.firstSlot(), b.w.slotTaken)
	if err != nil {
		return err
	}
	m.slot = slot
	b.w.index.takeSlot(slot)
	if err := b.allocate(m); err != nil {
		return err
	}
	meta, err := s.meta(b.tx.VG().Name, b.w.d.opt.Now().Unix(), b.tx.VG().Size(m.lv))
	if err == nil {
		m.meta, err = meta.encode()
	}
	if err == nil {
		m.head, err = firstBytes(s, parentFormat)
	}
	if err != nil {
		return err
	}
	b.link(m, meta)
	return nil
}

// allocate takes the extents.
func (b *batch) allocate(m *birth) (err error) {
	s := m.spec
	bytes, err := allocation(s.Format, s.Allocation, s.Capacity, s.InitialSize)
	if err != nil {
		return err
	}
	m.lv, err = b.tx.CreateLV(s.ID, bytes, lvm2.LVOptions{Tags: volumeTags(m.slot, s.Parent, s.Image)})
	if errors.Is(err, lvm2.ErrNoSpace) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// firstBytes are what the volume must begin with: a qcow2 header, or zeroes that cover an old signature.
func firstBytes(s *VolumeSpec, parentFormat string) ([]byte, error) {
	if s.Format == FormatRaw {
		return make([]byte, 4*kib), nil
	}
	return qcow2.Create(qcow2.CreateOptions{Size: s.Capacity, BackingName: s.Parent, BackingFormat: parentFormat})
}

// link makes the volume known to the rest of the batch.
func (b *batch) link(m *birth, meta *slotMeta) {
	m.vol = Volume{ID: m.spec.ID, Image: m.spec.Image, ParentTag: m.spec.Parent, Slot: m.slot,
		AllocatedBytes: b.tx.VG().Size(m.lv), State: StateOK}
	m.vol.fill(meta)
	b.w.index.link(&m.vol, 1)
	m.linked = true
}

// checkParent tells whether the parent can take a child, and notes if it must be made internal for it.
func (b *batch) checkParent(m *birth) (format string, err error) {
	s := m.spec
	if s.Parent == "" {
		return "", nil
	}
	if b.births[s.Parent] != nil || b.deaths[s.Parent] != nil {
		return "", fmt.Errorf("parent %s is being made or deleted: %w", s.Parent, ErrBusy)
	}
	p, ok := b.w.d.Volume(s.Parent)
	switch {
	case !ok:
		return "", fmt.Errorf("parent %s: %w", s.Parent, ErrNotFound)
	case p.State == StateUnreadable:
		return "", fmt.Errorf("metadata of parent %s cannot be read: %w", s.Parent, ErrConflict)
	case p.State != StateOK:
		return "", fmt.Errorf("parent %s: %w", s.Parent, ErrBusy)
	case p.Legality != Legal:
		return "", fmt.Errorf("parent %s is %s: %w", s.Parent, p.Legality, ErrConflict)
	case p.Capacity > s.Capacity:
		return "", fmt.Errorf("size %d is less than the parent's %d: %w", s.Capacity, p.Capacity, ErrInvalid)
	case p.Image != s.Image && p.VolType != Shared:
		return "", fmt.Errorf("parent %s is of another image and no template: %w", s.Parent, ErrConflict)
	case p.VolType == Shared:
		return p.Format, nil
	case p.VolType != Leaf || b.w.index.children[p.ID] > 0:
		return "", fmt.Errorf("parent %s has a child already: %w", s.Parent, ErrConflict)
	}
	m.parent = &p
	return p.Format, nil
}

// release gives back what conceive reserved.
func (b *batch) release(m *birth) {
	b.drop(m)
	if m.linked {
		b.w.index.link(&m.vol, -1)
		m.linked = false
	}
	if m.slot != 0 {
		b.w.index.dropSlot(m.slot)
		m.slot = 0
	}
}

func (b *batch) sortBirths() {
	for _, m := range b.births {
		b.order = append(b.order, m)
	}
	slices.SortFunc(b.order, func(x, y *birth) int { return cmp.Compare(x.slot, y.slot) })
}

// born makes the committed volumes visible, and forgets those that failed.
func (b *batch) born(ctx context.Context) {
	w := b.w
	for _, m := range b.order {
		if m.err != nil {
			b.forsake(ctx, m)
			continue
		}
		m.vol.Epoch, m.vol.Seq = w.Epoch(), w.seq.Add(1)
		w.d.put(m.vol)
		if m.parent != nil {
			p := *m.parent
			p.VolType, p.Epoch, p.Seq = Internal, w.Epoch(), w.seq.Add(1)
			w.d.put(p)
		}
	}
}

// undo gives everything back after the whole batch failed.
func (b *batch) undo(ctx context.Context) {
	for _, m := range b.order {
		b.forsake(ctx, m)
	}
}

// forsake gives back what a failed birth had. Its parent, which may be internal on disk now, becomes a leaf again; if
// that fails too, a refresh does it.
func (b *batch) forsake(ctx context.Context, m *birth) {
	b.w.clean.set(m.slot, false)
	b.release(m)
	if m.parent == nil || b.w.doubt != nil {
		return
	}
	if err := b.w.setVolType(ctx, m.parent, "LEAF"); err != nil {
		b.w.doubt = fmt.Errorf("volume %s could not be made a leaf again; refresh first: %w", m.parent.ID, err)
	}
}

// put replaces a volume.
func (d *Domain) put(v Volume) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.vols[v.ID] = &v
}

// forget removes a volume.
func (d *Domain) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.vols, id)
}
