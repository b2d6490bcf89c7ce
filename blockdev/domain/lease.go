package domain

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
)

// leaseAhead is how many free slots behind a new one get their lease areas zeroed along with it, so that most volumes
// find theirs clean.
const leaseAhead = 16

// cleanLeases makes the lease areas of the births zero where they are not known to be. A fresh resource is its two
// leading sectors and zeroes up to the end of its area; a block of a former holder would make every acquire fail.
func (w *Writer) cleanLeases(ctx context.Context, leases blockdev.Device, births []*birth) error {
	if _, ok := w.d.opt.Locks.(LeaseEncoder); !ok {
		return nil // InitResource writes the whole area itself
	}
	geo := w.d.geometry()
	for _, m := range births {
		if w.clean.has(m.slot) {
			continue
		}
		end := m.slot + 1
		for end <= MaxSlot && end < m.slot+leaseAhead && w.cleanable(end, births) {
			end++
		}
		if err := w.d.io.zero(ctx, leases, geo.leaseOffset(m.slot), int64(end-m.slot)*geo.align); err != nil {
			return err
		}
		for s := m.slot; s < end; s++ {
			w.clean.set(s, true)
		}
	}
	return nil
}

// cleanable tells whether a slot's area may be zeroed: it is not clean yet and no volume has it, except one that is
// being born.
func (w *Writer) cleanable(slot int, births []*birth) bool {
	if w.clean.has(slot) || w.stuck[slot] {
		return false
	}
	if !w.index.slotUsed(slot) {
		return true
	}
	for _, m := range births {
		if m.slot == slot {
			return true
		}
	}
	return false
}

// writeLease writes a volume's resource.
func (w *Writer) writeLease(ctx context.Context, leases blockdev.Device, m *birth) error {
	off := w.d.geometry().leaseOffset(m.slot)
	vg := w.d.uuid()
	enc, ok := w.d.opt.Locks.(LeaseEncoder)
	if !ok {
		return w.d.io.call(ctx, func(ctx context.Context) error {
			return w.d.opt.Locks.InitResource(ctx, leases, off, vg, m.spec.ID)
		})
	}
	p, err := enc.EncodeResource(leases.SectorSize(), vg, m.spec.ID)
	if err != nil {
		return fmt.Errorf("lease of volume %s: %w", m.spec.ID, err)
	}
	return w.d.io.write(ctx, leases, p, off)
}
