package lvm2

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// TestLVM_vdsmLayout makes a domain's group of two devices and lets lvm2 judge and change it.
func TestLVM_vdsmLayout(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	l, devs := loops(t, 512, 20<<30, 12<<30)
	g, err := Create(ctx, CreateOptions{Name: "5d9b7d2f-4b7e-4b0e-9d0a-1f6f0f1f3c11", Devices: devs, Tags: []string{"RHAT_storage_domain_UNREADY"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tx := g.Begin()
	for i, size := range []int64{128 << 20, 2 << 30, 20 << 30} {
		if _, err := tx.CreateLV(fmt.Sprintf("lv%d", i), size, LVOptions{Tags: benchTags(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Commit(ctx, tx, nil, "vdsm"); err != nil {
		t.Fatal(err)
	}
	l.agree(g)
	for _, r := range l.report("pvs", "pv_name,pv_mda_count,pv_mda_used_count,pe_start,pv_pe_count") {
		want := map[string]string{l.devs[0]: "2 2 135266304 157", l.devs[1]: "2 0 135266304 93"}[r["pv_name"]]
		if got := strings.Join([]string{r["pv_mda_count"], r["pv_mda_used_count"], r["pe_start"], r["pv_pe_count"]}, " "); got != want {
			t.Errorf("%s: %s, want %s", r["pv_name"], got, want)
		}
	}
	for _, d := range l.devs {
		l.run("pvck", d)
		l.run("pvck", "--dump", "headers", d)
	}
	for range 6 {
		l.step(rand.New(rand.NewPCG(1, 5)), g.VG())
		if _, err := g.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
	}
	l.agree(g)
	l.verbatim(g)
}

// TestLVM_crashSample gives crashed states to lvm2: it must accept each, see the old or the new state, and be able to
// go on writing.
func TestLVM_crashSample(t *testing.T) {
	t.Parallel()
	ctx, r := testContext(t), rand.New(rand.NewPCG(5, 6))
	l, devs := loops(t, 512, 4<<20)
	mem := blockdev.NewMem(4<<20, 512).Rename(l.devs[0])
	rec := faulty.NewRecorder(mem)
	g := smallGroup(t, ctx, rec)
	states, judged := 0, 0
	for range 12 {
		before, base := g.VG(), mem.Clone()
		rec.Reset()
		tx := g.Begin()
		randomChange(t, r, tx)
		if err := g.Commit(ctx, tx, nil, "crash"); err != nil {
			t.Fatal(err)
		}
		crashStates(r, rec, base, func(what string, m *blockdev.Mem) {
			if states++; states%29 != 0 {
				return
			}
			judged++
			if err := devs[0].WriteAt(ctx, m.Bytes(0, m.Size()), 0); err != nil {
				t.Fatal(err)
			}
			l.judgeCrash(what, before.Seqno)
			after, err := Open(ctx, devs)
			if err != nil {
				t.Fatalf("%s, after lvm wrote: %v", what, err)
			}
			l.agree(after)
		})
	}
	if judged < 15 {
		t.Errorf("only %d of %d states were judged", judged, states)
	}
}

// judgeCrash lets lvm check, read and write a crashed group. The only complaint it may have is that one metadata
// area is older than the other.
func (l *lvm) judgeCrash(what string, seqno uint32) {
	l.t.Helper()
	_, bad, err := l.try("vgck", "small")
	for line := range strings.Lines(bad) {
		if !strings.Contains(line, "ignoring metadata seqno") && !strings.Contains(line, "Inconsistent metadata") &&
			!strings.Contains(line, "WARNING: Inconsistent") && !strings.Contains(line, "See vgck --updatemetadata") {
			l.t.Fatalf("%s: vgck: %s", what, bad)
		}
	}
	if err != nil {
		l.t.Fatalf("%s: vgck: %v %s", what, err, bad)
	}
	out, bad, err := l.try("vgs", "--reportformat", "basic", "--noheadings", "-o", "vg_seqno", "small")
	if got := strings.TrimSpace(out); err != nil || got != fmt.Sprint(seqno) && got != fmt.Sprint(seqno+1) {
		l.t.Fatalf("%s: vgs says %q, want %d or %d: %v %s", what, got, seqno, seqno+1, err, bad)
	}
	if _, bad, err := l.try("vgchange", "--addtag", "crashed", "small"); err != nil {
		l.t.Fatalf("%s: vgchange: %v %s", what, err, bad)
	}
}

// TestLVM_plantedBugs shows that the judges see what is wrong: a text that our strict check refuses is written past
// it, and lvm2 must complain too, or be named here as too lax.
func TestLVM_plantedBugs(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	l, devs := loops(t, 512, 4<<20)
	g := smallGroup(t, ctx, devs[0])
	tx := g.Begin()
	for _, name := range []string{"a", "b"} {
		if _, err := tx.CreateLV(name, 2*smallExtent, LVOptions{Tags: []string{"T_" + name}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Commit(ctx, tx, nil, "two"); err != nil {
		t.Fatal(err)
	}
	good := g.VG().appendText(nil, header{description: "d", host: "h"})
	if err := CheckStrict(good); err != nil {
		t.Fatal(err)
	}
	for _, bug := range plantedTexts {
		text := bug.plant(good)
		if string(text) == string(good) {
			t.Fatalf("%s: nothing planted", bug.name)
		}
		overwrite(t, g, devs[0], text)
		_, bad, err := l.try("vgck", "small")
		if seen := err != nil || bad != ""; seen != !bug.lax {
			t.Errorf("%s: vgck sees it: %v (%v %s)", bug.name, seen, err, bad)
		}
	}
	overwrite(t, g, devs[0], good)
	l.run("vgck", "small")
}

// overwrite puts a text into both areas as the committed one, past all checks.
func overwrite(t *testing.T, g *Group, dev blockdev.Device, text []byte) {
	t.Helper()
	w := writer{timeout: 1e9}
	for _, m := range g.cur.Load().mdasInUse() {
		n := int64(len(text))
		padded := append(text[:n:n], make([]byte, -n&(sector-1))...)
		h := mdaHead{area: m.area, slots: [2]slot{{offset: mdaHeader, size: n, sum: checksum(text)}, {}}}
		if err := w.write(testutil.Deadline(t), dev, m.area.off+mdaHeader, padded); err != nil {
			t.Fatal(err)
		}
		if err := w.write(testutil.Deadline(t), dev, m.area.off, h.encode()); err != nil {
			t.Fatal(err)
		}
	}
}
