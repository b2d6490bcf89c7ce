package lvm2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
)

// sameVG compares all that a volume group is, but for the physical volumes' usable extents, which come from the devices.
func sameVG(got, want *VG) error {
	if !bytes.Equal(groupText(got), groupText(want)) {
		return fmt.Errorf("text %s, want %s", groupText(got), groupText(want))
	}
	if !reflect.DeepEqual(got.LVs, want.LVs) || !reflect.DeepEqual(got.foreign, want.foreign) || got.unknown != want.unknown {
		return fmt.Errorf("volumes are not the same as read from nothing")
	}
	for _, lv := range got.LVs {
		if got.LV(lv.Name) != lv {
			return fmt.Errorf("the index has another %s", lv.Name)
		}
	}
	for i := range got.free.pvs {
		if fmt.Sprint(got.free.pvs[i]) != fmt.Sprint(want.free.pvs[i]) {
			return fmt.Errorf("free map of physical volume %d differs", i)
		}
	}
	return nil
}

// Who follows a volume group by its changes has what is read from nothing, whatever changes, also when it misses some.
func TestKnown_follows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			ctx, r := testContext(t), rand.New(rand.NewPCG(seed, 3))
			g := smallGroup(t, ctx, blockdev.NewMem(20<<20, 512).Rename("a"), blockdev.NewMem(9<<20, 512).Rename("b"))
			follower, err := Open(ctx, g.devs)
			if err != nil {
				t.Fatal(err)
			}
			for range 150 {
				tx := g.Begin()
				randomChange(t, r, tx)
				if err := g.Commit(ctx, tx, nil, "history"); err != nil {
					t.Fatal(err)
				}
				if r.IntN(3) == 0 {
					continue
				}
				got, err := follower.Refresh(ctx)
				if err != nil {
					t.Fatal(err)
				}
				again, err := Open(ctx, g.devs)
				if err != nil {
					t.Fatal(err)
				}
				if err := sameVG(got, again.VG()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Whatever was known before, a text means the same: real ones with mirrors, snapshots, thin pools, and damaged ones.
func TestKnown_realTexts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/golden/*/vgcfgbackup.txt")
	if err != nil {
		t.Fatal(err)
	}
	var texts [][]byte
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte("physical_volumes {")) && bytes.IndexByte(b, 0) < 0 {
			texts = append(texts, b, bytes.Replace(b, []byte("extent_count = "), []byte("extent_count = 1"), 1))
		}
	}
	if len(texts) < 4 {
		t.Fatalf("%d texts in testdata", len(texts))
	}
	for _, before := range texts {
		known, err := ParseText(before)
		if err != nil {
			continue
		}
		for _, text := range texts {
			want, werr := ParseText(text)
			got, err := parseAfter(text, known)
			if fmt.Sprint(err) != fmt.Sprint(werr) {
				t.Errorf("%v, from nothing %v", err, werr)
			} else if err == nil {
				if err := sameVG(got, want); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// The numbers of physical volumes in known segments mean nothing in a text that lists them in another order.
func TestKnown_otherPVs(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := smallGroup(t, ctx, blockdev.NewMem(9<<20, 512).Rename("a"), blockdev.NewMem(9<<20, 512).Rename("b"))
	tx := g.Begin()
	if _, err := tx.CreateLV("one", 5*smallExtent, LVOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "test"); err != nil {
		t.Fatal(err)
	}
	before := g.VG()
	text := string(before.appendText(nil, header{description: "x", host: "y"}))
	swapped := strings.NewReplacer("pv0 {", "pv1 {", "pv1 {", "pv0 {").Replace(text)
	got, err := parseAfter([]byte(swapped), before)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ParseText([]byte(swapped))
	if err != nil {
		t.Fatal(err)
	}
	if err := sameVG(got, want); err != nil || want.LVs[0].Segments[0].Areas[0].PV == before.LVs[0].Segments[0].Areas[0].PV {
		t.Errorf("%v; %+v", err, want.LVs[0])
	}
}

// A follower keeps no whole text for each change that it saw.
func TestKnown_holdsNoOldTexts(t *testing.T) {
	t.Parallel()
	g, _ := benchGroup(t, 300)
	first := g.VG()
	text := string(first.appendText(nil, header{description: "x", host: "y"}))
	changed := strings.Replace(text, "creation_time = ", "creation_time = 1", 1)
	vg, err := parseAfter([]byte(changed), first)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, lv := range vg.LVs {
		if first.LV(lv.Name) == lv {
			kept++
		}
	}
	if kept != len(first.LVs)-1 {
		t.Errorf("%d of %d volumes were taken over, want all but one", kept, len(first.LVs))
	}
}

// BenchmarkParseKnown is what a follower pays for an extension: compare with BenchmarkParse.
func BenchmarkParseKnown(b *testing.B) {
	for _, n := range []int{500, 2000, 5000} {
		b.Run(fmt.Sprintf("lvs=%d", n), func(b *testing.B) {
			g, _ := benchGroup(b, n)
			text := g.VG().appendText(nil, header{description: "x", host: "y"})
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parseAfter(text, g.VG()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A volume that another one refers to from now on is not one that states may share: the earlier state must stay what it was.
func TestKnown_references(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := smallGroup(t, ctx, blockdev.NewMem(9<<20, 512).Rename("a"))
	tx := g.Begin()
	if _, err := tx.CreateLV("one", 5*smallExtent, LVOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "test"); err != nil {
		t.Fatal(err)
	}
	before := g.VG()
	text := string(before.appendText(nil, header{description: "x", host: "y"}))
	const two = "logical_volumes {\n two {\n id = \"abcdef-abcd-abcd-abcd-abcd-abcd-abcdef\"\n status = [\"READ\", \"WRITE\", \"VISIBLE\"]\n segment_count = 1\n" +
		" segment1 {\n start_extent = 0\n extent_count = 5\n type = \"mirror\"\n mirror_count = 1\n mirrors = [\"one\", 0]\n }\n }\n"
	got, err := parseAfter([]byte(strings.Replace(text, "logical_volumes {\n", two, 1)), before)
	if err != nil {
		t.Fatal(err)
	}
	if !got.LV("one").Foreign || before.LV("one").Foreign {
		t.Errorf("one is used by another: %t, before that: %t", got.LV("one").Foreign, before.LV("one").Foreign)
	}
}
