package domain

import (
	"errors"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// A glance tells the same as opening the domain, but for what lies in the volumes' metadata; the metadata area fills as volumes come.
func TestGlance(t *testing.T) {
	t.Parallel()
	d := newDomain(t)
	used, limit := d.group.MetadataUse()
	if used <= 0 || used >= limit {
		t.Errorf("%d of %d bytes of metadata", used, limit)
	}
	w := writer(t, d)
	for n := range 3 {
		create(t, w, qcow(n))
	}
	if more, same := d.group.MetadataUse(); more <= used || same != limit {
		t.Errorf("after three volumes %d of %d bytes, before %d of %d", more, same, used, limit)
	}
	got, err := Glance(d.group.VG())
	want := d.Info()
	want.LUNs, want.FreeSlots, want.Volumes = nil, 0, 0
	if err != nil || got.UUID != want.UUID || got.Name != want.Name || got.Version != want.Version || got.Size != want.Size || got.Free != want.Free ||
		got.PoolUUID != want.PoolUUID || got.Role != want.Role || got.Seqno != want.Seqno || got.ExtentSize != want.ExtentSize {
		t.Errorf("%+v, want %+v, %v", got, want, err)
	}
	if _, err := Glance(&lvm2.VG{Name: "vg0", ExtentSize: 1}); !errors.Is(err, ErrNotDomain) {
		t.Errorf("any other volume group: %v", err)
	}
}
