package domain

import (
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

// A path that fails now and then makes no volume nameless; a slot that cannot be read for good makes one so, and not the others.
func TestOpen_slotReadErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		count int
		want  string
	}{"some": {6, StateOK}, "all": {0, StateUnreadable}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lun := faulty.New(blockdev.NewMem(lunSize, 512))
			d := newDomain(t, lun)
			w := writer(t, d)
			bad, good := create(t, w, qcow(1)), create(t, w, qcow(2))
			_ = w.Close()
			_, at, err := d.group.Locate("metadata", d.geometry().slotOffset(bad.Slot))
			if err != nil {
				t.Fatal(err)
			}
			lun.Inject(faulty.Fault{Ops: faulty.Read, Off: at, Len: slotSize, Count: c.count, Err: faulty.EIO})
			d = openDomain(t, lun)
			if v, _ := d.Volume(bad.ID); v.State != c.want {
				t.Errorf("it is %s (%s), want %s", v.State, v.Problem, c.want)
			}
			if v, _ := d.Volume(good.ID); v.State != StateOK || v.Name != good.Name {
				t.Errorf("the other one is %s (%s)", v.State, v.Problem)
			}
		})
	}
}
