package domain

import (
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// TestCheck plants each inconsistency and expects exactly its finding.
func TestCheck(t *testing.T) {
	t.Parallel()
	child := qcow(1)
	child.ID, child.Parent = volID(2), volID(1)
	retag := func(id string, add, del string) func(*testing.T, *Domain) {
		return func(t *testing.T, d *Domain) {
			plant(t, d, func(tx *lvm2.Tx) error { return tx.ChangeLVTags(id, []string{add}, []string{del}) })
		}
	}
	for name, c := range map[string]struct {
		plant func(t *testing.T, d *Domain)
		want  []string // pieces of the findings' texts
	}{
		"nothing":                {func(*testing.T, *Domain) {}, nil},
		"shared slot":            {retag(volID(3), "MD_1", "MD_3"), []string{"shared by", "describes a volume of image", "lease in slot 1"}},
		"slot too high":          {retag(volID(3), "MD_1948", "MD_3"), []string{"has no lease", "never written"}},
		"slot not number":        {retag(volID(3), "MD_x", "MD_3"), []string{"is no slot"}},
		"slot zero":              {retag(volID(3), "MD_0", "MD_3"), []string{"is no slot"}},
		"two slots":              {retag(volID(3), "MD_9", "none"), []string{"2 MD_ tags", "lease in slot 9"}},
		"no slot":                {retag(volID(3), "none", "MD_3"), []string{"no MD_ tag"}},
		"no image":               {retag(volID(3), "none", "IU_"+imgID(3)), []string{"no IU_ tag"}},
		"stale parent tag":       {retag(volID(2), "PU_"+NilUUID, "PU_"+volID(1)), []string{"which wins"}},
		"slot beyond the volume": {retag(volID(3), "MD_900000", "MD_3"), []string{"has no lease", "beyond the end"}},
		"damaged slot":           {func(t *testing.T, d *Domain) { putSlot(t, d, 3, []byte("GEN=x")) }, []string{"corrupt"}},
		"cleared slot":           {func(t *testing.T, d *Domain) { putSlot(t, d, 3, []byte("NONE=####\nEOF\n")) }, []string{"cleared"}},
		"unknown word": {func(t *testing.T, d *Domain) {
			putSlot(t, d, 3, slotText(t, qcow(3), 1, func(m *slotMeta) { m.volType = "TWIG" }))
		}, []string{"VOLTYPE"}},
		"parent missing": {func(t *testing.T, d *Domain) {
			plant(t, d, func(tx *lvm2.Tx) error { return tx.RemoveLV(volID(1)) })
		}, []string{"is missing"}},
		"parent marked leaf": {func(t *testing.T, d *Domain) { putSlot(t, d, 1, slotText(t, qcow(1), 1, nil)) }, []string{"marked leaf", "2 leaves"}},
		"internal without child": {func(t *testing.T, d *Domain) {
			putSlot(t, d, 3, slotText(t, qcow(3), 1, func(m *slotMeta) { m.volType = "INTERNAL" }))
		}, []string{"no child"}},
		"raw larger than its LV": {func(t *testing.T, d *Domain) {
			putSlot(t, d, 3, slotText(t, qcow(3), 1, func(m *slotMeta) { m.format, m.alloc, m.capacity = "RAW", "PREALLOCATED", 10*gib }))
		}, []string{"raw volume of"}},
		"lease of another": {func(t *testing.T, d *Domain) { putLease(t, d, 3, volID(77)) }, []string{"lease in slot 3"}},
		"lease with stale blocks": {func(t *testing.T, d *Domain) {
			dev, off, _ := d.VolumeResource(3)
			if err := dev.WriteAt(deadline(t), pad("x", 512), off+4096); err != nil {
				t.Fatal(err)
			}
		}, []string{"stale bytes"}},
		"SPM lease": {func(t *testing.T, d *Domain) {
			dev, off, _ := d.SPMResource()
			if err := dev.WriteZeroes(deadline(t), off, mib); err != nil {
				t.Fatal(err)
			}
		}, []string{"SPM lease"}},
		"index of leases": {func(t *testing.T, d *Domain) {
			dev, _ := d.group.Device("xleases")
			if err := dev.WriteAt(deadline(t), pad("INDEX of another", 4096), mib); err != nil {
				t.Fatal(err)
			}
		}, []string{"is not that of"}},
		"leftovers": {func(t *testing.T, d *Domain) {
			plantLV(t, d, volID(8), tagInitializing)
			plantLV(t, d, volID(9), "IU__remove_me_"+imgID(9))
		}, []string{"creation was not finished", "deletion was not finished"}},
		"special volume missing": {func(t *testing.T, d *Domain) {
			plant(t, d, func(tx *lvm2.Tx) error { return tx.RemoveLV("inbox") })
		}, []string{"special volume inbox", "special volume is missing"}},
		"special volume too small": {func(t *testing.T, d *Domain) {
			plant(t, d, func(tx *lvm2.Tx) error {
				if err := tx.RemoveLV("xleases"); err != nil {
					return err
				}
				_, err := tx.CreateLV("xleases", 128*mib, lvm2.LVOptions{})
				return err
			})
		}, []string{"special volume xleases", "at least"}},
		"same name twice": {func(t *testing.T, d *Domain) {
			s := qcow(3)
			s.Name = "disk 1"
			putSlot(t, d, 3, slotText(t, s, 1, nil))
		}, []string{"is that of the images"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lun := blockdev.NewMem(lunSize, 512)
			d := newDomain(t, lun)
			w := writer(t, d)
			create(t, w, qcow(1))
			create(t, w, child)
			create(t, w, qcow(3))
			_ = w.Close()
			c.plant(t, d)
			o := testOptions()
			o.Tolerant = true
			d, err := Open(deadline(t), []blockdev.Device{lun}, o)
			if err != nil {
				t.Fatal(err)
			}
			findings, err := Check(deadline(t), d)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !mentions(findings, want) {
					t.Errorf("nothing about %q", want)
				}
			}
			if len(c.want) == 0 && len(findings) > 0 || len(findings) > len(c.want)+1 || t.Failed() {
				t.Errorf("found %v", findings)
			}
		})
	}
}

func mentions(findings []Finding, what string) bool {
	for _, f := range findings {
		if strings.Contains(f.What, what) && f.Repair != "" && f.Where != "" {
			return true
		}
	}
	return false
}
