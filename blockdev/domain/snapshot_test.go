package domain

import (
	"errors"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/qcow2"
)

// on is a snapshot of the image of qcow(1), with volume id n on volume id parent.
func on(parent, n int) VolumeSpec {
	s := qcow(1)
	s.ID, s.Parent, s.Capacity = volID(n), volID(parent), 1
	return s
}

// TestWriter_snapshot makes a chain of three, and reads it as qemu would.
func TestWriter_snapshot(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	newDomain(t, lun)
	d, leases := leased(t, lun)
	w := writer(t, d)
	create(t, w, qcow(1))
	for n := 2; n <= 3; n++ {
		for range 2 { // the second time it is there
			v, err := w.Snapshot(deadline(t), on(n-1, n))
			if err != nil || v.Parent != volID(n-1) || v.Capacity != 100*mib || v.VolType != Leaf || v.Name != "disk 1" {
				t.Fatalf("%+v: %v", v, err)
			}
		}
		if p, _ := d.Volume(volID(n - 1)); p.VolType != Internal {
			t.Errorf("parent %+v", p)
		}
	}
	if len(leases.held) > 0 {
		t.Errorf("leases that are still held: %v", leases.held)
	}
	layers, err := qcow2.ReadChain(deadline(t), volID(3), 9, func(id string) (blockdev.Device, error) { return d.Device(id) })
	if err != nil || len(layers) != 3 || layers[0].Header.BackingName != volID(2) || layers[0].Header.BackingFormat != "qcow2" || layers[2].Name != volID(1) {
		t.Errorf("%+v: %v", layers, err)
	}
	mustBeClean(t, lun)
}

// TestWriter_snapshot_refused: above all while another host uses the leaf.
func TestWriter_snapshot_refused(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	newDomain(t, lun)
	d, leases := leased(t, lun)
	w := writer(t, d)
	create(t, w, qcow(1))
	if _, err := w.Snapshot(deadline(t), on(1, 2)); err != nil {
		t.Fatal(err)
	}
	leases.elsewhere = volID(2)
	if _, err := w.Snapshot(deadline(t), on(2, 3)); !errors.Is(err, ErrVolumeHeld) {
		t.Errorf("a leaf in use: %v", err)
	}
	if p, _ := openDomain(t, lun).Volume(volID(2)); p.VolType != Leaf {
		t.Errorf("it was made %s all the same", p.VolType)
	}
	live := on(2, 3)
	live.LiveOn = "nobody"
	if _, err := w.Snapshot(deadline(t), live); !errors.Is(err, ErrVolumeHeld) {
		t.Errorf("live, by one who does not hold it: %v", err)
	}
	var held *VolumeHeldError
	if _, err := w.Snapshot(deadline(t), on(2, 3)); !errors.As(err, &held) {
		t.Fatal(err)
	}
	live.ID, live.LiveOn = volID(4), held.Holder
	if v, err := w.Snapshot(deadline(t), live); err != nil || v.Parent != volID(2) {
		t.Errorf("live, by the one who holds it: %+v, %v", v, err)
	}
	if err := w.Delete(deadline(t), volID(4)); err != nil {
		t.Error(err)
	}
	leases.elsewhere = ""
	other := on(2, 3)
	other.Image = imgID(9)
	for name, c := range map[string]struct {
		spec VolumeSpec
		want error
	}{
		"not a leaf": {on(1, 3), ErrConflict}, "no volume": {on(8, 9), ErrNotFound}, "another image": {other, ErrConflict},
		"special": {VolumeSpec{ID: volID(3), Image: imgID(1), Parent: "leases", Format: FormatQcow2}, ErrNotFound},
	} {
		if _, err := w.Snapshot(deadline(t), c.spec); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if len(leases.held) > 0 {
		t.Errorf("leases that are still held: %v", leases.held)
	}
	mustBeClean(t, lun)
}

// TestWriter_snapshot_raw: a raw leaf gets a qcow2 layer of its own size, which names the format below.
func TestWriter_snapshot_raw(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	base := create(t, w, VolumeSpec{ID: volID(1), Image: imgID(1), Name: "disk 1", Format: FormatRaw, Capacity: 200 * mib})
	v, err := w.Snapshot(deadline(t), on(1, 2))
	if err != nil || v.Capacity != base.Capacity || v.Format != FormatQcow2 {
		t.Fatalf("%+v: %v", v, err)
	}
	dev, err := d.Device(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := qcow2.ReadHeader(deadline(t), dev); err != nil || h.BackingName != base.ID || h.BackingFormat != FormatRaw || h.Size != base.Capacity {
		t.Errorf("%+v: %v", h, err)
	}
	mustBeClean(t, lun)
}

// TestWriter_snapshot_size: old metadata may say less than the header, and a guest that is given less would lose its end.
func TestWriter_snapshot_size(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	create(t, w, qcow(1))
	dev, err := d.Device(volID(1))
	if err != nil {
		t.Fatal(err)
	}
	head := func(size int64) {
		t.Helper()
		p, err := qcow2.Create(qcow2.CreateOptions{Size: size})
		if err == nil {
			err = dev.WriteAt(deadline(t), p, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	head(300 * mib)
	v, err := w.Snapshot(deadline(t), on(1, 2))
	if err != nil || v.Capacity != 300*mib {
		t.Fatalf("%+v: %v", v, err)
	}
	if err := readHeader(deadline(t), d, v); err != nil {
		t.Error(err)
	}
	if err := w.Delete(deadline(t), volID(2)); err != nil {
		t.Fatal(err)
	}
	if err := dev.WriteZeroes(deadline(t), 0, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Snapshot(deadline(t), on(1, 3)); !errors.Is(err, ErrConflict) {
		t.Errorf("a leaf without a header: %v", err)
	}
}
