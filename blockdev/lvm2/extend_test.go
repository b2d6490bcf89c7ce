package lvm2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

// smallPV says how a further device of a group with small rings is laid out.
func smallPV(dev blockdev.Device) PVOptions { return PVOptions{Device: dev, align: 64 << 10} }

// extendGroup makes a device part of the group.
func extendGroup(ctx context.Context, g *Group, o PVOptions) error {
	p, err := g.PreparePV(ctx, o, nil)
	if err != nil {
		return err
	}
	tx := g.Begin()
	if err := tx.AddPV(p); err != nil {
		return err
	}
	return g.Commit(ctx, tx, nil, "extend")
}

// TestExtend_asVDSM makes the second physical volume of golden set 09 by our own means and compares the bytes with those that
// pvcreate and vgextend left.
func TestExtend_asVDSM(t *testing.T) {
	t.Parallel()
	const before, after = "testdata/golden/05-vg-vdsm-tags", "testdata/golden/09-vg-vdsm-2pv"
	ctx := testContext(t)
	_, devs := goldenDevices(t, before, 512)
	g, err := Open(ctx, asDevices(devs))
	if err != nil {
		t.Fatal(err)
	}
	pvs, want := goldenDevices(t, after, 512)
	dev := blockdev.NewMem(pvs[1].DevSize, 512).Rename("second")
	if err := extendGroup(ctx, g, PVOptions{Device: dev, ID: pvs[1].UUID, Hint: "/dev/loop2"}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dev.Bytes(0, 1<<20), want[1].Bytes(0, 1<<20)) {
		t.Error("the first MiB differs from lvm2's")
	}
	if at := pvs[1].Areas[1][0]; !bytes.Equal(dev.Bytes(at, 4096), want[1].Bytes(at, 4096)) {
		t.Error("the second metadata area differs from lvm2's")
	}
	golden := readGolden(t, after, "pv0.mda0.text.slot0.bin")
	section := golden[bytes.Index(golden, []byte("\nphysical_volumes {")):bytes.Index(golden, []byte("\nlogical_volumes {"))]
	if text := groupText(g.VG()); !bytes.Contains(text, section) {
		t.Errorf("the text is\n%s\nlvm2 lists the physical volumes as\n%s", text, section)
	}
	checkDisk(t, ctx, g)
}

// TestExtend_history lets a group grow between random changes, and uses what it got.
func TestExtend_history(t *testing.T) {
	t.Parallel()
	for _, ss := range []int{512, 4096} {
		t.Run(fmt.Sprint(ss), func(t *testing.T) {
			t.Parallel()
			ctx, r := testContext(t), rand.New(rand.NewPCG(uint64(ss), 7))
			g := smallGroup(t, ctx, blockdev.NewMem(3<<20, ss).Rename("first"))
			for n := range 5 {
				for range 12 {
					tx := g.Begin()
					randomChange(t, r, tx)
					if err := g.Commit(ctx, tx, nil, "history"); err != nil {
						t.Fatal(err)
					}
					checkDisk(t, ctx, g)
				}
				free := g.VG().FreeExtents()
				o := smallPV(blockdev.NewMem(4<<20+int64(n)*12345*4096, ss).Rename(fmt.Sprint("further", n)))
				if err := extendGroup(ctx, g, o); err != nil {
					t.Fatal(err)
				}
				checkDisk(t, ctx, g)
				if more := g.VG().FreeExtents() - free; more < 50 || more != g.VG().PVs[n+1].PECount {
					t.Fatalf("%d extents became free", more)
				}
			}
			fill(t, ctx, g)
		})
	}
}

// fill makes a volume of all that is free, and reaches its last byte.
func fill(t *testing.T, ctx context.Context, g *Group) {
	t.Helper()
	tx := g.Begin()
	size := g.VG().FreeExtents() * g.VG().ExtentSize
	if _, err := tx.CreateLV("everything", size, LVOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "fill"); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, ctx, g)
	dev, err := g.Device("everything")
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.WriteAt(ctx, make([]byte, 4096), size-4096); err != nil || g.VG().FreeExtents() != 0 {
		t.Error(err)
	}
}

// TestExtend_refuses gives devices that cannot join a group. Nothing is written to any of them.
func TestExtend_refuses(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	first := newMem().Rename("first")
	g := smallGroup(t, ctx, first)
	foreign, empty := newMem().Rename("foreign"), newMem().Rename("empty")
	o := smallOptions(foreign)
	o.Name = "other"
	if _, err := Create(ctx, o, nil); err != nil {
		t.Fatal(err)
	}
	unused := newMem().Rename("unused") // pvcreate without a group, its id made by somebody else
	plan := must(planPV(unused, pvSizes{smallMDA, smallExtent, 64 << 10}))
	plan.named("", NewID(), "x")
	if err := errors.Join(plan.writeAreas(ctx, writer{timeout: time.Second}, nil), plan.writeLabel(ctx, writer{timeout: time.Second})); err != nil {
		t.Fatal(err)
	}
	copied := first.Clone().Rename("copy of the first")
	for name, c := range map[string]struct {
		dev  *blockdev.Mem
		want error
	}{
		"a device of the group":                  {first, ErrMember},
		"the same device by another name":        {copied, ErrMember},
		"one of another group":                   {foreign, ErrExists},
		"a physical volume without a group":      {unused, ErrExists},
		"too small":                              {blockdev.NewMem(128<<10, 512).Rename("small"), ErrTooSmall},
		"other sectors":                          {blockdev.NewMem(8<<20, 4096).Rename("4k"), ErrInvalid},
		"a device that can join, for comparison": {empty, nil},
	} {
		rec := faulty.NewRecorder(c.dev)
		opt := smallPV(rec)
		if err := g.CheckPV(ctx, opt); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want == nil {
			continue
		}
		if _, err := g.PreparePV(ctx, opt, nil); !errors.Is(err, c.want) || rec.Len() > 0 {
			t.Errorf("%s: prepared: %v, %d writes", name, err, rec.Len())
		}
	}
	opt := smallPV(foreign)
	if opt.Force = true; g.CheckPV(ctx, opt) != nil {
		t.Error("force does not help")
	}
}

// TestExtend_limits refuses groups that must not grow.
func TestExtend_limits(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	text := string(twoVolumes(t))
	for _, c := range []struct {
		old, repl string
		want      error
	}{
		{`"RESIZEABLE", `, "", ErrForeign}, {"max_pv = 0", "max_pv = 1", ErrInvalid}, {"max_pv = 0", "max_pv = 2", nil},
	} {
		vg, err := ParseText([]byte(strings.Replace(text, c.old, c.repl, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if err := vg.mayGrow(); !errors.Is(err, c.want) {
			t.Errorf("%q for %q: %v", c.repl, c.old, err)
		}
	}
	one, two := smallGroup(t, ctx, newMem().Rename("one")), smallGroup(t, ctx, newMem().Rename("two"))
	p, err := one.PreparePV(ctx, smallPV(newMem().Rename("third")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := two.Begin().AddPV(p); !errors.Is(err, ErrInvalid) {
		t.Errorf("a device made for another group: %v", err)
	}
	tx := one.Begin()
	if err := errors.Join(tx.AddPV(p)); err != nil {
		t.Fatal(err)
	}
	if err := tx.AddPV(p); !errors.Is(err, ErrMember) {
		t.Errorf("twice: %v", err)
	}
}

// TestExtend_drop makes a prepared device an empty one again.
func TestExtend_drop(t *testing.T) {
	t.Parallel()
	ctx, dev := testContext(t), newMem().Rename("further")
	g := smallGroup(t, ctx, newMem().Rename("first"))
	p, err := g.PreparePV(ctx, smallPV(dev), nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err := Inspect(ctx, dev)
	if err != nil || !g.Prepared(info) || info.ID != p.ID() || !info.Used || info.MDAs != 2 || info.MDAsInUse != 0 {
		t.Fatalf("prepared: %+v %v", info, err)
	}
	if err := g.DropPV(ctx, p, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(ctx, dev); !errors.Is(err, ErrNotPV) {
		t.Errorf("dropped: %v", err)
	}
	if err := extendGroup(ctx, g, smallPV(dev)); err != nil {
		t.Fatal(err)
	}
	if info, err = Inspect(ctx, dev); err != nil || g.Prepared(info) {
		t.Errorf("a part of the group looks like one that was only prepared: %+v %v", info, err)
	}
	p.plan.pv.ID = info.ID
	if err := g.DropPV(ctx, p, nil); !errors.Is(err, ErrMember) {
		t.Errorf("dropping a part of the group: %v", err)
	}
}

func TestPVID_mark(t *testing.T) {
	t.Parallel()
	group := NewID()
	for range 50 {
		id := newPVID(group)
		if _, err := canonicalID(id); err != nil || !madeFor(group, id) || madeFor(NewID(), id) || madeFor(group, NewID()) {
			t.Fatalf("%s: %v", id, err)
		}
	}
	if madeFor(group, "short") {
		t.Error("no id at all")
	}
}

// extension is a recorded extension of a group by a second device. All writes to the second come before the first one to the
// first.
type extension struct {
	first, second     *blockdev.Mem // before
	onFirst, onSecond *faulty.Recorder
	before, after     *VG
	oldSeen, newSeen  int // states
}

// recordExtension extends a group whose devices are seen through plant.
func recordExtension(t *testing.T, ctx context.Context, seed uint64, plant func(*extension) (first, second blockdev.Device)) *extension {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 8))
	x := &extension{first: blockdev.NewMem(4<<20, 512).Rename("first"), second: blockdev.NewMem(3<<20, 512).Rename("second")}
	for off := int64(0); off < x.second.Size(); off += 4096 { // what the LUN was before
		x.second.SetBytes(off, bytes.Repeat([]byte("old data"), 64))
	}
	g := smallGroup(t, ctx, x.first)
	for range 1 + r.IntN(20) {
		tx := g.Begin()
		randomChange(t, r, tx)
		if err := g.Commit(ctx, tx, nil, "before"); err != nil {
			t.Fatal(err)
		}
	}
	x.onFirst, x.onSecond = faulty.NewRecorder(x.first.Clone()), faulty.NewRecorder(x.second.Clone())
	var first, second blockdev.Device = x.onFirst, x.onSecond
	if plant != nil {
		first, second = plant(x)
	}
	g, err := Open(ctx, []blockdev.Device{first})
	if err != nil {
		t.Fatal(err)
	}
	x.before = g.VG()
	if err := extendGroup(ctx, g, smallPV(second)); err != nil {
		t.Fatal(err)
	}
	x.after = g.VG()
	return x
}

// states calls f for every state that a crash may leave of the two devices.
func (x *extension) states(r *rand.Rand, f func(what string, first, second *blockdev.Mem)) {
	crashStates(r, x.onSecond, x.second, func(what string, m *blockdev.Mem) { f("second "+what, x.first.Clone(), m) })
	done, volatile := x.onSecond.Len(), x.onSecond.Volatile(x.onSecond.Len())
	crashStates(r, x.onFirst, x.first, func(what string, m *blockdev.Mem) {
		for k := range min(3, 1+len(volatile)) {
			f("first "+what, m.Clone(), x.onSecond.ReplayKeep(x.second, done, func(int) bool { return k == 0 || r.IntN(2) == 0 }))
		}
	})
}

// judge opens a crashed state as a host does, which has the second device too if the group names it. The old group must be able
// to take the device.
func (x *extension) judge(ctx context.Context, first, second *blockdev.Mem) error {
	g, err := Open(ctx, []blockdev.Device{first})
	var missing *MissingPVError
	switch {
	case errors.As(err, &missing):
		x.newSeen++
		if len(missing.PVs) != 1 || missing.PVs[0].ID != x.after.PVs[1].ID {
			return fmt.Errorf("missing is %+v", missing)
		}
		if g, err = Open(ctx, []blockdev.Device{first, second}); err != nil {
			return err
		}
		if !bytes.Equal(groupText(g.VG()), groupText(x.after)) {
			return fmt.Errorf("sequence number %d is not the new state", g.VG().Seqno)
		}
	case err != nil:
		return err
	case !bytes.Equal(groupText(g.VG()), groupText(x.before)):
		return fmt.Errorf("sequence number %d is not the old state", g.VG().Seqno)
	default:
		x.oldSeen++
		if err := extendGroup(ctx, g, smallPV(second)); err != nil {
			return fmt.Errorf("extending again: %w", err)
		}
	}
	again, err := Open(ctx, []blockdev.Device{first, second})
	if err == nil && len(again.VG().PVs) != 2 {
		err = fmt.Errorf("%d physical volumes", len(again.VG().PVs))
	}
	return err
}

// TestExtend_crashAnywhere crashes an extension at every write: it leaves the old group and a device that joins when it is
// asked again, or the new group.
func TestExtend_crashAnywhere(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			ctx, r := testContext(t), rand.New(rand.NewPCG(seed, 9))
			x := recordExtension(t, ctx, seed, nil)
			states := 0
			x.states(r, func(what string, first, second *blockdev.Mem) {
				states++
				if err := x.judge(ctx, first, second); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
			if x.oldSeen < 20 || x.newSeen < 3 {
				t.Errorf("%d states, the old group in %d, the new one in %d", states, x.oldSeen, x.newSeen)
			}
		})
	}
}

// TestExtend_plantedBugs shows that the crash test sees a label that is not flushed before the group names its device, and one
// that is written after the commit.
func TestExtend_plantedBugs(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(x *extension) (first, second blockdev.Device){
		"none": nil,
		"label not flushed": func(x *extension) (first, second blockdev.Device) {
			return x.onFirst, &lazy{Device: x.onSecond, noFlush: true}
		},
		"label after the commit": func(x *extension) (first, second blockdev.Device) {
			label := func(p []byte) bool { return bytes.HasPrefix(p, []byte("LABELONE")) }
			return x.onFirst, &withheld{Device: x.onSecond, hold: label}
		},
		"text not flushed": func(x *extension) (first, second blockdev.Device) {
			return &lazy{Device: x.onFirst, noFlush: true}, x.onSecond
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, r := testContext(t), rand.New(rand.NewPCG(3, 3))
			found := false
			for seed := uint64(0); seed < 6 && !found; seed++ {
				x := recordExtension(t, ctx, seed, plant)
				x.states(r, func(_ string, first, second *blockdev.Mem) {
					found = found || x.judge(ctx, first, second) != nil
				})
			}
			if found == (name == "none") {
				t.Errorf("found is %v", found)
			}
		})
	}
}

// withheld is a device with a planted bug: it never does some writes, as one that would come after all others.
type withheld struct {
	blockdev.Device
	hold func(p []byte) bool
}

func (w *withheld) WriteAt(ctx context.Context, p []byte, off int64) error {
	if w.hold(p) {
		return nil
	}
	return w.Device.WriteAt(ctx, p, off)
}

// TestExtend_unknownOutcome hangs each write of an extension. What came of it is known after a refresh, and the extension can
// be asked for again.
func TestExtend_unknownOutcome(t *testing.T) {
	t.Parallel()
	for after := range 18 {
		synctest.Test(t, func(t *testing.T) { extendHanging(t, after) })
	}
}

// extendHanging lets one write hang: the first ten are those to the new device, the others those to the old one.
func extendHanging(t *testing.T, after int) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	first, second := faulty.New(newMem().Rename("first")), faulty.New(newMem().Rename("second"))
	g := smallGroup(t, ctx, first)
	slow, n := second, after
	if after >= 10 {
		slow, n = first, after-10
	}
	rule := slow.Inject(faulty.Fault{Ops: faulty.Mutations, After: n, Count: 1, Hang: true})
	err := extendGroup(ctx, g, smallPV(second))
	if rule.Hits() != 1 {
		if err != nil || after < 8 {
			t.Fatalf("write %d: %v", after, err)
		}
		return
	}
	if !errors.Is(err, blockdev.ErrOutcomeUnknown) {
		t.Fatalf("write %d hangs: %v", after, err)
	}
	slow.Release()
	synctest.Wait()
	if _, err := g.Refresh(ctx); err != nil {
		t.Fatalf("write %d came back: %v", after, err)
	}
	if len(g.VG().PVs) == 1 {
		if err := extendGroup(ctx, g, smallPV(second)); err != nil {
			t.Fatalf("write %d, again: %v", after, err)
		}
	}
	if len(g.VG().PVs) != 2 || len(g.devs) != 2 {
		t.Fatalf("write %d: %d physical volumes, %d devices", after, len(g.VG().PVs), len(g.devs))
	}
	fill(t, ctx, g) // its commit levels the areas
}
