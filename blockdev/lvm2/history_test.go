package lvm2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
)

const (
	smallExtent = 64 << 10
	smallMDA    = 61440
)

// smallGroup makes a group whose rings wrap every few commits.
func smallGroup(t testing.TB, ctx context.Context, devs ...blockdev.Device) *Group {
	t.Helper()
	g, err := Create(ctx, smallOptions(devs...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func smallOptions(devs ...blockdev.Device) CreateOptions {
	return CreateOptions{Name: "small", Devices: devs, ExtentSize: smallExtent, MetadataSize: smallMDA, align: 64 << 10, Host: "test", Tags: []string{"T"}}
}

// randomChange puts one to four random changes into a transaction.
func randomChange(t testing.TB, r *rand.Rand, tx *Tx) {
	t.Helper()
	for range 1 + r.IntN(4) {
		if err := randomStep(r, tx); err != nil && !errors.Is(err, ErrNoSpace) {
			t.Fatal(err)
		}
	}
	if !tx.Changed() {
		if err := tx.AddVGTags(fmt.Sprintf("X%d", r.Uint32())); err != nil {
			t.Fatal(err)
		}
	}
}

func randomStep(r *rand.Rand, tx *Tx) (err error) {
	lvs := tx.VG().LVs
	name := ""
	if len(lvs) > 0 {
		name = lvs[r.IntN(len(lvs))].Name
	}
	switch n := r.IntN(10); {
	case name == "" || n < 4 && len(lvs) < 25:
		var tags []string
		for i := range r.IntN(4) {
			tags = append(tags, fmt.Sprintf("IU_%d_%032d", i, r.IntN(1000)))
		}
		_, err = tx.CreateLV(fmt.Sprintf("lv%d", r.Uint32()), 1+r.Int64N(30*smallExtent), LVOptions{Tags: tags, Contiguous: r.IntN(4) == 0})
	case n < 6:
		err = tx.RemoveLV(name)
	case n < 8:
		_, err = tx.ExtendLV(name, tx.VG().Size(tx.VG().LV(name))+r.Int64N(20*smallExtent)+1)
	case n == 8:
		err = tx.ChangeLVTags(name, []string{fmt.Sprintf("T%d", r.IntN(9))}, []string{fmt.Sprintf("T%d", r.IntN(9))})
	default:
		err = tx.ChangeVGTags([]string{fmt.Sprintf("V%d", r.IntN(9))}, []string{fmt.Sprintf("V%d", r.IntN(9))})
	}
	return err
}

// section is the text of the group without the lines around it.
func groupText(vg *VG) []byte { return vg.appendGroup(nil) }

// checkDisk opens the group anew and compares it with what g believes.
func checkDisk(t testing.TB, ctx context.Context, g *Group) {
	t.Helper()
	again, err := Open(ctx, g.devs)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(groupText(again.VG()), groupText(g.VG())) {
		t.Fatalf("the disk has\n%s\nthe group believes\n%s", groupText(again.VG()), groupText(g.VG()))
	}
	for i := range again.VG().PVs {
		a, b := again.VG().free.pvs[i], g.VG().free.pvs[i]
		if a.free != b.free || fmt.Sprint(a.runs) != fmt.Sprint(b.runs) {
			t.Fatalf("free map of pv%d kept along is %v, built anew %v", i, b.runs, a.runs)
		}
	}
	for _, lv := range again.VG().LVs {
		if kept := g.VG().LV(lv.Name); kept == nil || kept.text != lv.text {
			t.Fatalf("index does not have volume %s", lv.Name)
		}
	}
	if w := again.Warnings(); len(w) > 0 {
		t.Fatalf("warnings: %q", w)
	}
}

// TestHistory commits random changes over wrapped rings and reads everything back each time.
func TestHistory(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		ss := []int{512, 4096}[seed%2]
		t.Run(fmt.Sprintf("seed=%d/sector=%d", seed, ss), func(t *testing.T) {
			t.Parallel()
			ctx, r := testContext(t), rand.New(rand.NewPCG(seed, 1))
			devs := []blockdev.Device{blockdev.NewMem(20<<20, ss).Rename("a"), blockdev.NewMem(9<<20, ss).Rename("b")}
			g := smallGroup(t, ctx, devs[:1+seed%2]...)
			for range 120 {
				tx := g.Begin()
				randomChange(t, r, tx)
				if err := g.Commit(ctx, tx, nil, "history"); err != nil {
					t.Fatal(err)
				}
				checkDisk(t, ctx, g)
			}
		})
	}
}

// newMem is a small device in memory.
func newMem() *blockdev.Mem { return blockdev.NewMem(8<<20, 512) }
