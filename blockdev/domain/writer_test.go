package domain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/blockdev/qcow2"
)

func TestWriter_create(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	w := writer(t, newDomain(t, lun))
	s := qcow(1)
	s.Description, s.Capacity = "what for", 10*gib+1
	v := create(t, w, s)
	if v.Slot != 1 || v.AllocatedBytes != 2560*mib || v.Capacity != 10*gib+4096 || v.Epoch != 3 || v.Seq != 1 || v.CreatedUnix != 1700000000 {
		t.Errorf("%+v", v)
	}
	raw := VolumeSpec{ID: volID(2), Image: imgID(2), Name: "raw", Format: FormatRaw, Capacity: 200 * mib}
	if r := create(t, w, raw); r.Capacity != 256*mib || r.Slot != 2 || r.Seq != 2 {
		t.Errorf("%+v", r)
	}
	d := openDomain(t, lun)
	vols := d.Volumes()
	if len(vols) != 2 {
		t.Fatalf("%+v", vols)
	}
	v.Epoch, v.Seq = 0, 0
	if vols[0] != v {
		t.Errorf("on disk %+v\nreturned %+v", vols[0], v)
	}
	dev, err := d.Device(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := qcow2.ReadHeader(deadline(t), dev); err != nil || h.Size != v.Capacity {
		t.Errorf("%+v %v", h, err)
	}
	mustBeClean(t, lun)
}

func TestWriter_idempotentCreate(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	w := writer(t, newDomain(t, lun))
	v := create(t, w, qcow(1))
	if again := create(t, w, qcow(1)); again != v {
		t.Errorf("%+v, first %+v", again, v)
	}
	raw := VolumeSpec{ID: volID(2), Image: imgID(2), Name: "raw", Format: FormatRaw, Capacity: 200 * mib}
	r := create(t, w, raw)
	if again := create(t, w, raw); again != r {
		t.Errorf("%+v, first %+v", again, r)
	}
	for name, change := range map[string]func(*VolumeSpec){
		"size":  func(s *VolumeSpec) { s.Capacity += gib },
		"name":  func(s *VolumeSpec) { s.Name = "other" },
		"image": func(s *VolumeSpec) { s.Image = imgID(7); s.Name = "other" },
		"raw":   func(s *VolumeSpec) { s.Format, s.Allocation = FormatRaw, Preallocated },
	} {
		s := qcow(1)
		change(&s)
		if _, err := w.Create(deadline(t), s); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// the reply was lost with the process: a new one gives the same answer
	w2 := writer(t, openDomain(t, lun))
	if again := create(t, w2, qcow(1)); again.Slot != v.Slot || again.ID != v.ID {
		t.Errorf("%+v, first %+v", again, v)
	}
}

func TestWriter_refusedCreate(t *testing.T) {
	t.Parallel()
	w := writer(t, newDomain(t))
	create(t, w, qcow(1))
	for name, c := range map[string]struct {
		change func(*VolumeSpec)
		want   error
	}{
		"name taken":  {func(s *VolumeSpec) { s.Name = "disk 1" }, ErrNameTaken},
		"zero":        {func(s *VolumeSpec) { s.Capacity = 0 }, ErrInvalid},
		"negative":    {func(s *VolumeSpec) { s.Capacity = -1 }, ErrInvalid},
		"absurd":      {func(s *VolumeSpec) { s.Capacity = 1 << 62 }, ErrInvalid},
		"initial":     {func(s *VolumeSpec) { s.InitialSize = -1 }, ErrInvalid},
		"big initial": {func(s *VolumeSpec) { s.InitialSize = 1 << 62 }, ErrInvalid},
		"id":          {func(s *VolumeSpec) { s.ID = "metadata" }, ErrInvalid},
		"image":       {func(s *VolumeSpec) { s.Image = NilUUID }, ErrInvalid},
		"format":      {func(s *VolumeSpec) { s.Format = "vmdk" }, ErrInvalid},
		"sparse raw":  {func(s *VolumeSpec) { s.Format, s.Allocation = FormatRaw, Sparse }, ErrInvalid},
		"line break":  {func(s *VolumeSpec) { s.Name = "a\nCAP=1" }, ErrInvalid},
		"utf8":        {func(s *VolumeSpec) { s.Name = "a\xff" }, ErrInvalid},
		"long":        {func(s *VolumeSpec) { s.Name = strings.Repeat("x", 250) }, ErrInvalid},
		"too large":   {func(s *VolumeSpec) { s.Format, s.Capacity = FormatRaw, 100*gib }, ErrFull},
		"no parent":   {func(s *VolumeSpec) { s.Parent = volID(99) }, ErrNotFound},
		"own parent":  {func(s *VolumeSpec) { s.Parent = s.ID }, ErrInvalid},
		"other image": {func(s *VolumeSpec) { s.Parent = volID(1) }, ErrConflict},
		"disk type":   {func(s *VolumeSpec) { s.DiskType = "DA=A" }, ErrInvalid},
	} {
		s := qcow(2)
		c.change(&s)
		if _, err := w.Create(deadline(t), s); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v := create(t, w, qcow(2)); v.Slot != 2 {
		t.Errorf("a refused request kept slot: %+v", v)
	}
}

func TestWriter_chain(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	w := writer(t, newDomain(t, lun))
	create(t, w, qcow(1))
	top := qcow(1)
	top.ID, top.Parent = volID(2), volID(1)
	create(t, w, top)
	if p, _ := w.d.Volume(volID(1)); p.VolType != Internal {
		t.Errorf("parent %+v", p)
	}
	second := top
	second.ID = volID(3)
	if _, err := w.Create(deadline(t), second); !errors.Is(err, ErrConflict) {
		t.Errorf("second child: %v", err)
	}
	if err := w.Delete(deadline(t), volID(1)); !errors.Is(err, ErrHasChildren) {
		t.Errorf("deleting a parent: %v", err)
	}
	mustBeClean(t, lun)
	if err := w.Delete(deadline(t), volID(2)); err != nil {
		t.Fatal(err)
	}
	if p, _ := openDomain(t, lun).Volume(volID(1)); p.VolType != Leaf {
		t.Errorf("parent %+v", p)
	}
	mustBeClean(t, lun)
}

func TestWriter_delete(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	free := d.Info().Free
	for n := 1; n <= 3; n++ {
		create(t, w, qcow(n))
	}
	gone, err := w.Remove(deadline(t), volID(2))
	if err != nil || gone.Epoch != 3 || gone.Seq <= 3 {
		t.Fatalf("%+v %v", gone, err)
	}
	if err := w.Delete(deadline(t), volID(2)); !errors.Is(err, ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	// the slot's lease is used by somebody before it is given away again: nothing of it may survive
	leases, _ := d.group.Device("leases")
	if err := leases.WriteAt(deadline(t), bytes.Repeat([]byte{0xaa}, 8192), 102*mib+4096); err != nil {
		t.Fatal(err)
	}
	if v := create(t, w, qcow(4)); v.Slot != 2 {
		t.Errorf("the free slot was not used: %+v", v)
	}
	mustBeClean(t, lun)
	for _, n := range []int{1, 3, 4} {
		if err := w.Delete(deadline(t), volID(n)); err != nil {
			t.Fatal(err)
		}
	}
	if got := openDomain(t, lun).Info().Free; got != free {
		t.Errorf("%d bytes free, %d before", got, free)
	}
}

func TestWriter_full(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(512*gib, 512)
	w := writer(t, newDomain(t, lun))
	errs := make([]error, MaxSlot)
	var wg sync.WaitGroup
	for n := range MaxSlot {
		wg.Go(func() { _, errs[n] = w.Create(deadline(t), qcow(n)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Create(deadline(t), qcow(MaxSlot)); !errors.Is(err, ErrFull) {
		t.Errorf("volume 1948: %v", err)
	}
	mustBeClean(t, lun)
	start := time.Now()
	_ = w.Close()
	d := openDomain(t, lun)
	opened := time.Since(start)
	writer(t, d)
	t.Logf("%d volumes: open %v, with recovery %v", MaxSlot, opened, time.Since(start))
}

// TestWriter_grouped has many callers create and delete at once, some of them badly.
func TestWriter_grouped(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	w := writer(t, d)
	seq := d.group.VG().Seqno
	const callers = 64
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			s := qcow(n)
			if n%8 == 0 {
				s.Capacity, s.Format = 200*gib, FormatRaw // never fits
			}
			_, err := w.Create(deadline(t), s)
			if (n%8 == 0) != errors.Is(err, ErrFull) || n%8 != 0 && err != nil {
				t.Errorf("%d: %v", n, err)
			}
			if n%8 == 1 {
				if err := w.Delete(deadline(t), s.ID); err != nil {
					t.Errorf("%d: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(d.Volumes()); n != callers*6/8 {
		t.Errorf("%d volumes", n)
	}
	if n := d.group.VG().Seqno - seq; n > callers/2 {
		t.Errorf("%d commits for %d requests", n, callers)
	}
	seen := map[uint64]bool{}
	for _, v := range d.Volumes() {
		if seen[v.Seq] || v.Seq == 0 {
			t.Errorf("sequence number %d twice", v.Seq)
		}
		seen[v.Seq] = true
	}
	mustBeClean(t, lun)
}

func TestWriter_sameIDAtOnce(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	w := writer(t, newDomain(t, lun))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if v, err := w.Create(deadline(t), qcow(1)); err != nil || v.Slot != 1 {
				t.Errorf("%+v %v", v, err)
			}
		})
	}
	wg.Wait()
	mustBeClean(t, lun)
}

func TestWriter_leaseLost(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	lost := false
	w, _, err := d.BecomeWriter(deadline(t), openGuard{epoch: 1, closed: func() bool { return lost }})
	if err != nil {
		t.Fatal(err)
	}
	create(t, w, qcow(1))
	lost = true
	if _, err := w.Create(deadline(t), qcow(2)); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("create: %v", err)
	}
	if err := w.Delete(deadline(t), volID(1)); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("delete: %v", err)
	}
	_ = w.Close()
	if _, err := w.Create(deadline(t), qcow(2)); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if v := openDomain(t, lun).Volumes(); len(v) != 1 {
		t.Errorf("%v", v)
	}
}

// TestWriter_oneMemberFails injects an error into the first bytes of one volume of a batch.
func TestWriter_oneMemberFails(t *testing.T) {
	t.Parallel()
	mem := blockdev.NewMem(lunSize, 512)
	lun := faulty.New(mem)
	d := newDomain(t, lun)
	w := writer(t, d)
	create(t, w, qcow(0))
	_, at, err := d.group.Locate(volID(0), 0)
	if err != nil {
		t.Fatal(err)
	}
	bad := at + 5*128*mib // the LV of the fifth volume behind it
	lun.Inject(faulty.Fault{Ops: faulty.Write, Off: bad, Len: 512, Count: 1, Err: faulty.EIO})
	var mu sync.Mutex
	failed := 0
	var wg sync.WaitGroup
	for n := 1; n <= 16; n++ {
		wg.Go(func() {
			if _, err := w.Create(deadline(t), qcow(n)); err != nil {
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n := len(d.Volumes()); failed != 1 || n != 16 {
		t.Errorf("%d failed, %d volumes", failed, n)
	}
	mustBeClean(t, mem)
}

// TestWriter_unknownOutcome lets the committing write hang, and refreshes in both worlds.
func TestWriter_unknownOutcome(t *testing.T) {
	t.Parallel()
	for _, lands := range []bool{true, false} {
		t.Run(fmt.Sprint("lands ", lands), func(t *testing.T) {
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
			// The second write to an area's header is the one that commits; the other area comes after it.
			lun.Inject(faulty.Fault{Ops: faulty.Write, Off: 4096, Len: 512, After: 1, Count: 1, Hang: true})
			if _, err := w.Create(deadline(t), qcow(2)); !errors.Is(err, ErrOutcomeUnknown) {
				t.Fatalf("create: %v", err)
			}
			if _, err := w.Create(deadline(t), qcow(3)); !errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("in doubt: %v", err)
			}
			if _, err := w.Refresh(deadline(t)); !errors.Is(err, ErrStalled) {
				t.Errorf("refresh while the write may land: %v", err)
			}
			if lands {
				lun.Release()
			} else {
				lun.Forget()
			}
			if _, err := w.Refresh(deadline(t)); err != nil {
				t.Fatal(err)
			}
			_, there := d.Volume(volID(2))
			if there != lands {
				t.Errorf("there: %v", there)
			}
			create(t, w, qcow(2))
			create(t, w, qcow(3))
			mustBeClean(t, mem)
		})
	}
}

func TestWriter_callerGivesUp(t *testing.T) {
	t.Parallel()
	w := writer(t, newDomain(t))
	block, entered := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = w.q.submit(context.Background(), &request{alone: func(context.Context) error { close(entered); <-block; return nil }})
	})
	<-entered
	ctx, cancel := context.WithCancel(deadline(t))
	cancel()
	if _, err := w.Create(ctx, qcow(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(block)
	wg.Wait()
	if _, ok := w.d.Volume(volID(1)); ok {
		t.Error("a request that was withdrawn was carried out")
	}
	create(t, w, qcow(1))
}
