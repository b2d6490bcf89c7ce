package domain

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

func rename(name string) VolumeEdit     { return VolumeEdit{Name: &name} }
func redescribe(text string) VolumeEdit { return VolumeEdit{Description: &text} }

func update(t *testing.T, w *Writer, n int, e VolumeEdit) Volume {
	t.Helper()
	v, err := w.Update(deadline(t), volID(n), e)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// onDisk is a volume as another host reads it.
func onDisk(t *testing.T, lun blockdev.Device, n int) Volume {
	t.Helper()
	v, ok := openDomain(t, lun).Volume(volID(n))
	if !ok {
		t.Fatalf("volume %d is not on disk", n)
	}
	return v
}

func TestWriter_update(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	w := writer(t, newDomain(t, lun))
	before := create(t, w, qcow(1))
	v := update(t, w, 1, redescribe(`for "web" <1> é`))
	if v.Name != before.Name || v.Description != `for "web" <1> é` || v.Epoch != 3 || v.Seq <= before.Seq || v.Generation != 1 {
		t.Fatalf("%+v", v)
	}
	v = update(t, w, 1, rename("new"))
	got := onDisk(t, lun, 1)
	if v.Epoch, v.Seq = 0, 0; got != v {
		t.Fatalf("on disk %+v, answered %+v", got, v)
	}
	got.Name, got.Description, got.Generation = before.Name, before.Description, before.Generation
	if before.Epoch, before.Seq = 0, 0; got != before {
		t.Errorf("something else has changed: %+v, was %+v", got, before)
	}
	again := update(t, w, 1, rename("new"))
	if again.Generation != v.Generation {
		t.Errorf("the same again is a change: %+v", again)
	}
	mustBeClean(t, lun)
}

func TestWriter_update_names(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	w := writer(t, newDomain(t, lun))
	for n := range 2 {
		create(t, w, qcow(n+1))
	}
	if _, err := w.Update(deadline(t), volID(1), rename("disk 2")); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a name that another volume has: %v", err)
	}
	update(t, w, 1, rename("a"))
	if _, err := w.Update(deadline(t), volID(2), rename("a")); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a name that was taken by a rename: %v", err)
	}
	update(t, w, 2, rename("disk 1")) // which is free again
	s := qcow(3)
	s.Name = "disk 2"
	create(t, w, s)
	s = qcow(4)
	s.Name = "a"
	if _, err := w.Create(deadline(t), s); !errors.Is(err, ErrNameTaken) {
		t.Errorf("creating with a name that was taken by a rename: %v", err)
	}
	if err := w.Delete(deadline(t), volID(1)); err != nil {
		t.Fatal(err)
	}
	create(t, w, s) // the name went with the volume
	mustBeClean(t, lun)
}

func TestWriter_update_refused(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	create(t, w, qcow(1))
	ovf := qcow(2)
	ovf.DiskType = "OVFS"
	create(t, w, ovf)
	for name, c := range map[string]struct {
		id   int
		edit VolumeEdit
		want error
	}{
		"nothing":        {1, VolumeEdit{}, ErrInvalid},
		"no such volume": {9, rename("x"), ErrNotFound},
		"line break":     {1, redescribe("a\nEOF"), ErrInvalid},
		"zero byte":      {1, rename("a\x00"), ErrInvalid},
		"not UTF-8":      {1, redescribe("\xff"), ErrInvalid},
		"long name":      {1, rename(strings.Repeat("n", 256)), ErrInvalid},
		"does not fit":   {1, redescribe(strings.Repeat("d", 250)), ErrInvalid},
		"OVF store":      {2, rename("x"), ErrConflict},
	} {
		if _, err := w.Update(deadline(t), volID(c.id), c.edit); !errors.Is(err, c.want) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v := onDisk(t, lun, 1); v.Name != "disk 1" || v.Description != "" || v.Generation != 0 {
		t.Errorf("it was changed: %+v", v)
	}
	if w.doubt != nil {
		t.Error(w.doubt)
	}
	update(t, w, 1, rename("x")) // no name was left reserved
}

// A create that is asked for again after somebody changed the volume still finds it, whatever it is called now.
func TestWriter_createAgainAfterUpdate(t *testing.T) {
	t.Parallel()
	w := writer(t, newDomain(t))
	create(t, w, qcow(1))
	update(t, w, 1, VolumeEdit{Name: new("other"), Description: new("text")})
	if v := create(t, w, qcow(1)); v.Name != "other" || v.Description != "text" {
		t.Errorf("%+v", v)
	}
	s := qcow(1)
	s.Capacity *= 2
	if _, err := w.Create(deadline(t), s); !errors.Is(err, ErrConflict) {
		t.Errorf("another request of the same id: %v", err)
	}
}

// Edits of many volumes are grouped with creations and deletions, one of a parent with that of its child.
func TestWriter_update_grouped(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	const n = 12
	for i := range n {
		create(t, w, qcow(i))
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := w.Update(deadline(t), volID(i), rename(fmt.Sprint("new ", i))); err != nil {
				t.Error(err)
			}
		})
		if i%3 == 0 {
			child := qcow(i)
			child.ID, child.Parent, child.Name = volID(100+i), volID(i), fmt.Sprint("new ", i)
			wg.Go(func() {
				_, err := w.Create(deadline(t), child) // the name may be too early: two volumes of an image may share it
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	disk := openDomain(t, lun)
	for _, v := range d.Volumes() {
		v.Epoch, v.Seq = 0, 0
		if got, _ := disk.Volume(v.ID); got != v {
			t.Errorf("in memory %+v, on disk %+v", v, got)
		}
	}
	for i := range n {
		v := onDisk(t, lun, i)
		if v.Name != fmt.Sprint("new ", i) || (v.VolType == Internal) != (i%3 == 0) {
			t.Errorf("%+v", v)
		}
	}
	mustBeClean(t, lun)
}

func TestWriter_update_takesTheLease(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	newDomain(t, lun)
	d, h := leased(t, lun)
	w := writer(t, d)
	create(t, w, qcow(1))
	h.elsewhere = volID(1)
	var held *VolumeHeldError
	if _, err := w.Update(deadline(t), volID(1), rename("x")); !errors.As(err, &held) || held.Holder != "h2" {
		t.Fatalf("a volume that another host works on: %v", err)
	}
	h.elsewhere = ""
	update(t, w, 1, rename("x"))
	h.lost = true
	if _, err := w.Update(deadline(t), volID(1), rename("y")); !errors.Is(err, blockdev.ErrLeaseLost) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("the volume's lease was lost before the write: %v", err)
	}
	h.lost = false
	if len(h.held) > 0 || w.doubt != nil || onDisk(t, lun, 1).Name != "x" {
		t.Errorf("held %v, doubt %v", h.held, w.doubt)
	}
}

// What else the engine keeps in the description stays, and what is no JSON becomes the name.
func TestEditDescription(t *testing.T) {
	t.Parallel()
	text := "t<"
	for old, want := range map[string]string{
		`{"DiskAlias":"a","DiskDescription":""}`:         `{"DiskAlias":"a","DiskDescription":"t<"}`,
		`{"DiskDescription":"x","DiskAlias":"a","Z":{}}`: `{"DiskAlias":"a","DiskDescription":"t<","Z":{}}`,
		`plain`:   `{"DiskAlias":"plain","DiskDescription":"t<"}`,
		``:        `{"DiskAlias":"","DiskDescription":"t<"}`,
		`{broken`: `{"DiskAlias":"{broken","DiskDescription":"t<"}`,
	} {
		got, err := editDescription(old, VolumeEdit{Description: &text})
		if err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", old, got, err, want)
		}
	}
}

// The one write may hang, and land later or never; its flush may fail. The writer says that it does not know, and after a
// refresh it does.
func TestWriter_update_unknownOutcome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault faulty.Fault
		lands bool
	}{
		"hangs and lands": {faulty.Fault{Ops: faulty.Write, Count: 1, Hang: true}, true},
		"hangs":           {faulty.Fault{Ops: faulty.Write, Count: 1, Hang: true}, false},
		"fails":           {faulty.Fault{Ops: faulty.Write, Count: 1, Err: errors.New("EIO")}, false},
		"flush fails":     {faulty.Fault{Ops: faulty.Flush, Count: 1, Err: errors.New("EIO")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := blockdev.NewMem(lunSize, 512)
			lun := faulty.New(mem)
			newDomain(t, mem)
			o := testOptions()
			o.IOTimeout = 200 * time.Millisecond
			d, err := Open(deadline(t), []blockdev.Device{lun}, o)
			if err != nil {
				t.Fatal(err)
			}
			w := writer(t, d)
			create(t, w, qcow(1))
			lun.Inject(c.fault)
			if _, err := w.Update(deadline(t), volID(1), rename("x")); !errors.Is(err, ErrOutcomeUnknown) {
				t.Fatalf("update: %v", err)
			}
			if v, _ := d.Volume(volID(1)); v.Name != "disk 1" {
				t.Errorf("shown although it is not known to be there: %+v", v)
			}
			if _, err := w.Create(deadline(t), qcow(3)); !errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("in doubt: %v", err)
			}
			if c.lands {
				lun.Release()
			} else {
				lun.Forget()
			}
			if _, err := w.Refresh(deadline(t)); err != nil {
				t.Fatal(err)
			}
			if v, _ := d.Volume(volID(1)); (v.Name == "x") != c.lands || v.Epoch != 0 {
				t.Errorf("%+v", v)
			}
			update(t, w, 1, rename("x"))
			mustBeClean(t, mem)
		})
	}
}
