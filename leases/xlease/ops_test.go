package xlease

import (
	"bytes"
	"errors"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

func TestVolume_badIndex(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at   int64
		put  string
		want error
	}{
		"magic":           {0, "\x00", ErrIndex},
		"version":         {5, "0002", ErrIndex},
		"no version":      {5, "abcd", ErrIndex},
		"lockspace":       {10, "\xd7\x90", ErrIndex},
		"other lockspace": {10, "9", ErrIndex},
		"time":            {59, "x", ErrIndex},
		"updating":        {70, "u", ErrUpdating},
		"unknown flag":    {70, "\x00", ErrUpdating},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newVolume(t, leases.Geometry512, 3)
			b.mem.SetBytes(b.indexOffset()+c.at, []byte(c.put))
			ctx := testutil.Deadline(t)
			_, lookup := b.Lookup(ctx, idOf(1))
			_, _, add := b.Add(ctx, idOf(1))
			_, remove := b.Remove(ctx, idOf(1))
			_, list := b.List(ctx, b.hosts)
			for what, err := range map[string]error{"lookup": lookup, "add": add, "remove": remove, "list": list} {
				if !errors.Is(err, c.want) {
					t.Errorf("%s: %v, want %v", what, err, c.want)
				}
			}
		})
	}
}

// Padding and the newline are written and never looked at.
func TestVolume_padding(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 3)
	for _, at := range []int64{4, 9, 58, 69, 71, 510, 511} {
		b.mem.SetBytes(b.indexOffset()+at, []byte{'x'})
	}
	b.add(idOf(1))
}

func TestNew_tooSmall(t *testing.T) {
	t.Parallel()
	mem := blockdev.NewMem(mib+IndexSize-512, 512)
	if _, err := New(Config{Device: mem, Lockspace: testSpace, Geometry: leases.Geometry512}); !errors.Is(err, ErrTooSmall) {
		t.Errorf("an index that is cut short: %v", err)
	}
	if _, err := New(Config{Device: blockdev.NewMem(8*mib, 4096), Lockspace: testSpace, Geometry: leases.Geometry512}); !errors.Is(err, leases.ErrGeometry) {
		t.Errorf("sectors of 512 bytes on a device with 4096: %v", err)
	}
}

func TestVolume_Add_again(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 3)
	b.add(idOf(1))
	before := b.index()
	rec, made, err := b.Add(testutil.Deadline(t), idOf(1))
	if err != nil || made || rec.N != 0 || !bytes.Equal(before, b.index()) {
		t.Errorf("adding what is there: %+v, made %t, %v", rec, made, err)
	}
}

func TestVolume_Add_badID(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 3)
	for _, id := range []string{"", "lease", idOf(1) + "x", "{" + idOf(1)[:34] + "}", "urn:uuid:" + idOf(1), "zzzzzzzz-1111-4111-8111-111111111111"} {
		if _, _, err := b.Add(testutil.Deadline(t), id); !errors.Is(err, ErrID) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := b.Remove(testutil.Deadline(t), ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("removing nothing: %v", err)
	}
}

func TestVolume_Add_firstFreePlace(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 4)
	b.add(idOf(1), idOf(2), idOf(3))
	if _, err := b.Remove(testutil.Deadline(t), idOf(2)); err != nil {
		t.Fatal(err)
	}
	if got := b.resource(1); got != "" {
		t.Errorf("the place of a removed lease holds %q", got)
	}
	b.add(idOf(4))
	if rec, err := b.Lookup(testutil.Deadline(t), idOf(4)); err != nil || rec.N != 1 || b.resource(1) != idOf(4) {
		t.Errorf("%+v, %v, resource %q", rec, err, b.resource(1))
	}
}

// The volume ends before the index does.
func TestVolume_Add_full(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 2)
	b.add(idOf(1), idOf(2))
	before := b.index()
	if _, _, err := b.Add(testutil.Deadline(t), idOf(3)); !errors.Is(err, ErrFull) || !bytes.Equal(before, b.index()) {
		t.Errorf("%v", err)
	}
	if b.Capacity() != 2 {
		t.Errorf("capacity %d", b.Capacity())
	}
}

// An index that is full although the volume has room, and what a big volume can hold.
func TestVolume_Add_fullIndex(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, MaxRecords+7)
	if b.Capacity() != MaxRecords {
		t.Fatalf("capacity %d", b.Capacity())
	}
	for n := range MaxRecords {
		rec := make([]byte, recordSize)
		encodeRecord(rec, idOf(1000+n), resourceOffset(n, mib))
		b.setRecord(n, rec)
	}
	if _, _, err := b.Add(testutil.Deadline(t), idOf(1)); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	rec, err := b.Lookup(testutil.Deadline(t), idOf(1000+MaxRecords-1))
	if err != nil || rec.Offset != resourceOffset(MaxRecords-1, mib) {
		t.Errorf("the last one: %+v, %v", rec, err)
	}
}

// A free record is only one that is free to the last byte.
func TestVolume_Add_onlyExactlyFreeRecords(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 3)
	b.setRecord(0, make([]byte, recordSize))
	b.add(idOf(1))
	if rec, _ := b.Lookup(testutil.Deadline(t), idOf(1)); rec.N != 1 {
		t.Errorf("record %d was taken", rec.N)
	}
}

func TestVolume_Add_failedResource(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 3)
	bad := faulty.New(b.mem)
	bad.Inject(faulty.Fault{Ops: faulty.Write, Off: 3 * mib, Len: mib, Err: faulty.EIO})
	b.on(bad, leases.Geometry512)
	before := b.index()
	if _, _, err := b.Add(testutil.Deadline(t), idOf(1)); !errors.Is(err, faulty.EIO) || !bytes.Equal(before, b.index()) {
		t.Errorf("%v, index changed: %t", err, !bytes.Equal(before, b.index()))
	}
	bad.Heal()
	b.add(idOf(1))
}

func TestVolume_Remove_failedResource(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 3)
	b.add(idOf(1))
	bad := faulty.New(b.mem)
	bad.Inject(faulty.Fault{Ops: faulty.Write, Off: 3 * mib, Len: mib, Err: faulty.EIO})
	b.on(bad, leases.Geometry512)
	if _, err := b.Remove(testutil.Deadline(t), idOf(1)); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := b.Lookup(testutil.Deadline(t), idOf(1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("after removing: %v", err)
	}
	bad.Heal()
	b.add(idOf(2))
	if got := b.resource(0); got != idOf(2) {
		t.Errorf("the place holds %q", got)
	}
}

// What an old VDSM left half done.
func TestVolume_updatingRecord(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 3)
	b.add(idOf(1), idOf(2))
	rec := make([]byte, recordSize)
	encodeRecord(rec, idOf(2), resourceOffset(1, mib))
	rec[61] = flagUpdating
	b.setRecord(1, rec)
	ctx := testutil.Deadline(t)
	if _, err := b.Lookup(ctx, idOf(2)); !errors.Is(err, ErrNotFound) {
		t.Errorf("lookup: %v", err)
	}
	x, err := b.Load(ctx)
	if err != nil || len(x.Records()) != 2 || !x.Records()[1].Updating {
		t.Errorf("dump: %+v, %v", x.Records(), err)
	}
	clone := b.mem.Clone()
	b.add(idOf(2))
	if rec, err := b.Lookup(ctx, idOf(2)); err != nil || rec.N != 1 {
		t.Errorf("adding it again: %+v, %v", rec, err)
	}
	b.mem = clone
	b.on(clone, leases.Geometry512)
	if _, err := b.Remove(ctx, idOf(2)); err != nil || !bytes.Equal(b.index()[headSize+recordSize:][:recordSize], freeRecord) {
		t.Errorf("removing it: %v", err)
	}
}

// The position of a resource follows from the number of its record; the digits are for people.
func TestVolume_offsetIsComputed(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 3)
	b.add(idOf(1))
	rec := make([]byte, recordSize)
	encodeRecord(rec, idOf(1), 12345)
	b.setRecord(0, rec)
	if got, err := b.Lookup(testutil.Deadline(t), idOf(1)); err != nil || got.Offset != 3*mib {
		t.Errorf("%+v, %v", got, err)
	}
}

// A record that cannot be read is neither found nor overwritten.
func TestVolume_unreadableRecord(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 3)
	b.add(idOf(1))
	b.mem.SetBytes(b.indexOffset()+headSize+49, []byte("x"))
	ctx := testutil.Deadline(t)
	_, lookup := b.Lookup(ctx, idOf(1))
	_, _, add := b.Add(ctx, idOf(1))
	if !errors.Is(lookup, ErrIndex) || !errors.Is(add, ErrIndex) {
		t.Errorf("lookup %v, add %v", lookup, add)
	}
	x, err := b.Load(ctx)
	if err != nil || len(x.Records()) != 0 {
		t.Errorf("dump: %v, %v", x.Records(), err)
	}
}

// Every operation reads the index anew, so that a host sees what the SPM changed.
func TestVolume_nothingIsCached(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 3)
	other, err := New(Config{Device: b.mem, Lockspace: testSpace, Geometry: leases.Geometry512, Now: atGoldenTime})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		b.add(idOf(1))
		if _, err := other.Lookup(testutil.Deadline(t), idOf(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Remove(testutil.Deadline(t), idOf(1)); err != nil {
			t.Fatal(err)
		}
	}
}

// With 4096-byte sectors the first block holds the head and 56 records; both must survive the change of one.
func TestVolume_4KSectorHoldsHeadAndRecords(t *testing.T) {
	t.Parallel()
	geo := leases.Geometry{SectorSize: 4096, AlignSize: mib}
	b := newVolume(t, geo, 60)
	for n := range 60 {
		b.add(idOf(1000 + n))
	}
	rec := faulty.NewRecorder(b.mem)
	b.on(rec, geo)
	for _, n := range []int{0, 55, 56} {
		if _, err := b.Remove(testutil.Deadline(t), idOf(1000+n)); err != nil {
			t.Fatal(err)
		}
	}
	x, err := b.Load(testutil.Deadline(t))
	if err != nil || len(x.Records()) != 57 || x.Modified() != atGoldenTime() {
		t.Fatalf("%d records, %v", len(x.Records()), err)
	}
	for _, e := range rec.Log() {
		if e.Op == faulty.Write && e.Off < 2*mib && (e.Len != 4096 || e.Off%4096 != 0) {
			t.Errorf("a write of %d bytes at %d to the index", e.Len, e.Off)
		}
	}
}
