package domain

import (
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// plant changes the VG as another SPM would.
func plant(t *testing.T, d *Domain, change func(tx *lvm2.Tx) error) {
	t.Helper()
	tx := d.group.Begin()
	if err := change(tx); err != nil {
		t.Fatal(err)
	}
	if err := d.group.Commit(deadline(t), tx, openGuard{}, "planted"); err != nil {
		t.Fatal(err)
	}
}

func plantLV(t *testing.T, d *Domain, id string, tags ...string) {
	t.Helper()
	plant(t, d, func(tx *lvm2.Tx) error {
		_, err := tx.CreateLV(id, 128*mib, lvm2.LVOptions{Tags: tags})
		return err
	})
}

// putSlot writes raw bytes into a metadata slot.
func putSlot(t *testing.T, d *Domain, slot int, p []byte) {
	t.Helper()
	dev, err := d.group.Device("metadata")
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.WriteAt(deadline(t), pad(string(p), slotSize), d.geometry().slotOffset(slot)); err != nil {
		t.Fatal(err)
	}
}

func putLease(t *testing.T, d *Domain, slot int, id string) {
	t.Helper()
	dev, off, err := d.VolumeResource(slot)
	if err != nil {
		t.Fatal(err)
	}
	if err := (testLocks{}).InitResource(deadline(t), dev, off, testDomain, id); err != nil {
		t.Fatal(err)
	}
}

func slotText(t *testing.T, s VolumeSpec, ctime int64, change func(*slotMeta)) []byte {
	t.Helper()
	if err := s.normalise(); err != nil {
		t.Fatal(err)
	}
	m, err := s.meta(testDomain, ctime, 128*mib)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(m)
	}
	p, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBecomeWriter_recovers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plant func(t *testing.T, d *Domain)
		kinds []string // in order
		left  int      // volumes besides the one that was there
	}{
		"clean": {func(*testing.T, *Domain) {}, nil, 0},
		"initializing": {func(t *testing.T, d *Domain) {
			plantLV(t, d, volID(5), tagInitializing)
		}, []string{RecoveredUnborn}, 0},
		"deleted": {func(t *testing.T, d *Domain) {
			plantLV(t, d, volID(5), "MD_2", "PU_"+NilUUID, "IU__remove_me_"+imgID(5))
		}, []string{RecoveredDelete}, 0},
		"deleted by an old release": {func(t *testing.T, d *Domain) {
			plantLV(t, d, "_remove_me_"+volID(5), "MD_2", "PU_"+NilUUID, "IU_"+imgID(5))
		}, []string{RecoveredDelete}, 0},
		"deleted with wipe": {func(t *testing.T, d *Domain) {
			plantLV(t, d, volID(5), "MD_2", "PU_"+NilUUID, "IU__remove_me_ZERO_"+imgID(5))
		}, []string{RecoveredWipe}, 0},
		"empty slot": {func(t *testing.T, d *Domain) {
			plantLV(t, d, volID(5), volumeTags(2, "", imgID(5))...)
		}, []string{RecoveredSlotless}, 0},
		"empty slot, but the lease is there": {func(t *testing.T, d *Domain) {
			plantLV(t, d, volID(5), volumeTags(2, "", imgID(5))...)
			putLease(t, d, 2, volID(5))
		}, []string{LeftAlone}, 1},
		"stale slot": {func(t *testing.T, d *Domain) {
			putSlot(t, d, 2, slotText(t, qcow(9), 1, nil))
			putLease(t, d, 2, volID(9))
			plantLV(t, d, volID(5), volumeTags(2, "", imgID(5))...)
		}, []string{RecoveredSlotless}, 0},
		"slot of another image, younger than the LV": {func(t *testing.T, d *Domain) {
			putSlot(t, d, 2, slotText(t, qcow(9), 1<<40, nil))
			plantLV(t, d, volID(5), volumeTags(2, "", imgID(5))...)
		}, nil, 1},
		"damaged slot": {func(t *testing.T, d *Domain) {
			putSlot(t, d, 2, []byte("CAP=1\nrubbish"))
			plantLV(t, d, volID(5), volumeTags(2, "", imgID(5))...)
		}, nil, 1},
		"empty slot with a child": {func(t *testing.T, d *Domain) {
			plantLV(t, d, volID(5), volumeTags(2, "", imgID(5))...)
			s := qcow(5)
			s.ID, s.Parent = volID(6), volID(5)
			putSlot(t, d, 3, slotText(t, s, 1, nil))
			putLease(t, d, 3, volID(6))
			plantLV(t, d, volID(6), volumeTags(3, volID(5), imgID(5))...)
		}, nil, 2},
		"too many empty slots": {func(t *testing.T, d *Domain) {
			for n := 5; n < 6+maxSlotless; n++ {
				plantLV(t, d, volID(n), volumeTags(n, "", imgID(n))...)
			}
		}, []string{LeftAlone}, 1 + maxSlotless},
		"internal without child": {func(t *testing.T, d *Domain) {
			putSlot(t, d, 2, slotText(t, qcow(5), 1, func(m *slotMeta) { m.volType = "INTERNAL" }))
			putLease(t, d, 2, volID(5))
			plantLV(t, d, volID(5), volumeTags(2, "", imgID(5))...)
		}, []string{RecoveredParent}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lun := blockdev.NewMem(lunSize, 512)
			d := newDomain(t, lun)
			w := writer(t, d)
			create(t, w, qcow(1))
			_ = w.Close()
			c.plant(t, d)
			w, report, err := d.BecomeWriter(deadline(t), openGuard{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = w.Close() }()
			var kinds []string
			for _, a := range report.Actions {
				kinds = append(kinds, a.Kind)
			}
			if strings.Join(kinds, ";") != strings.Join(c.kinds, ";") {
				t.Errorf("%+v, want %v", report.Actions, c.kinds)
			}
			if n := len(d.Volumes()); n != 1+c.left {
				t.Errorf("%d volumes", n)
			}
			if c.left == 0 {
				mustBeClean(t, lun)
			}
		})
	}
}

// TestBecomeWriter_unreadableLease: a lease that cannot be read is no proof that the volume was never complete.
func TestBecomeWriter_unreadableLease(t *testing.T) {
	t.Parallel()
	lun := faulty.New(blockdev.NewMem(lunSize, 512))
	newDomain(t, lun)
	d := openDomain(t, lun)
	plantLV(t, d, volID(5), volumeTags(2, "", imgID(5))...)
	_, off, err := d.VolumeResource(2)
	if err != nil {
		t.Fatal(err)
	}
	lun.Inject(faulty.Fault{Ops: faulty.Read, Off: off, Len: mib, Err: faulty.EIO})
	w, report, err := d.BecomeWriter(deadline(t), openGuard{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if len(report.Actions) != 1 || report.Actions[0].Kind != LeftAlone || len(d.Volumes()) != 1 {
		t.Errorf("%+v, %d volumes", report.Actions, len(d.Volumes()))
	}
}

func TestFinishDeletes(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	newDomain(t, lun)
	o := testOptions()
	o.DeferWipes = true
	d, err := Open(deadline(t), []blockdev.Device{lun}, o)
	if err != nil {
		t.Fatal(err)
	}
	plantLV(t, d, volID(5), "MD_2", "PU_"+NilUUID, "IU__remove_me_ZERO_"+imgID(5))
	dev, off, err := d.group.Locate(volID(5), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.WriteAt(deadline(t), pad("secret", 512), off); err != nil {
		t.Fatal(err)
	}
	w, report, err := d.BecomeWriter(deadline(t), openGuard{})
	if err != nil || len(report.Actions) != 1 || report.Actions[0].Kind != Deferred || report.Changed() {
		t.Fatalf("%+v %v", report, err)
	}
	defer func() { _ = w.Close() }()
	if v := create(t, w, qcow(1)); v.Slot != 1 {
		t.Errorf("%+v", v)
	}
	if v := create(t, w, qcow(2)); v.Slot != 3 {
		t.Errorf("the slot of a volume that is being wiped was used: %+v", v)
	}
	if report, err = w.FinishDeletes(deadline(t)); err != nil || len(report.Actions) != 1 {
		t.Errorf("%+v %v", report, err)
	}
	if strings.HasPrefix(string(lun.Bytes(off, 6)), "secret") {
		t.Error("not wiped")
	}
	if v := create(t, w, qcow(3)); v.Slot != 2 {
		t.Errorf("%+v", v)
	}
	mustBeClean(t, lun)
}

// TestCreate_withoutEncoder uses locks that can only write whole areas.
func TestCreate_withoutEncoder(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	newDomain(t, lun)
	o := testOptions()
	o.Locks = testLocks{}
	d, err := Open(deadline(t), []blockdev.Device{lun}, o)
	if err != nil {
		t.Fatal(err)
	}
	create(t, writer(t, d), qcow(1))
	mustBeClean(t, lun)
}
