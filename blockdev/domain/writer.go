package domain

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// Writer changes a domain under a lease. There is at most one for a Domain, and the lease makes it the only one of the
// whole pool. Requests of concurrent callers are grouped into one commit; see DESIGN.md. Its methods are safe for
// concurrent use.
type Writer struct {
	d     *Domain
	guard blockdev.Guard
	q     *queue
	seq   atomic.Uint64
	turns turns // of volumes whose leases are taken

	// The rest belongs to whoever leads a batch.
	doubt error // why nothing may be committed before a refresh
	index index
	clean slotSet // slots whose lease area is known to hold zeroes only
	stuck slotSet // slots that this writer never uses again: a write to their leases may still land
}

// BecomeWriter reads the domain anew, finishes or rolls back what a former SPM left, and returns the writer. guard is
// the right to write: the lease SDM of the pool's master domain, or this domain's own.
func (d *Domain) BecomeWriter(ctx context.Context, guard blockdev.Guard) (*Writer, RecoveryReport, error) {
	if !d.writing.CompareAndSwap(false, true) {
		return nil, RecoveryReport{}, fmt.Errorf("domain %s has a writer already; close it first: %w", d.uuid(), ErrInvalid)
	}
	w := &Writer{d: d, guard: guard}
	w.q = newQueue(w.run)
	report, err := w.start(ctx)
	if err != nil {
		d.writing.Store(false)
		return nil, report, fmt.Errorf("becoming the writer of %s: %w", d.uuid(), err)
	}
	return w, report, nil
}

// start brings writer and domain to a known state.
func (w *Writer) start(ctx context.Context) (RecoveryReport, error) {
	if err := w.fit(); err != nil {
		return RecoveryReport{}, err
	}
	if err := w.d.refresh(ctx); err != nil {
		return RecoveryReport{}, err
	}
	if err := w.fit(); err != nil {
		return RecoveryReport{}, err
	}
	w.clean = slotSet{}
	r := recovery{w: w}
	if err := r.run(ctx); err != nil {
		return r.report, err
	}
	w.index = newIndex(w.d)
	w.doubt = nil
	return r.report, nil
}

// fit tells whether this process could write the domain at all.
func (w *Writer) fit() error {
	w.d.mu.RLock()
	defer w.d.mu.RUnlock()
	switch {
	case w.d.problem != nil:
		return w.d.problem
	case w.d.id.geo.version != 5:
		return fmt.Errorf("version %d can be read only; upgrade it: %w", w.d.id.geo.version, ErrVersion)
	case w.d.opt.Locks == nil:
		return fmt.Errorf("no way to write volume leases: %w", ErrInvalid)
	}
	return nil
}

// Epoch is the version of the lease that the writer writes under.
func (w *Writer) Epoch() uint64 { return w.guard.Epoch() }

// Seq is the number of the last change in this epoch. Volume.Seq and VolumeRemoved.Seq tell which change got which.
func (w *Writer) Seq() uint64 { return w.seq.Load() }

// Create makes a volume and returns it when it is on disk. The same spec again gives the same volume; another with the
// same id is ErrConflict. Errors other than ErrOutcomeUnknown mean that there is no new volume.
func (w *Writer) Create(ctx context.Context, s VolumeSpec) (Volume, error) {
	if err := s.normalise(); err != nil {
		return Volume{}, fmt.Errorf("creating volume %s: %w", s.ID, err)
	}
	r := &request{create: &s}
	if err := w.q.submit(ctx, r); err != nil {
		return Volume{}, fmt.Errorf("creating volume %s: %w", s.ID, err)
	}
	return r.vol, nil
}

// Delete removes a volume. See Remove.
func (w *Writer) Delete(ctx context.Context, id string) error {
	_, err := w.Remove(ctx, id)
	return err
}

// Remove removes a volume for good. From the first commit on it is no volume any more; if what follows fails, asking
// again finishes it. The volume's lease is held meanwhile and ends with it; one that another host holds refuses. ErrNotFound means that there is none, also because an earlier call removed it.
func (w *Writer) Remove(ctx context.Context, id string) (VolumeRemoved, error) {
	if err := w.turns.enter(ctx, id); err != nil {
		return VolumeRemoved{}, fmt.Errorf("deleting volume %s: %w", id, err)
	}
	defer w.turns.leave(id)
	r := &request{remove: id}
	if v, ok := w.d.Volume(id); ok && v.exists() {
		held, err := w.take(ctx, &v)
		if err != nil {
			return VolumeRemoved{}, fmt.Errorf("deleting volume %s: %w", id, err)
		}
		r.held = held
	}
	err := w.q.submit(ctx, r)
	w.giveBack(ctx, r.held, err)
	if err != nil {
		return VolumeRemoved{}, fmt.Errorf("deleting volume %s: %w", id, err)
	}
	return r.gone, nil
}

// Refresh reads the domain anew after an error that left the writer in doubt, recovers as BecomeWriter does, and lets
// the writer go on. It fails as long as calls to a device are outstanding: they could still change what it reads.
func (w *Writer) Refresh(ctx context.Context) (RecoveryReport, error) {
	var report RecoveryReport
	err := w.q.submit(ctx, &request{alone: func(ctx context.Context) (err error) {
		for _, dev := range w.d.luns() {
			if n := dev.Pending(); n > 0 {
				return fmt.Errorf("%d calls to %s have not come back; try again later: %w", n, dev.Name(), ErrStalled)
			}
		}
		// What is read now will be answered for: a write whose flush failed must not be lost later.
		if err = w.flushAll(ctx); err == nil {
			report, err = w.start(ctx)
		}
		if err != nil {
			w.doubt = fmt.Errorf("an earlier refresh failed, refresh again: %w", err)
		}
		return err
	}})
	if err != nil {
		return report, fmt.Errorf("refreshing %s: %w", w.d.uuid(), err)
	}
	return report, nil
}

// Close waits for requests that are in, and refuses further ones. The domain can be read and get a new writer then.
func (w *Writer) Close() error {
	w.q.close()
	w.d.writing.Store(false)
	return nil
}

// device is an LV of the current VG, writable under the guard.
func (w *Writer) device(name string) (blockdev.Device, error) {
	dev, err := w.d.group.Device(name)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	return blockdev.NewGuarded(dev, w.guard), nil
}

// flush makes all that was written durable, on every LUN. With one LUN there is nothing to do: a commit flushes the
// device of the LVM metadata before it writes what makes the change visible.
func (w *Writer) flush(ctx context.Context) error {
	if len(w.d.luns()) == 1 {
		return nil
	}
	return w.flushAll(ctx)
}

// flushAll makes all that was written durable.
func (w *Writer) flushAll(ctx context.Context) error {
	devs := w.d.luns()
	errs := make([]error, len(devs))
	parallel(len(devs), func(i int) { errs[i] = w.d.io.flush(ctx, devs[i]) })
	return errors.Join(errs...)
}

// commit makes all earlier writes durable and a transaction the state of the domain. On failure the writer knows
// whether it must be refreshed.
func (w *Writer) commit(ctx context.Context, tx *lvm2.Tx, what string) error {
	return w.commitWith(ctx, tx, what, func(context.Context) error { return nil })
}

// commitWith is commit with writes that may go out together with the text of the metadata.
func (w *Writer) commitWith(ctx context.Context, tx *lvm2.Tx, what string, hidden func(context.Context) error) error {
	err := w.d.io.steps(ctx, func(ctx context.Context) error {
		return w.d.group.CommitWith(ctx, tx, w.guard, what, func(ctx context.Context) error {
			if err := hidden(ctx); err != nil {
				return err
			}
			if err := w.flush(ctx); err != nil {
				return w.stalled("flushing before the commit", err)
			}
			return nil
		})
	})
	switch {
	case errors.Is(err, errReplan):
		return err
	case err == nil:
		w.d.mu.Lock()
		w.d.vg = w.d.group.VG()
		w.d.mu.Unlock()
		return nil
	case errors.Is(err, ErrOutcomeUnknown), errors.Is(err, lvm2.ErrDoubt):
		w.doubt = fmt.Errorf("an earlier commit has an unknown outcome; refresh first: %w", ErrOutcomeUnknown)
	case errors.Is(err, lvm2.ErrChanged):
		w.doubt = fmt.Errorf("somebody else changed the volume group; refresh first: %w", lvm2.ErrChanged)
	case errors.Is(err, lvm2.ErrMetadataFull):
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
