package lvm2

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func testContext(t testing.TB) context.Context { return testutil.Deadline(t) }

// crashStates calls f for every state that a crash during the recorded writes may leave: every prefix, every prefix
// with the next write torn, and prefixes in which writes that no flush covers are lost in random combinations.
func crashStates(r *rand.Rand, rec *faulty.Recorder, base *blockdev.Mem, f func(what string, m *blockdev.Mem)) {
	for n := 0; n <= rec.Len(); n++ {
		f(fmt.Sprintf("after %d writes", n), rec.Replay(base, n, 0))
		for k := 1; k < rec.Sectors(n); k++ {
			f(fmt.Sprintf("after %d writes and %d sectors", n, k), rec.Replay(base, n, k))
		}
		volatile := rec.Volatile(n)
		for range min(6, 1<<len(volatile)) {
			lost := map[int]bool{}
			for _, seq := range volatile {
				lost[seq] = r.IntN(2) == 0
			}
			f(fmt.Sprintf("after %d writes without %v", n, lost), rec.ReplayKeep(base, n, func(seq int) bool { return !lost[seq] }))
		}
	}
}

// judge opens a crashed device and wants the old or the new state, nothing else.
func judge(ctx context.Context, m *blockdev.Mem, before, after *VG) (*Group, error) {
	g, err := Open(ctx, []blockdev.Device{m})
	if err != nil {
		return nil, err
	}
	got := groupText(g.VG())
	if !bytes.Equal(got, groupText(before)) && !bytes.Equal(got, groupText(after)) {
		return nil, fmt.Errorf("sequence number %d is neither the old nor the new state", g.VG().Seqno)
	}
	return g, nil
}

// TestCommit_crashAnywhere crashes a random history in every place and goes on from there.
func TestCommit_crashAnywhere(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		ss := []int{512, 4096}[seed%2]
		t.Run(fmt.Sprintf("seed=%d/sector=%d", seed, ss), func(t *testing.T) {
			t.Parallel()
			ctx, r := testContext(t), rand.New(rand.NewPCG(seed, 2))
			mem := blockdev.NewMem(8<<20, ss)
			rec := faulty.NewRecorder(mem)
			g := smallGroup(t, ctx, rec)
			states := 0
			for range 30 {
				before, base := g.VG(), mem.Clone()
				rec.Reset()
				tx := g.Begin()
				randomChange(t, r, tx)
				if err := g.Commit(ctx, tx, nil, "crash"); err != nil {
					t.Fatal(err)
				}
				crashStates(r, rec, base, func(what string, m *blockdev.Mem) {
					states++
					crashed, err := judge(ctx, m, before, g.VG())
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					if states%5 == 0 {
						goOn(t, ctx, r, crashed)
					}
				})
				if last, err := judge(ctx, mem, g.VG(), g.VG()); err != nil || len(last.Warnings()) > 0 {
					t.Fatalf("finished commit: %v", err)
				}
			}
			if states < 1000 && ss == 512 {
				t.Errorf("only %d states", states)
			}
		})
	}
}

// goOn commits to a crashed group and reads it back.
func goOn(t *testing.T, ctx context.Context, r *rand.Rand, g *Group) {
	t.Helper()
	tx := g.Begin()
	randomChange(t, r, tx)
	if err := g.Commit(ctx, tx, nil, "go on"); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, ctx, g)
}

// TestCreate_crashAnywhere crashes the making of a group: there is none, or the whole one.
func TestCreate_crashAnywhere(t *testing.T) {
	t.Parallel()
	ctx, r := testContext(t), rand.New(rand.NewPCG(1, 3))
	base := blockdev.NewMem(8<<20, 512)
	old := smallGroup(t, ctx, base) // an older group on the same device, to be replaced
	mem := base.Clone()
	rec := faulty.NewRecorder(mem)
	o := smallOptions(rec)
	o.Force = true
	g, err := Create(ctx, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	crashStates(r, rec, base, func(what string, m *blockdev.Mem) {
		crashed, err := Open(ctx, []blockdev.Device{m})
		switch {
		case err != nil:
			seen["none"]++
		case crashed.VG().ID == g.VG().ID:
			seen["new"]++
		case crashed.VG().ID == old.VG().ID:
			seen["old"]++
		}
		o := smallOptions(m)
		o.Force = true
		if _, err := Create(ctx, o, nil); err != nil {
			t.Errorf("%s: create again: %v", what, err)
		}
	})
	if seen["none"] == 0 || seen["new"] == 0 || seen["old"] == 0 {
		t.Errorf("states seen: %v", seen)
	}
}

// lazy is a device with a planted bug: it changes the order or the flushes of what is written to it.
type lazy struct {
	blockdev.Device
	noFlush bool
	late    func(n int64) bool // writes of this size are held back until the next but two
	held    []func(context.Context) error
	since   int
}

func (l *lazy) Flush(ctx context.Context) error {
	if l.noFlush {
		return nil
	}
	return l.Device.Flush(ctx)
}

func (l *lazy) WriteAt(ctx context.Context, p []byte, off int64) error {
	if l.late != nil && l.late(int64(len(p))) {
		p = bytes.Clone(p)
		l.held = append(l.held, func(ctx context.Context) error { return l.Device.WriteAt(ctx, p, off) })
		return nil
	}
	if err := l.Device.WriteAt(ctx, p, off); err != nil {
		return err
	}
	if l.since++; l.since%2 == 0 { // both header writes of a one-area commit are out
		for _, f := range l.held {
			if err := f(ctx); err != nil {
				return err
			}
		}
		l.held = nil
	}
	return nil
}

// TestCrash_plantedBugs shows that the crash test finds a commit that forgets to flush, one that writes the text
// last, and one that overwrites the committed text.
func TestCrash_plantedBugs(t *testing.T) {
	t.Parallel()
	bugs := map[string]func(rec *faulty.Recorder, g *Group) blockdev.Device{
		"no flush": func(rec *faulty.Recorder, _ *Group) blockdev.Device { return &lazy{Device: rec, noFlush: true} },
		"text last": func(rec *faulty.Recorder, _ *Group) blockdev.Device {
			return &lazy{Device: rec, late: func(n int64) bool { return n > 512 }}
		},
		"in place": func(rec *faulty.Recorder, _ *Group) blockdev.Device { return &inPlace{Device: rec} },
		"none":     func(rec *faulty.Recorder, _ *Group) blockdev.Device { return rec },
	}
	for name, plant := range bugs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if found := findCrash(t, plant); found == (name == "none") {
				t.Errorf("bug %q: found is %v", name, found)
			}
		})
	}
}

// findCrash commits through a planted bug and tells whether some crash leaves neither the old nor the new state.
func findCrash(t *testing.T, plant func(*faulty.Recorder, *Group) blockdev.Device) bool {
	ctx, r := testContext(t), rand.New(rand.NewPCG(9, 9))
	mem := blockdev.NewMem(8<<20, 512)
	g := smallGroup(t, ctx, mem)
	tx := g.Begin()
	if _, err := tx.CreateLV("first", 1<<20, LVOptions{Tags: []string{"A"}}); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "first"); err != nil {
		t.Fatal(err)
	}
	oneArea(t, g, mem)
	base, before := mem.Clone(), g.VG()
	rec := faulty.NewRecorder(mem)
	g, err := Open(ctx, []blockdev.Device{plant(rec, g)})
	if err != nil {
		t.Fatal(err)
	}
	tx = g.Begin()
	if _, err := tx.CreateLV("second", 1<<20, LVOptions{Tags: []string{"B"}}); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "second"); err != nil {
		t.Fatal(err)
	}
	found := false
	for range 20 {
		crashStates(r, rec, base, func(_ string, m *blockdev.Mem) {
			if _, err := judge(ctx, m, before, g.VG()); err != nil {
				found = true
			}
		})
	}
	return found
}

// oneArea takes the second metadata area out of use, so that no second copy hides a bug.
func oneArea(t *testing.T, g *Group, mem *blockdev.Mem) {
	t.Helper()
	m := g.cur.Load().mdasInUse()[1]
	h := *m.head
	h.slots[0].slotFlag = slotIgnored
	mem.SetBytes(m.area.off, h.encode())
}

// inPlace is a device with a planted bug: texts go where the committed one is, whatever the commit computed, and the
// headers follow them there.
type inPlace struct {
	blockdev.Device
	at int64
}

func (d *inPlace) WriteAt(ctx context.Context, p []byte, off int64) error {
	if len(p) > mdaHeader {
		h, err := decodeMDA(must(readRange(ctx, d.Device, 1e9, firstMDA, mdaHeader)), byteRange{firstMDA, smallMDA})
		if err != nil {
			return err
		}
		d.at = h.slots[0].offset
		return d.Device.WriteAt(ctx, p, firstMDA+d.at)
	}
	if h, err := decodeMDA(p, byteRange{firstMDA, smallMDA}); err == nil {
		for i := range h.slots {
			if !h.slots[i].empty() {
				h.slots[i].offset = d.at
			}
		}
		p = h.encode()
	}
	return d.Device.WriteAt(ctx, p, off)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestCommit_writes pins down what a commit costs: per area one text and two headers, two flushes per device.
func TestCommit_writes(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	rec := faulty.NewRecorder(blockdev.NewMem(8<<20, 512))
	g := smallGroup(t, ctx, rec)
	rec.Reset()
	tx := g.Begin()
	if _, err := tx.CreateLV("a", 1, LVOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "count"); err != nil {
		t.Fatal(err)
	}
	s := rec.Stats()
	if s.Writes != 6 || s.Flushes != 2 || s.Reads != 2 || s.ReadBytes != 2*512 {
		t.Errorf("commit took %+v", s)
	}
	var ops []faulty.Op
	for _, e := range rec.Log() {
		ops = append(ops, e.Op)
	}
	slices.Sort(ops[2:5]) // the flush of the texts and the precommitted slots come in any order
	if want := []faulty.Op{faulty.Write, faulty.Write, faulty.Write, faulty.Write, faulty.Flush, faulty.Write, faulty.Write, faulty.Flush}; !slices.Equal(ops, want) {
		t.Errorf("order is %v", ops)
	}
}
