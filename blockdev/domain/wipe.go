package domain

import (
	"context"
	"fmt"
)

// wipe overwrites and removes volumes whose deletion asked for it, or notes them for FinishDeletes.
func (r *recovery) wipe(ctx context.Context, wipes []Volume) error {
	for _, v := range wipes {
		if r.w.d.opt.DeferWipes {
			r.report.add(Deferred, v.ID, fmt.Sprintf("%d bytes", v.AllocatedBytes))
			continue
		}
		if err := r.w.zeroVolume(ctx, &v); err != nil {
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

// zeroVolume overwrites a volume that nobody uses any more.
func (w *Writer) zeroVolume(ctx context.Context, v *Volume) error {
	dev, err := w.device(v.ID)
	if err != nil {
		return err
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
		if err := w.zeroVolume(ctx, &v); err != nil {
			return report, err
		}
		if err := w.q.submit(ctx, &request{reap: v.ID}); err != nil {
			return report, fmt.Errorf("removing wiped volume %s: %w", v.ID, err)
		}
		report.add(RecoveredWipe, v.ID, fmt.Sprintf("%d bytes", v.AllocatedBytes))
	}
	return report, nil
}
