package domain

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

// thin is a qcow2 volume of one extent that may grow to 11 GiB.
func thin(n int) VolumeSpec {
	s := qcow(n)
	s.Capacity, s.InitialSize = 10*gib, 100*mib
	return s
}

func extend(t *testing.T, w *Writer, n int, size int64) Volume {
	t.Helper()
	v, err := w.Extend(deadline(t), volID(n), size)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// slotBytes is the metadata slot of a volume.
func slotBytes(t *testing.T, d *Domain, slot int) []byte {
	t.Helper()
	dev, err := d.Device("metadata")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, slotSize)
	if err := dev.ReadAt(deadline(t), b, d.geometry().slotOffset(slot)); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWriter_extend(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	before := create(t, w, thin(1))
	slot := slotBytes(t, d, before.Slot)
	v := extend(t, w, 1, gib+1)
	if v.AllocatedBytes != gib+128*mib || v.Epoch != 3 || v.Seq <= before.Seq {
		t.Fatalf("%+v", v)
	}
	if n := len(d.group.VG().LV(v.ID).Segments); n != 1 {
		t.Errorf("%d segments, although the space behind it was free", n)
	}
	got := onDisk(t, lun, 1)
	want := before
	want.AllocatedBytes, want.Epoch, want.Seq = v.AllocatedBytes, 0, 0
	if got != want {
		t.Errorf("on disk %+v, want %+v", got, want)
	}
	if !bytes.Equal(slot, slotBytes(t, d, before.Slot)) {
		t.Error("the metadata slot has changed")
	}
	seqno := d.Info().Seqno
	for _, size := range []int64{v.AllocatedBytes, 1} {
		if again := extend(t, w, 1, size); again != v {
			t.Errorf("to %d once more: %+v", size, again)
		}
	}
	if d.Info().Seqno != seqno {
		t.Error("what is there already was committed again")
	}
	if v := extend(t, w, 1, 11*gib); v.AllocatedBytes != 11*gib {
		t.Errorf("to its maximum: %+v", v)
	}
	mustBeClean(t, lun)
}

func TestWriter_extend_refused(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	create(t, w, thin(1))
	create(t, w, VolumeSpec{ID: volID(2), Image: imgID(2), Name: "raw", Format: FormatRaw, Capacity: 200 * mib})
	for name, c := range map[string]struct {
		id   string
		size int64
		want error
	}{
		"no such volume":           {volID(9), gib, ErrNotFound},
		"special volume":           {"leases", 4 * gib, ErrNotFound},
		"nothing":                  {volID(1), 0, ErrInvalid},
		"negative":                 {volID(1), -1, ErrInvalid},
		"more than qcow2 can need": {volID(1), 11*gib + 1, ErrInvalid},
		"beyond all sense":         {volID(1), 1<<63 - 1, ErrInvalid},
		"raw beyond its size":      {volID(2), 256*mib + 1, ErrInvalid},
	} {
		if _, err := w.Extend(deadline(t), c.id, c.size); !errors.Is(err, c.want) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v, err := w.Extend(deadline(t), volID(2), 256*mib); err != nil || v.AllocatedBytes != 256*mib {
		t.Errorf("raw to the size that it has: %+v, %v", v, err)
	}
	if w.doubt != nil {
		t.Error(w.doubt)
	}
}

// What a volume needs must not wait for whoever uses it: no lease is taken.
func TestWriter_extend_inUse(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	newDomain(t, lun)
	d, h := leased(t, lun)
	w := writer(t, d)
	create(t, w, thin(1))
	h.elsewhere = volID(1)
	if v := extend(t, w, 1, gib); v.AllocatedBytes != gib {
		t.Errorf("%+v", v)
	}
}

func TestWriter_extend_withoutTheRight(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	gone := false
	w, _, err := d.BecomeWriter(deadline(t), openGuard{epoch: 3, closed: func() bool { return gone }})
	if err != nil {
		t.Fatal(err)
	}
	create(t, w, thin(1))
	gone = true
	if _, err := w.Extend(deadline(t), volID(1), gib); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("without the lease: %v", err)
	}
	if v := onDisk(t, lun, 1); v.AllocatedBytes != 128*mib {
		t.Errorf("%+v", v)
	}
}

// A full volume group refuses those that do not fit and serves the others of the same batch; what a delete frees is there for
// the next one.
func TestWriter_extend_outOfSpace(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(12*gib, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	for n := range 3 {
		create(t, w, thin(n))
	}
	free := d.Info().Free
	big := &request{target: volID(0), size: 128*mib + free + 1}
	small := &request{target: volID(1), size: 256 * mib}
	fresh := qcow(7)
	if err := fresh.normalise(); err != nil {
		t.Fatal(err)
	}
	made := &request{create: &fresh}
	w.run(deadline(t), []*request{big, small, made})
	var full *NoSpaceError
	if !errors.As(big.err, &full) || full.Volume != volID(0) || full.Needed != free+128*mib || full.Free != free ||
		!errors.Is(big.err, ErrFull) || !errors.Is(big.err, ErrNoSpace) {
		t.Errorf("%+v, %v", full, big.err)
	}
	if small.err != nil || small.vol.AllocatedBytes != 256*mib || made.err != nil {
		t.Errorf("%+v, %v; %v", small.vol, small.err, made.err)
	}
	extend(t, w, 0, 128*mib+free-256*mib) // all that is left
	if _, err := w.Extend(deadline(t), volID(2), gib); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("%v", err)
	}
	if err := w.Delete(deadline(t), volID(0)); err != nil {
		t.Fatal(err)
	}
	extend(t, w, 2, gib)
	mustBeClean(t, lun)
}

// Requests for one volume that come at once are one extension; the larger size counts, whatever the order.
func TestWriter_extend_sameVolumeAtOnce(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	create(t, w, thin(1))
	seqno := d.Info().Seqno
	reqs := []*request{{target: volID(1), size: gib}, {target: volID(1), size: 2 * gib}, {target: volID(1), size: 12 * gib}, {target: volID(1), size: 3 * gib / 2}}
	w.run(deadline(t), reqs)
	for i, r := range reqs {
		if i == 2 {
			if !errors.Is(r.err, ErrInvalid) {
				t.Errorf("too much: %v", r.err)
			}
			continue
		}
		if r.err != nil || r.vol.AllocatedBytes != 2*gib {
			t.Errorf("request %d: %+v, %v", i, r.vol, r.err)
		}
	}
	if got := d.Info().Seqno; got != seqno+1 {
		t.Errorf("%d commits", got-seqno)
	}
	mustBeClean(t, lun)
}

// A volume may grow in the batch that makes its first child, and one that is deleted in the batch does not.
func TestWriter_extend_withItsChildAndItsEnd(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	create(t, w, thin(1))
	create(t, w, thin(2))
	child := qcow(3)
	child.Image, child.Parent, child.Capacity = imgID(1), volID(1), 10*gib
	if err := child.normalise(); err != nil {
		t.Fatal(err)
	}
	born, grown := &request{create: &child}, &request{target: volID(1), size: gib}
	dead, late := &request{remove: volID(2)}, &request{target: volID(2), size: gib}
	w.run(deadline(t), []*request{born, grown, dead, late})
	if v := onDisk(t, lun, 1); born.err != nil || grown.err != nil || v.AllocatedBytes != gib || v.VolType != Internal {
		t.Errorf("%v, %v, %+v", born.err, grown.err, v)
	}
	if v, _ := d.Volume(volID(1)); v.AllocatedBytes != gib || v.VolType != Internal || grown.vol != v {
		t.Errorf("in memory %+v, answered %+v", v, grown.vol)
	}
	if _, there := d.Volume(volID(2)); dead.err != nil || there || !errors.Is(late.err, ErrNotFound) {
		t.Errorf("the volume that was deleted: %v, %v", dead.err, late.err)
	}
	mustBeClean(t, lun)
}

// Extensions of many volumes are grouped with creations, deletions and edits.
func TestWriter_extend_grouped(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	const n = 24
	for i := range n {
		create(t, w, thin(i))
	}
	seqno := d.Info().Seqno
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := w.Extend(deadline(t), volID(i), int64(i+2)*128*mib); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := w.Create(deadline(t), qcow(100+i)); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := w.Update(deadline(t), volID(i), redescribe(fmt.Sprint("text ", i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if commits := d.Info().Seqno - seqno; commits >= n {
		t.Errorf("%d commits", commits)
	}
	disk := openDomain(t, lun)
	for _, v := range d.Volumes() {
		v.Epoch, v.Seq = 0, 0
		if got, _ := disk.Volume(v.ID); got != v {
			t.Errorf("in memory %+v, on disk %+v", v, got)
		}
	}
	for i := range n {
		if v := onDisk(t, lun, i); v.AllocatedBytes != int64(i+2)*128*mib || v.Description != fmt.Sprint("text ", i) {
			t.Errorf("%+v", v)
		}
	}
	mustBeClean(t, lun)
}

// The write that commits may hang, and land later or never. The writer says that it does not know, and after a refresh it does.
func TestWriter_extend_unknownOutcome(t *testing.T) {
	t.Parallel()
	for name, lands := range map[string]bool{"lands": true, "is lost": false} {
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
			create(t, w, thin(1))
			lun.Inject(faulty.Fault{Ops: faulty.Write, Off: 4096, Len: 512, After: 1, Count: 1, Hang: true})
			if _, err := w.Extend(deadline(t), volID(1), gib); !errors.Is(err, ErrOutcomeUnknown) {
				t.Fatalf("extend: %v", err)
			}
			if v, _ := d.Volume(volID(1)); v.AllocatedBytes != 128*mib {
				t.Errorf("shown although it is not known to be there: %+v", v)
			}
			if lands {
				lun.Release()
			} else {
				lun.Forget()
			}
			if _, err := w.Refresh(deadline(t)); err != nil {
				t.Fatal(err)
			}
			if v, _ := d.Volume(volID(1)); (v.AllocatedBytes == gib) != lands || v.Epoch != 0 {
				t.Errorf("%+v", v)
			}
			extend(t, w, 1, gib+1) // which also brings up the metadata area that the commit did not reach
			mustBeClean(t, mem)
		})
	}
}
