package domain

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// heldLeases is a VolumeLeases in memory.
type heldLeases struct {
	mu        sync.Mutex
	elsewhere string          // a volume that another host uses
	held      map[string]bool // by this one
	ended     []string
	abandoned int
	destroy   error
	lost      bool
}

func (h *heldLeases) TakeVolume(_ context.Context, l VolumeLease) (HeldVolume, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.Volume == h.elsewhere {
		return nil, &VolumeHeldError{Volume: l.Volume, Holder: "h2"}
	}
	if h.held[l.Volume] {
		return nil, errors.New("taken twice")
	}
	h.held[l.Volume] = true
	return &heldOne{h, l.Volume}, nil
}

type heldOne struct {
	h  *heldLeases
	id string
}

func (*heldOne) Epoch() uint64 { return 1 }
func (o *heldOne) Check(time.Duration) error {
	o.h.mu.Lock()
	defer o.h.mu.Unlock()
	if o.h.lost || !o.h.held[o.id] {
		return blockdev.ErrLeaseLost
	}
	return nil
}

func (o *heldOne) Release(context.Context) error {
	o.h.mu.Lock()
	defer o.h.mu.Unlock()
	delete(o.h.held, o.id)
	return nil
}

func (o *heldOne) Destroy(ctx context.Context) error {
	_ = o.Release(ctx)
	o.h.mu.Lock()
	defer o.h.mu.Unlock()
	o.h.ended = append(o.h.ended, o.id)
	return o.h.destroy
}

func (o *heldOne) Abandon() { o.h.mu.Lock(); defer o.h.mu.Unlock(); o.h.abandoned++ }

// leased is a domain whose operations take leases.
func leased(t *testing.T, lun blockdev.Device) (*Domain, *heldLeases) {
	t.Helper()
	h := &heldLeases{held: map[string]bool{}}
	o := testOptions()
	o.Volumes, o.DeferWipes = h, true
	d, err := Open(deadline(t), []blockdev.Device{lun}, o)
	if err != nil {
		t.Fatal(err)
	}
	return d, h
}

func TestWriter_Remove_takesTheLease(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	newDomain(t, lun)
	d, h := leased(t, lun)
	w := writer(t, d)
	for n := range 3 {
		create(t, w, qcow(n+1))
	}
	if len(h.held) > 0 {
		t.Error("a creation takes no lease: the volume does not exist yet")
	}
	h.elsewhere = volID(1)
	var held *VolumeHeldError
	if err := w.Delete(deadline(t), volID(1)); !errors.As(err, &held) || held.Holder != "h2" {
		t.Fatalf("a volume in use: %v", err)
	}
	if v, ok := d.Volume(volID(1)); !ok || v.Legality != Legal {
		t.Errorf("it was touched: %+v", v)
	}
	var wg sync.WaitGroup
	for range 4 { // the same volume, at the same time: one deletes it
		wg.Go(func() {
			if err := w.Delete(deadline(t), volID(2)); err != nil && !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(h.held) > 0 || len(h.ended) != 1 {
		t.Errorf("held %v, ended %v", h.held, h.ended)
	}
	if v := create(t, w, qcow(4)); v.Slot != 2 {
		t.Errorf("its slot is not used again: %d", v.Slot)
	}
	h.destroy = errors.New("no answer")
	if err := w.Delete(deadline(t), volID(3)); err != nil {
		t.Fatal(err)
	}
	if v := create(t, w, qcow(5)); v.Slot == 3 {
		t.Error("the slot of a lease that may still be written to was used again")
	}
	mustBeClean(t, lun)
}

func TestFinishDeletes_underTheLease(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	newDomain(t, lun)
	d, h := leased(t, lun)
	plantLV(t, d, volID(5), "MD_2", "PU_"+NilUUID, "IU__remove_me_ZERO_"+imgID(5))
	w, _, err := d.BecomeWriter(deadline(t), openGuard{epoch: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	h.elsewhere = volID(5)
	if _, err := w.FinishDeletes(deadline(t)); !errors.Is(err, ErrVolumeHeld) {
		t.Errorf("wiping what another host uses: %v", err)
	}
	h.elsewhere, h.lost = "", true
	if _, err := w.FinishDeletes(deadline(t)); !errors.Is(err, blockdev.ErrLeaseLost) || len(h.held) > 0 {
		t.Errorf("wiping under a lost lease: %v, held %v", err, h.held)
	}
	h.lost = false
	if report, err := w.FinishDeletes(deadline(t)); err != nil || len(report.Actions) != 1 || len(h.ended) != 1 {
		t.Errorf("%+v, %v, ended %v", report, err, h.ended)
	}
}
