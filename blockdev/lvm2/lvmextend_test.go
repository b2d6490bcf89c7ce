package lvm2

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
)

// TestLVM_extended makes a domain's group larger and lets lvm2 judge and change it.
func TestLVM_extended(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	l, devs := loops(t, 512, 20<<30, 12<<30, 11<<30)
	g, err := Create(ctx, CreateOptions{Name: "5d9b7d2f-4b7e-4b0e-9d0a-1f6f0f1f3c11", Devices: devs[:1]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.PreparePV(ctx, PVOptions{Device: devs[1]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Between the two steps lvm2 sees a physical volume of a group that it does not know, and the group as it was.
	l.run("vgck", g.VG().Name)
	if out, _, err := l.try("pvs", "--reportformat", "basic", "--noheadings", "-o", "vg_name,pv_in_use", l.devs[1]); err != nil || !strings.Contains(out, "unknown") {
		t.Errorf("a prepared device: %v %s", err, out)
	}
	tx := g.Begin()
	if err := tx.AddPV(p); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "extend"); err != nil {
		t.Fatal(err)
	}
	only := &lvm{t: t, dir: t.TempDir(), devs: l.devs[:2]}
	only.configure()
	only.agree(g)
	for _, r := range only.report("pvs", "pv_name,pv_mda_count,pv_mda_used_count,pe_start,pv_pe_count") {
		want := map[string]string{l.devs[0]: "2 2 135266304 157", l.devs[1]: "2 0 135266304 93"}[r["pv_name"]]
		if got := strings.Join([]string{r["pv_mda_count"], r["pv_mda_used_count"], r["pe_start"], r["pv_pe_count"]}, " "); got != want {
			t.Errorf("%s: %s, want %s", r["pv_name"], got, want)
		}
	}
	only.run("pvck", l.devs[1])
	for n := range 6 {
		only.step(rand.New(rand.NewPCG(uint64(n), 5)), g.VG())
		if _, err := g.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, ctx, g)
	only.agree(g)
	only.verbatim(g)
	extendByLVM(t, ctx, l, g, devs)
}

// extendByLVM adds the third device with the commands that VDSM gives, and wants us to miss it, to find it and to use it.
func extendByLVM(t *testing.T, ctx context.Context, l *lvm, g *Group, devs []blockdev.Device) {
	t.Helper()
	l.run("pvcreate", "--metadatasize", "128m", "--metadatacopies", "2", "--metadataignore", "y", l.devs[2])
	// lvm2 warns of the second device, whose areas are ignored, while it adds a third one; of a group of its own making too.
	if _, bad, err := l.try("vgextend", g.VG().Name, l.devs[2]); err != nil {
		t.Fatalf("vgextend: %v\n%s", err, bad)
	}
	_, err := g.Refresh(ctx)
	var missing *MissingPVError
	if !errors.As(err, &missing) || len(missing.PVs) != 1 || missing.PVs[0].Hint != l.devs[2] {
		t.Fatalf("a group that lvm2 extended: %v", err)
	}
	info, err := Inspect(ctx, devs[2])
	if err != nil || info.ID != missing.PVs[0].ID {
		t.Fatalf("the missing one is %+v: %v", info, err)
	}
	if g, err = Open(ctx, devs); err != nil {
		t.Fatal(err)
	}
	l.agree(g)
	takeRest(t, ctx, g)
	l.agree(g)
}

// takeRest takes what is free by extending a volume.
func takeRest(t *testing.T, ctx context.Context, g *Group) {
	t.Helper()
	tx := g.Begin()
	lv := g.VG().LV("everything")
	if _, err := tx.ExtendLV(lv.Name, g.VG().Size(lv)+g.VG().FreeExtents()*g.VG().ExtentSize); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "extend the volume"); err != nil {
		t.Fatal(err)
	}
}

// TestLVM_extensionCrashed gives crashed extensions to lvm2: the group must be sound for it, old or new.
func TestLVM_extensionCrashed(t *testing.T) {
	t.Parallel()
	ctx, r := testContext(t), rand.New(rand.NewPCG(5, 6))
	l, devs := loops(t, 512, 4<<20, 3<<20)
	judged := 0
	for seed := range uint64(2) {
		x, states := recordExtension(t, ctx, seed, nil), 0
		x.states(r, func(what string, first, second *blockdev.Mem) {
			if states++; states%9 != 0 {
				return
			}
			judged++
			for i, m := range []*blockdev.Mem{first, second} {
				if err := devs[i].WriteAt(ctx, m.Bytes(0, m.Size()), 0); err != nil {
					t.Fatal(err)
				}
			}
			l.judgeCrash(fmt.Sprintf("seed %d, %s", seed, what), x.before.Seqno)
			g, err := Open(ctx, devs[:1])
			if errors.Is(err, ErrMissingPV) {
				g, err = Open(ctx, devs)
			}
			if err != nil {
				t.Fatalf("%s, after lvm wrote: %v", what, err)
			}
			if len(g.VG().PVs) == 1 {
				if err := extendGroup(ctx, g, smallPV(devs[1])); err != nil {
					t.Fatalf("%s, extending again: %v", what, err)
				}
			}
			l.agree(g)
		})
	}
	if judged < 8 {
		t.Errorf("only %d states were judged", judged)
	}
}
