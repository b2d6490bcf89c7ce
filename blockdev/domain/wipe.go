package domain

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
)

// wipe overwrites and removes volumes whose deletion asked for it, or notes them for FinishDeletes.
func (r *recovery) wipe(ctx context.Context, wipes []Volume) error {
	for _, v := range wipes {
		if r.w.d.opt.DeferWipes {
			r.report.add(Deferred, v.ID, fmt.Sprintf("%d bytes", v.AllocatedBytes))
			continue
		}
		if err := r.zero(ctx, &v); err != nil {
			return err
		}
		if err := r.w.reap(ctx, []string{v.ID}); err != nil {
			return fmt.Errorf("removing wiped volume %s: %w", v.ID, err)
		}
		r.w.d.forget(v.ID)
		r.report.add(RecoveredWipe, v.ID, fmt.Sprintf("%d bytes", v.AllocatedBytes))
	}
	return nil
}

// zero is zeroVolume under the volume's lease, which ends with the volume.
func (r *recovery) zero(ctx context.Context, v *Volume) error {
	held, err := r.w.take(ctx, v)
	if err != nil {
		return fmt.Errorf("wiping volume %s: %w", v.ID, err)
	}
	if err := r.w.zeroVolume(ctx, v, held); err != nil || held == nil {
		r.w.giveBack(ctx, held, err)
		return err
	}
	err = held.Destroy(ctx)
	r.w.stuck.set(v.Slot, err != nil)
	return nil
}

// finishDelete wipes and removes one volume, its lease being held. A host that still uses the data holds it.
func (w *Writer) finishDelete(ctx context.Context, v *Volume) error {
	if err := w.turns.enter(ctx, v.ID); err != nil {
		return err
	}
	defer w.turns.leave(v.ID)
	held, err := w.take(ctx, v)
	if err != nil {
		return fmt.Errorf("wiping volume %s: %w", v.ID, err)
	}
	if err := w.zeroVolume(ctx, v, held); err != nil {
		w.giveBack(ctx, held, err)
		return err
	}
	r := &request{reap: v.ID, held: held}
	err = w.q.submit(ctx, r)
	w.giveBack(ctx, r.held, err)
	if err != nil {
		return fmt.Errorf("removing wiped volume %s: %w", v.ID, err)
	}
	return nil
}

// zeroVolume overwrites a volume that nobody uses any more. held is its lease, nil where it has none.
func (w *Writer) zeroVolume(ctx context.Context, v *Volume, held HeldVolume) error {
	dev, err := w.device(v.ID)
	if err != nil {
		return err
	}
	if held != nil {
		dev = blockdev.NewGuarded(dev, held)
	}
	if err := w.d.io.zero(ctx, dev, 0, v.AllocatedBytes); err != nil {
		return fmt.Errorf("wiping volume %s: %w", v.ID, err)
	}
	return w.d.io.flush(ctx, dev)
}

// FinishDeletes wipes and removes the volumes that Options.DeferWipes left, while the writer serves requests. It may
// take as long as writing all of them; it goes on after a failure when called again.
func (w *Writer) FinishDeletes(ctx context.Context) (RecoveryReport, error) {
	var report RecoveryReport
	for _, v := range w.d.Leftovers() {
		if v.State != StateWiping {
			continue
		}
		if err := w.finishDelete(ctx, &v); err != nil {
			return report, err
		}
		report.add(RecoveredWipe, v.ID, fmt.Sprintf("%d bytes", v.AllocatedBytes))
	}
	return report, nil
}
