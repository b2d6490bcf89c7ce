package lvm2

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
)

func TestTx_refusesBadInput(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := smallGroup(t, ctx, newMem())
	tx := g.Begin()
	if _, err := tx.CreateLV("here", 1, LVOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "-a", ".", "..", "a b", "a/b", "ü", "pvmove1", "snapshotx", "x_tdata", "pv0", "pv12", strings.Repeat("n", 128), strings.Repeat("-", 70) + "a"} {
		if _, err := tx.CreateLV(name, 1, LVOptions{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for _, size := range []int64{0, -1, -1 << 62} {
		if _, err := tx.CreateLV("a", size, LVOptions{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	for _, tag := range []string{"", "a b", "ü", "a\nb", "\"", "@x", strings.Repeat("t", 1025)} {
		if _, err := tx.CreateLV("a", 1, LVOptions{Tags: []string{tag}}); !errors.Is(err, ErrInvalid) {
			t.Errorf("tag %q: %v", tag, err)
		}
		if err := tx.AddVGTags(tag); !errors.Is(err, ErrInvalid) {
			t.Errorf("group tag %q: %v", tag, err)
		}
	}
	if _, err := tx.CreateLV("here", 1, LVOptions{}); !errors.Is(err, ErrExists) {
		t.Errorf("same name: %v", err)
	}
	if _, err := tx.CreateLV("a", 1, LVOptions{ID: tx.VG().LV("here").ID}); !errors.Is(err, ErrExists) {
		t.Errorf("same id: %v", err)
	}
	if _, err := tx.CreateLV("a", 1<<40, LVOptions{}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("too big: %v", err)
	}
	if _, err := tx.ExtendLV("here", 1<<62); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNoSpace) {
		t.Errorf("extend absurdly: %v", err)
	}
	if err := tx.RemoveLV("gone"); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove: %v", err)
	}
	if got := len(tx.VG().LVs); got != 1 || len(g.VG().LVs) != 0 {
		t.Errorf("%d volumes in the transaction, %d in the group", got, len(g.VG().LVs))
	}
}

func TestTx_rename(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := smallGroup(t, ctx, newMem())
	tx := g.Begin()
	old, err := tx.CreateLV("old", smallExtent, LVOptions{Tags: []string{"T"}})
	if err != nil {
		t.Fatal(err)
	}
	lv, err := tx.RenameLV("old", "new")
	if err != nil || lv.ID != old.ID || !lv.HasTag("T") || tx.VG().LV("old") != nil {
		t.Fatalf("renamed: %+v %v", lv, err)
	}
	if _, err := tx.RenameLV("new", "new"); !errors.Is(err, ErrExists) {
		t.Errorf("rename to itself: %v", err)
	}
	if err := g.Commit(ctx, tx, nil, "rename"); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, ctx, g)
}

func TestTx_allocation(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := smallGroup(t, ctx, newMem().Rename("a"), newMem().Rename("b"))
	per := g.VG().PVs[0].PECount
	tx := g.Begin()
	create := func(name string, extents int64, o LVOptions) *LV {
		t.Helper()
		lv, err := tx.CreateLV(name, extents*smallExtent, o)
		if err != nil {
			t.Fatal(err)
		}
		return lv
	}
	at := func(lv *LV) (out []int64) {
		for _, s := range lv.Segments {
			out = append(out, int64(s.Areas[0].PV), s.Areas[0].StartPE, s.ExtentCount)
		}
		return out
	}
	want := func(what string, lv *LV, place ...int64) {
		t.Helper()
		if got := at(lv); !slices.Equal(got, place) {
			t.Errorf("%s at %v, want %v", what, got, place)
		}
	}
	want("first", create("l1", 4, LVOptions{}), 0, 0, 4)
	create("l2", 2, LVOptions{})
	create("l3", 4, LVOptions{})
	create("l4", 3, LVOptions{})
	create("l5", 4, LVOptions{})
	for _, name := range []string{"l2", "l4"} {
		if err := tx.RemoveLV(name); err != nil {
			t.Fatal(err)
		}
	}
	want("best fit", create("l6", 2, LVOptions{}), 0, 4, 2)
	want("placed", create("l7", 3, LVOptions{Place: &Place{PV: 1, Start: 7}}), 1, 7, 3)
	want("on a device", create("l8", 8, LVOptions{Place: &Place{PV: 1, Start: -1}}), 1, 10, 8)
	grown, err := tx.ExtendLV("l3", 9*smallExtent)
	if err != nil {
		t.Fatal(err)
	}
	want("grown", grown, 0, 6, 7, 0, 17, 2)
	if _, err := tx.CreateLV("big", (per+1)*smallExtent, LVOptions{Contiguous: true}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("contiguous beyond a device: %v", err)
	}
	rest := tx.VG().FreeExtents()
	if lv := create("rest", rest, LVOptions{}); len(lv.Segments) < 3 || tx.VG().FreeExtents() != 0 {
		t.Errorf("rest is %v, %d left", at(lv), tx.VG().FreeExtents())
	}
	if _, err := tx.ExtendLV("l1", 5*smallExtent); !errors.Is(err, ErrNoSpace) {
		t.Errorf("extend in a full group: %v", err)
	}
	if err := g.Commit(ctx, tx, nil, "allocation"); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, ctx, g)
}

func TestGroup_deviceReachesTheExtents(t *testing.T) {
	t.Parallel()
	ctx, a, b := testContext(t), newMem().Rename("a"), newMem().Rename("b")
	g := smallGroup(t, ctx, a, b)
	tx := g.Begin()
	lv, err := tx.CreateLV("lv", tx.VG().FreeExtents()*smallExtent, LVOptions{})
	if err != nil {
		t.Fatal(err)
	}
	early, err := g.DeviceOf(tx.VG(), lv)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "lv"); err != nil {
		t.Fatal(err)
	}
	d, err := g.Device("lv")
	if err != nil || d.Size() != early.Size() || d.Size() != g.VG().Size(lv) {
		t.Fatalf("device: %v", err)
	}
	p := make([]byte, 512)
	for off := int64(0); off < d.Size(); off += smallExtent {
		p[0], p[1] = byte(off/smallExtent), 0x77
		if err := d.WriteAt(ctx, p, off); err != nil {
			t.Fatal(err)
		}
		dev, at, err := g.Locate("lv", off)
		if err != nil {
			t.Fatal(err)
		}
		if got := dev.(*blockdev.Mem).Bytes(at, 2); got[0] != p[0] || got[1] != 0x77 {
			t.Fatalf("byte %d is not at %d of %s", off, at, dev.Name())
		}
	}
	if _, _, err := g.Locate("lv", d.Size()); !errors.Is(err, blockdev.ErrOutOfRange) {
		t.Errorf("locate the end: %v", err)
	}
	checkDisk(t, ctx, g) // nothing of the metadata was hit
}

func TestCommit_metadataFull(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := smallGroup(t, ctx, blockdev.NewMem(64<<20, 512))
	for i := 0; ; i++ {
		tx := g.Begin()
		if _, err := tx.CreateLV(benchName(i), 1, LVOptions{Tags: benchTags(i)}); err != nil {
			t.Fatal(err)
		}
		err := g.Commit(ctx, tx, nil, "fill")
		if errors.Is(err, ErrMetadataFull) && i > 40 {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tx := g.Begin()
	if err := tx.RemoveLV(benchName(0)); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "make room"); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, ctx, g)
}

func TestCreate_refuses(t *testing.T) {
	t.Parallel()
	ctx, used := testContext(t), newMem().Rename("used")
	smallGroup(t, ctx, used)
	cases := map[string]struct {
		o    CreateOptions
		want error
	}{
		"no device":      {CreateOptions{Name: "v"}, ErrInvalid},
		"too small":      {CreateOptions{Name: "v", Devices: []blockdev.Device{newMem()}}, ErrTooSmall},
		"name":           {CreateOptions{Name: "a b", Devices: []blockdev.Device{newMem()}}, ErrInvalid},
		"extent size":    {CreateOptions{Name: "v", ExtentSize: 100000, Devices: []blockdev.Device{newMem()}}, ErrInvalid},
		"negative":       {CreateOptions{Name: "v", ExtentSize: -4096, Devices: []blockdev.Device{newMem()}}, ErrInvalid},
		"metadata size":  {CreateOptions{Name: "v", MetadataSize: 1, Devices: []blockdev.Device{newMem()}}, ErrInvalid},
		"in use":         {smallOptions(used), ErrExists},
		"the same twice": {smallOptions(newMem().Rename("x"), newMem().Rename("x")), ErrInvalid},
	}
	for name, c := range cases {
		if _, err := Create(ctx, c.o, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
