package domain

import (
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
)

// The devices stand for the physical volumes in their order, whatever the order in which they were given.
func TestDomain_devicesOfGroup(t *testing.T) {
	t.Parallel()
	a, b := blockdev.NewMem(20*gib, 512).Rename("/dev/mapper/a"), blockdev.NewMem(20*gib, 512).Rename("/dev/mapper/b")
	newDomain(t, a, b)
	d := openDomain(t, b, a)
	if got := d.Devices(); len(got) != 2 || len(d.VG().PVs) != 2 || got[0] != blockdev.Device(a) || got[1] != blockdev.Device(b) {
		t.Errorf("%v", got)
	}
	if v := create(t, writer(t, d), qcow(1)); d.VG().LV(v.ID) == nil {
		t.Error("a new volume is not in the group")
	}
}
