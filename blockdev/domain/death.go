package domain

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-io/holdfast/blockdev"
)

// death is a volume that the batch removes.
type death struct {
	vol    Volume
	reqs   []*request
	tagged bool // the transaction holds the change of its tag
	buried bool // it is no volume any more; only its LV has to go
	gone   VolumeRemoved
	held   HeldVolume // its lease; nil: none, or ended
	err    error
}

func (m *death) oldTags() []string { return []string{tagImage + m.vol.Image} }
func (m *death) newTags() []string { return []string{tagImage + removedPrefix + m.vol.Image} }

// planDeath finds out whether the volume may go, and marks it in the transaction.
func (b *batch) planDeath(r *request, id string) {
	if m := b.deaths[id]; m != nil {
		m.reqs = append(m.reqs, r)
		return
	}
	v, ok := b.w.d.Volume(id)
	switch {
	case b.births[id] != nil:
		r.err = fmt.Errorf("volume is being created: %w", ErrConflict)
		return
	case !ok || isSpecial(id) || v.State == StateInitializing:
		r.err = ErrNotFound
		return
	case v.State == StateWiping:
		r.err = fmt.Errorf("volume is being wiped: %w", ErrBusy)
		return
	}
	m := &death{vol: v, reqs: []*request{r}, held: r.held, buried: v.State == StateRemoving}
	if !m.buried {
		if r.err = b.mark(m); r.err != nil {
			return
		}
	}
	b.deaths[id] = m
}

// mark changes the image tag, which is what ends the volume.
func (b *batch) mark(m *death) error {
	// Children that die in this batch count: their end may still fail.
	if n := b.w.index.children[m.vol.ID]; n > 0 {
		return fmt.Errorf("%d volumes are based on it, delete them first: %w", n, ErrHasChildren)
	}
	if m.vol.Image == "" {
		return fmt.Errorf("the LV has no image tag; domain check tells how to repair it: %w", ErrConflict)
	}
	if err := b.tx.ChangeLVTags(m.vol.ID, m.newTags(), m.oldTags()); err != nil {
		return err
	}
	m.tagged = true
	return nil
}

// planReap takes the LV of a wiped volume.
func (b *batch) planReap(r *request) {
	v, ok := b.w.d.Volume(r.reap)
	if !ok || v.State != StateWiping {
		r.err = ErrNotFound
		return
	}
	b.deaths[r.reap] = &death{vol: v, reqs: []*request{r}, held: r.held, buried: true}
}

// writeDeaths marks the volumes illegal in their slots, so that a host which still sees the old tags does not use
// them. A slot that cannot be read, or that another volume shares, is left as it is.
func (b *batch) writeDeaths(ctx context.Context) {
	var todo []*death
	for _, m := range b.deaths {
		if !m.buried && m.vol.State == StateOK && b.w.index.slots[m.vol.Slot] == 1 {
			todo = append(todo, m)
		}
	}
	errs := make([]error, len(todo))
	parallel(len(todo), func(i int) {
		errs[i] = b.w.editSlot(ctx, todo[i].vol.Slot, func(s *slotMeta) { s.legality = "ILLEGAL" })
	})
	for i, m := range todo {
		if errs[i] != nil {
			b.failDeath(m, errs[i])
			continue
		}
		v := m.vol
		v.Legality = Illegal
		b.w.d.put(v)
	}
}

// failDeath fails one deletion. The volume may be illegal on disk from here on; asking again goes on.
func (b *batch) failDeath(m *death, err error) {
	m.err = b.w.stalled("marking volume "+m.vol.ID+" illegal", err)
	if b.w.doubt != nil {
		b.stall = m.err
	}
}

// bury goes on after the commit that ended the volumes: their parents become leaves, and a second commit frees their
// extents. What fails here is finished by the next request, or by the next SPM.
func (b *batch) bury(ctx context.Context) {
	b.ended()
	var ids []string
	for id, m := range b.deaths {
		if m.err == nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { b.destroyLeases(ctx) }) // before a slot can be used again; the second commit does not wait for it
	b.freeParents(ctx)
	err := b.w.reap(ctx, ids)
	wg.Wait()
	for _, id := range ids {
		m := b.deaths[id]
		if err != nil {
			b.unreaped(m, err)
			continue
		}
		b.w.index.dropSlot(m.vol.Slot)
		b.w.clean.set(m.vol.Slot, false)
		b.w.d.forget(id)
		m.gone = VolumeRemoved{ID: id, Epoch: b.w.Epoch(), Seq: b.w.seq.Add(1)}
	}
}

// unreaped answers for a volume whose extents could not be freed. It is gone all the same if this batch has ended it: to call
// that a failure would be a lie. Whoever is the next writer frees its space; as long as it is us, an unknown outcome has us read the
// domain again, which does the same.
func (b *batch) unreaped(m *death, err error) {
	switch {
	case m.buried: // it was gone before
		m.err = fmt.Errorf("volume is deleted, but its space is not free yet; ask again: %w", err)
	case errors.Is(err, blockdev.ErrLeaseLost):
		b.w.d.opt.Log.Warn("volume is deleted; the next SPM frees its space", "volume", m.vol.ID, "error", err)
		m.gone = VolumeRemoved{ID: m.vol.ID, Epoch: b.w.Epoch(), Seq: b.w.seq.Add(1)}
	default:
		m.err = fmt.Errorf("volume is deleted, but its space is not free yet: %w: %w", ErrOutcomeUnknown, err)
	}
}

// ended makes the committed end of the volumes visible.
func (b *batch) ended() {
	for _, m := range b.deaths {
		if m.err != nil || m.buried {
			continue
		}
		b.w.index.link(&m.vol, -1)
		v := m.vol
		v.State, v.Epoch, v.Seq = StateRemoving, b.w.Epoch(), b.w.seq.Add(1)
		b.w.d.put(v)
	}
}

// freeParents makes parents that have lost their only child leaves again.
func (b *batch) freeParents(ctx context.Context) {
	for _, m := range b.deaths {
		if m.err != nil || m.buried || m.vol.Parent == "" {
			continue
		}
		p, ok := b.w.d.Volume(m.vol.Parent)
		if !ok || p.State != StateOK || p.VolType != Internal || p.Image != m.vol.Image || b.w.index.children[p.ID] > 0 {
			continue
		}
		if err := b.w.setVolType(ctx, &p, "LEAF"); err != nil {
			b.w.d.opt.Log.Warn("parent stays internal until the next refresh", "volume", p.ID, "error", err)
			continue
		}
		p.VolType, p.Epoch, p.Seq = Leaf, b.w.Epoch(), b.w.seq.Add(1)
		b.w.d.put(p)
	}
}

// reap removes LVs whose volumes have ended.
func (w *Writer) reap(ctx context.Context, ids []string) error {
	tx := w.d.group.Begin()
	for _, id := range ids {
		if err := tx.RemoveLV(id); err != nil {
			return err
		}
	}
	return w.commit(ctx, tx, fmt.Sprintf("holdfast: free %d deleted volumes, epoch %d", len(ids), w.Epoch()))
}
