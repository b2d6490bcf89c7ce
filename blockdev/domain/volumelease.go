package domain

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-io/holdfast/blockdev"
)

// VolumeLeases takes the leases of volumes. Whoever touches the data of a volume that exists, or ends its existence, holds
// its lease meanwhile; the right to write the domain alone is not enough, since other hosts use the volumes.
type VolumeLeases interface {
	// TakeVolume takes a volume's lease. It waits for nobody: a lease that is held is an error that names the holder. An
	// area without a lease is ErrNoVolumeLease.
	TakeVolume(ctx context.Context, l VolumeLease) (HeldVolume, error)
}

// ErrNoVolumeLease says that there is no lease of the volume at its place, so that nobody can hold it.
var ErrNoVolumeLease = errors.New("the volume has no lease")

// VolumeLease is where a volume's lease lies.
type VolumeLease struct {
	Lockspace string // the domain's UUID
	Volume    string
	Device    blockdev.Device
	Offset    int64
}

// HeldVolume is a volume's lease while it is held. As a guard it stands for the right to touch the volume's data.
type HeldVolume interface {
	blockdev.Guard
	// Release gives it back. Every write under it has come back.
	Release(ctx context.Context) error
	// Destroy ends the lease with its volume. After an error the place must not be used again.
	Destroy(ctx context.Context) error
	// Abandon gives it back as soon as no write under it can land any more.
	Abandon()
}

// VolumeLease is where the lease of a volume lies; false for one that has none, or shares its slot with another.
func (d *Domain) VolumeLease(v *Volume) (VolumeLease, bool, error) {
	if v.Slot < 1 || v.Slot > MaxSlot || d.slotShared(v) {
		return VolumeLease{}, false, nil
	}
	dev, off, err := d.VolumeResource(v.Slot)
	return VolumeLease{Lockspace: d.uuid(), Volume: v.ID, Device: dev, Offset: off}, err == nil, err
}

// slotShared tells whether another volume says that it has the slot too.
func (d *Domain) slotShared(v *Volume) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, o := range d.vols {
		if o.Slot == v.Slot && o.ID != v.ID && o.State != StateInitializing {
			return true
		}
	}
	return false
}

// take takes a volume's lease for one operation; nil if there is none to take. Only one operation at a time can have it.
func (w *Writer) take(ctx context.Context, v *Volume) (HeldVolume, error) {
	if w.d.opt.Volumes == nil {
		return nil, nil
	}
	at, ok, err := w.d.VolumeLease(v)
	if err != nil || !ok {
		return nil, err
	}
	held, err := w.d.opt.Volumes.TakeVolume(ctx, at)
	if errors.Is(err, ErrNoVolumeLease) {
		w.d.opt.Log.Warn("a volume has no lease; nobody can hold it", "volume", v.ID, "error", err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("taking the lease of volume %s: %w", v.ID, err)
	}
	return held, nil
}

// giveBack ends the hold of an operation that did not end the volume. What may still land keeps the lease.
func (w *Writer) giveBack(ctx context.Context, held HeldVolume, cause error) {
	if held == nil {
		return
	}
	if cause != nil && unanswered(cause) {
		held.Abandon()
		return
	}
	if err := held.Release(context.WithoutCancel(ctx)); err != nil {
		w.d.opt.Log.Warn("releasing the lease of a volume", "error", err)
	}
}

// destroyLeases ends the leases of volumes that have ended, all at the same time. A slot whose lease could not be destroyed for
// certain stays out of use.
func (b *batch) destroyLeases(ctx context.Context) {
	var wg sync.WaitGroup
	var mu sync.Mutex // guards stuck
	for _, m := range b.deaths {
		if m.held == nil || m.err != nil {
			continue
		}
		wg.Go(func() {
			err := m.held.Destroy(ctx)
			m.held = nil
			if err == nil {
				return
			}
			b.w.d.opt.Log.Warn("the lease of a deleted volume could not be destroyed; its slot is not used again under this epoch",
				"volume", m.vol.ID, "slot", m.vol.Slot, "error", err)
			mu.Lock()
			defer mu.Unlock()
			b.w.stuck.set(m.vol.Slot, true)
		})
	}
	wg.Wait()
}

// keepSlot keeps the slot of a volume out of use when it is not known what became of the volume: its lease, which is
// given back later, must not be written into a new one's place.
func (b *batch) keepSlot(m *death) {
	if m.held != nil && m.err != nil && unanswered(m.err) {
		b.w.stuck.set(m.vol.Slot, true)
	}
}

// slotTaken tells whether a new volume cannot have the slot.
func (w *Writer) slotTaken(slot int) bool { return w.index.slotUsed(slot) || w.stuck[slot] }

// turns lets one operation at a time work on a volume.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the operation has ended
}

// enter waits for the volume's turn.
func (t *turns) enter(ctx context.Context, id string) error {
	for {
		t.mu.Lock()
		ch := t.busy[id]
		if ch == nil {
			if t.busy == nil {
				t.busy = map[string]chan struct{}{}
			}
			t.busy[id] = make(chan struct{})
			t.mu.Unlock()
			return nil
		}
		t.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return fmt.Errorf("another operation on volume %s is under way: %w: %w", id, ErrBusy, context.Cause(ctx))
		}
	}
}

// leave ends the turn.
func (t *turns) leave(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.busy[id])
	delete(t.busy, id)
}
