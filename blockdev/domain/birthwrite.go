package domain

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
)

// writeBirths writes lease sectors, first bytes and metadata slots of all births. All of it lies where nothing refers
// to yet, so the order among them is free; only the zeroes of a lease area come before its sectors.
func (b *batch) writeBirths(ctx context.Context) {
	if len(b.order) == 0 {
		return
	}
	leases, err := b.w.device("leases")
	if err == nil {
		err = b.w.cleanLeases(ctx, leases, b.order)
	}
	if err != nil {
		b.failBirths("preparing lease areas", err)
		return
	}
	type job struct {
		m *birth
		f func() error
	}
	jobs := make([]job, 0, 4*len(b.order))
	for _, m := range b.order {
		jobs = append(jobs, job{m, func() error { return b.w.writeHead(ctx, b, m) }},
			job{m, func() error { return b.w.writeLease(ctx, leases, m) }})
		if m.parent != nil {
			jobs = append(jobs, job{m, func() error { return b.w.setVolType(ctx, m.parent, "INTERNAL") }})
		}
	}
	runs := slotRuns(b.order)
	for _, run := range runs {
		jobs = append(jobs, job{nil, func() error { return b.writeSlots(ctx, run) }})
	}
	errs := make([]error, len(jobs))
	parallel(len(jobs), func(i int) { errs[i] = jobs[i].f() })
	for i, j := range jobs {
		if j.m != nil {
			b.failBirth(j.m, errs[i])
		}
	}
	for i, run := range runs {
		if err := errs[len(jobs)-len(runs)+i]; err != nil {
			b.failSlots(ctx, run, err)
		}
	}
}

func (b *batch) failBirth(m *birth, err error) {
	if err == nil {
		return
	}
	err = b.w.stalled("writing volume "+m.spec.ID, err)
	if b.w.doubt != nil {
		b.stall = err
	}
	if m.err == nil {
		m.err = err
	}
}

func (b *batch) failBirths(what string, err error) {
	for _, m := range b.order {
		b.failBirth(m, fmt.Errorf("%s: %w", what, err))
	}
}

// writeHead writes the first bytes of a volume that exists only in the transaction.
func (w *Writer) writeHead(ctx context.Context, b *batch, m *birth) error {
	dev, err := w.d.group.DeviceOf(b.tx.VG(), m.lv)
	if err != nil {
		return fmt.Errorf("volume %s: %w", m.spec.ID, err)
	}
	return w.d.io.write(ctx, blockdev.NewGuarded(dev, w.guard), m.head, 0)
}

// slotRuns cuts the births, sorted by slot, into runs of neighbours. One write covers a run: what lies between the used
// parts of two new slots belongs to one of them.
func slotRuns(order []*birth) [][]*birth {
	var runs [][]*birth
	for i := 0; i < len(order); {
		j := i + 1
		for j < len(order) && order[j].slot == order[j-1].slot+1 {
			j++
		}
		runs = append(runs, order[i:j])
		i = j
	}
	return runs
}

func (b *batch) writeSlots(ctx context.Context, run []*birth) error {
	dev, err := b.w.device("metadata")
	if err != nil {
		return err
	}
	geo := b.w.d.geometry()
	buf := make([]byte, int64(len(run)-1)*geo.slotStride()+slotSize)
	for i, m := range run {
		copy(buf[int64(i)*geo.slotStride():], m.meta)
	}
	return b.w.d.io.write(ctx, dev, buf, geo.slotOffset(run[0].slot))
}

// failSlots finds out which slots of a run cannot be written, so that the others do not fail with them.
func (b *batch) failSlots(ctx context.Context, run []*birth, err error) {
	for i, m := range run {
		if len(run) > 1 && b.stall == nil && !unanswered(err) {
			err = b.writeSlots(ctx, run[i:i+1])
		}
		b.failBirth(m, err)
	}
}

// setVolType rewrites a volume's slot with another VOLTYPE. Hosts may have changed the slot since it was read.
func (w *Writer) setVolType(ctx context.Context, v *Volume, volType string) error {
	return w.editSlot(ctx, v.Slot, func(m *slotMeta) { m.volType = volType })
}

// editSlot reads a slot, changes it and writes it back.
func (w *Writer) editSlot(ctx context.Context, slot int, change func(*slotMeta)) error {
	dev, err := w.device("metadata")
	if err != nil {
		return err
	}
	off := w.d.geometry().slotOffset(slot)
	p := make([]byte, slotSize)
	if err := w.d.io.read(ctx, dev, p, off); err != nil {
		return err
	}
	m, err := decodeSlot(p)
	if err != nil {
		return fmt.Errorf("slot %d: %w", slot, err)
	}
	change(m)
	if p, err = m.encode(); err != nil {
		return fmt.Errorf("slot %d: %w", slot, err)
	}
	return w.d.io.write(ctx, dev, p, off)
}
