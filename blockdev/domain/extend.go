package domain

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// growth is a volume that the batch makes larger. Only the LV changes: CAP in the metadata slot is the virtual size.
type growth struct {
	id     string
	reqs   []*request
	before int64 // of the LV
	after  int64 // in the transaction
	err    error
}

// MaxAllocation is the most that a volume may ever need: with qcow2 its size and a tenth for the tables, else its size.
func (v *Volume) MaxAllocation() int64 {
	if v.Format == FormatRaw {
		return roundUp(float64(v.Capacity), extentUnit)
	}
	return maxCow(v.Capacity)
}

// Extend makes the LV of a volume at least size bytes large, and returns the volume when that is on disk. A volume that is as
// large already stays as it is, which is no error, so the same request again changes nothing. Its content, its metadata slot
// and its lease are left alone: whoever uses the volume goes on meanwhile. NoSpaceError says that the volume group is too
// full; errors other than ErrOutcomeUnknown mean that nothing has changed.
func (w *Writer) Extend(ctx context.Context, id string, size int64) (Volume, error) {
	if size <= 0 {
		return Volume{}, fmt.Errorf("extending volume %s to %d bytes: the size must be greater than 0: %w", id, size, ErrInvalid)
	}
	r := &request{target: id, size: size}
	if err := w.q.submit(ctx, r); err != nil {
		return Volume{}, fmt.Errorf("extending volume %s to %d bytes: %w", id, size, err)
	}
	return r.vol, nil
}

// planGrowths plans the extensions of a batch and returns the other requests. They come before the creations: what a guest
// needs to go on goes before what is new.
func (b *batch) planGrowths(reqs []*request) (rest []*request) {
	for _, r := range reqs {
		if r.size == 0 {
			rest = append(rest, r)
			continue
		}
		r.err = b.planGrowth(r)
	}
	return rest
}

// planGrowth takes the extents that one request needs.
func (b *batch) planGrowth(r *request) error {
	v, ok := b.w.d.Volume(r.target)
	switch {
	case !ok || isSpecial(v.ID) || v.State == StateInitializing:
		return ErrNotFound
	case v.State == StateRemoving || v.State == StateWiping:
		return ErrBusy
	case r.size <= v.AllocatedBytes:
		r.vol = v
		return nil
	case v.State == StateUnreadable:
		return fmt.Errorf("its metadata cannot be read (%s), so nobody knows how large it may become; domain check tells how to repair it: %w",
			v.Problem, ErrConflict)
	case r.size > v.MaxAllocation():
		return fmt.Errorf("a %s volume of %d bytes never needs more than %d: %w", v.Format, v.Capacity, v.MaxAllocation(), ErrInvalid)
	}
	m := b.growths[v.ID]
	if m == nil {
		m = &growth{id: v.ID, before: v.AllocatedBytes, after: v.AllocatedBytes}
	}
	if err := b.grow(m, r.size); err != nil {
		return err
	}
	m.reqs = append(m.reqs, r)
	b.growths[v.ID] = m
	return nil
}

// grow enlarges the LV in the transaction, if it is not as large there already.
func (b *batch) grow(m *growth, size int64) error {
	lv, err := b.tx.ExtendLV(m.id, size)
	if errors.Is(err, lvm2.ErrNoSpace) {
		vg := b.tx.VG()
		return &NoSpaceError{Volume: m.id, Needed: (vg.Extents(size) * vg.ExtentSize) - m.after, Free: vg.FreeExtents() * vg.ExtentSize}
	}
	if err != nil {
		return err
	}
	m.after = b.tx.VG().Size(lv)
	return nil
}

// grown makes the committed extensions visible. It looks the volumes up once more: the batch may have changed other things of
// them since it was planned.
func (b *batch) grown() {
	for _, m := range b.growths {
		v, ok := b.w.d.Volume(m.id)
		if m.err != nil || !ok {
			continue
		}
		v.AllocatedBytes, v.Epoch, v.Seq = m.after, b.w.Epoch(), b.w.seq.Add(1)
		b.w.d.put(v)
	}
}

// answerGrowths gives every request for an extension its result.
func (b *batch) answerGrowths() {
	for _, m := range b.growths {
		v, ok := b.w.d.Volume(m.id)
		for _, r := range m.reqs {
			if r.vol, r.err = v, m.err; r.err == nil && !ok {
				r.err = ErrNotFound
			}
		}
	}
}
