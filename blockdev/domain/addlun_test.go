package domain

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

func furtherLUN(n int) *blockdev.Mem {
	return blockdev.NewMem(12*gib, 512).Rename(fmt.Sprintf("/dev/mapper/further%d", n))
}

// fillUp creates volumes until the domain is full, and returns how many it took.
func fillUp(t *testing.T, w *Writer, from int) int {
	t.Helper()
	for n := from; ; n++ {
		s := qcow(n)
		s.Capacity, s.InitialSize = 8*gib, 2*gib
		_, err := w.Create(deadline(t), s)
		if errors.Is(err, ErrFull) {
			return n - from
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestWriter_addLUN fills a domain, adds LUNs and fills those.
func TestWriter_addLUN(t *testing.T) {
	t.Parallel()
	devs := []blockdev.Device{blockdev.NewMem(12*gib, 512).Rename("/dev/mapper/first")}
	d := newDomain(t, devs...)
	w := writer(t, d)
	made := fillUp(t, w, 0)
	for n := range 3 {
		before, lun := d.Info(), furtherLUN(n)
		asked := ""
		info, err := w.AddLUN(deadline(t), LUN{Device: lun, Seen: func(_ context.Context, pv string) error { asked = pv; return nil }})
		if err != nil {
			t.Fatal(err)
		}
		devs = append(devs, lun)
		if info.Free-before.Free != 93*128*mib || info.Size-before.Size != 93*128*mib || info.Seqno != before.Seqno+1 {
			t.Errorf("from %+v to %+v", before, info)
		}
		if pv := d.group.VG().PVs[n+1]; asked != pv.ID || info.LUNs[n+1] != lun.Name() || !strings.HasPrefix(d.Keys()[fmt.Sprint("PV", n+1)], "pv:further"+fmt.Sprint(n)+",uuid:"+pv.ID) {
			t.Errorf("asked about %s; %v", asked, d.Keys())
		}
		more := fillUp(t, w, made)
		if made += more; more < 4 {
			t.Errorf("only %d further volumes", more)
		}
		mustBeClean(t, devs...)
	}
	if lock, off, err := d.Lockspace(); err != nil || lock != devs[0] || off != 129*mib+128*mib {
		t.Errorf("the lockspace moved: %v %d %v", lock, off, err)
	}
	_ = w.Close()
	slices.Reverse(devs)
	if got := len(openDomain(t, devs...).Volumes()); got != made {
		t.Errorf("%d volumes, made %d", got, made)
	}
}

// TestWriter_addLUN_refused gives LUNs that must not join. The domain and the LUN stay as they were.
func TestWriter_addLUN_refused(t *testing.T) {
	t.Parallel()
	first := blockdev.NewMem(lunSize, 512).Rename("first")
	d := newDomain(t, first)
	w := writer(t, d)
	other := furtherLUN(1)
	o := testCreateOptions(other)
	o.UUID = "9adbc85e-e554-4ae0-b318-8a5465fe5fe1"
	if _, err := Create(deadline(t), o); err != nil {
		t.Fatal(err)
	}
	xfs := furtherLUN(2)
	xfs.SetBytes(0, []byte("XFSB\x00\x00\x10\x00"))
	hidden := errors.New("h3 does not see it")
	for name, c := range map[string]struct {
		lun  LUN
		want error
	}{
		"part of it":     {LUN{Device: first}, ErrMember},
		"another path":   {LUN{Device: first.Clone().Rename("alias")}, ErrMember},
		"another domain": {LUN{Device: other}, ErrInUse},
		"file system":    {LUN{Device: xfs, Force: "ext4"}, ErrInUse},
		"sectors":        {LUN{Device: blockdev.NewMem(12*gib, 4096)}, ErrInvalid},
		"small":          {LUN{Device: blockdev.NewMem(300*mib, 512)}, ErrTooSmall},
		"hosts":          {LUN{Device: furtherLUN(3), Seen: func(context.Context, string) error { return hidden }}, hidden},
	} {
		seqno := d.Info().Seqno
		if _, err := w.AddLUN(deadline(t), c.lun); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if d.Info().Seqno != seqno {
			t.Errorf("%s: the domain was changed", name)
		}
		if _, err := lvm2.Inspect(deadline(t), c.lun.Device); name == "hosts" && !errors.Is(err, lvm2.ErrNotPV) {
			t.Errorf("the label was left on the LUN: %v", err)
		}
	}
	if xfs.Bytes(0, 4)[0] != 'X' {
		t.Error("refused, but destroyed")
	}
	for _, lun := range []LUN{{Device: xfs, Force: "xfs"}, {Device: other, Force: o.UUID}} {
		if _, err := w.AddLUN(deadline(t), lun); err != nil {
			t.Errorf("forced: %v", err)
		}
	}
	mustBeClean(t, first, xfs, other)
}

func TestWriter_addLUN_tenLUNs(t *testing.T) {
	t.Parallel()
	w := writer(t, newDomain(t))
	for n := range maxDevices - 1 {
		if _, err := w.AddLUN(deadline(t), LUN{Device: furtherLUN(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.AddLUN(deadline(t), LUN{Device: furtherLUN(99)}); !errors.Is(err, ErrInvalid) {
		t.Errorf("the eleventh: %v", err)
	}
}

// TestWriter_addLUN_leaseLost lets the right to write end at each write. The domain never changes without it.
func TestWriter_addLUN_leaseLost(t *testing.T) {
	t.Parallel()
	for left := range 60 {
		first, lun := blockdev.NewMem(lunSize, 512).Rename("first"), furtherLUN(1)
		lun.SetBytes(0, []byte("XFSB\x00\x00\x10\x00"))
		d := newDomain(t, first)
		asked := 0
		w, _, err := d.BecomeWriter(deadline(t), openGuard{epoch: 3, closed: func() bool { asked++; return asked > left }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.AddLUN(deadline(t), LUN{Device: lun, Force: "xfs"})
		_ = w.Close()
		if err == nil {
			if left < 10 {
				t.Errorf("%d looks at the guard were enough", left)
			}
			return
		}
		if !errors.Is(err, blockdev.ErrLeaseLost) {
			t.Errorf("after %d looks: %v", left, err)
		}
		if !errors.Is(err, ErrOutcomeUnknown) && len(openDomain(t, first).Info().LUNs) != 1 {
			t.Errorf("after %d looks the domain has changed", left)
		}
	}
	t.Error("never enough")
}

// TestWriter_addLUN_unknownOutcome lets the commit hang, and refreshes in both worlds.
func TestWriter_addLUN_unknownOutcome(t *testing.T) {
	t.Parallel()
	for _, lands := range []bool{true, false} {
		t.Run(fmt.Sprint("lands ", lands), func(t *testing.T) {
			t.Parallel()
			mem, second := blockdev.NewMem(lunSize, 512).Rename("first"), furtherLUN(1)
			lun := faulty.New(mem)
			newDomain(t, mem)
			o := testOptions()
			o.IOTimeout = 200 * time.Millisecond
			d, err := Open(deadline(t), []blockdev.Device{lun}, o)
			if err != nil {
				t.Fatal(err)
			}
			w := writer(t, d)
			lun.Inject(faulty.Fault{Ops: faulty.Write, Off: 4096, Len: 512, After: 1, Count: 1, Hang: true})
			if _, err := w.AddLUN(deadline(t), LUN{Device: second}); !errors.Is(err, ErrOutcomeUnknown) {
				t.Fatalf("extend: %v", err)
			}
			if _, err := w.Create(deadline(t), qcow(3)); !errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("in doubt: %v", err)
			}
			if lands {
				lun.Release()
			} else {
				lun.Forget()
			}
			if _, err := w.Refresh(deadline(t)); err != nil {
				t.Fatal(err)
			}
			if n := len(d.Info().LUNs); n != 1+map[bool]int{true: 1}[lands] {
				t.Errorf("%d LUNs", n)
			}
			_, err = w.AddLUN(deadline(t), LUN{Device: second})
			if lands && !errors.Is(err, ErrMember) || !lands && err != nil {
				t.Errorf("again: %v", err)
			}
			create(t, w, qcow(3))
			mustBeClean(t, mem, second)
		})
	}
}

// TestWriter_addLUN_silentLUN: a LUN that hangs before the commit puts nothing of the domain in doubt.
func TestWriter_addLUN_silentLUN(t *testing.T) {
	t.Parallel()
	mem := blockdev.NewMem(lunSize, 512).Rename("first")
	newDomain(t, mem)
	o := testOptions()
	o.IOTimeout = 100 * time.Millisecond
	d, err := Open(deadline(t), []blockdev.Device{mem}, o)
	if err != nil {
		t.Fatal(err)
	}
	w := writer(t, d)
	for after := range 8 {
		lun := faulty.New(furtherLUN(after))
		rule := lun.Inject(faulty.Fault{Ops: faulty.Mutations, After: after, Count: 1, Hang: true})
		_, err = w.AddLUN(deadline(t), LUN{Device: lun})
		if rule.Hits() != 1 || !errors.Is(err, ErrSilentLUN) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("write %d: hits %d, %v", after, rule.Hits(), err)
		}
		lun.Release()
	}
	create(t, w, qcow(1))
	mustBeClean(t, mem)
}

// TestAddLUN_crash crashes the adding of a LUN at every write to either LUN. The next SPM finds the domain as it was, and can add the
// LUN, or the larger one. Mistakes that are planted are found.
func TestAddLUN_crash(t *testing.T) {
	t.Parallel()
	for name, bug := range map[string]layer{
		"":             nil,
		"no flush":     func(d blockdev.Device) blockdev.Device { return noFlush{d} },
		"no label yet": func(d blockdev.Device) blockdev.Device { return &late{Device: d, matches: isLabel} },
	} {
		t.Run("bug="+name, func(t *testing.T) {
			t.Parallel()
			x := recordAddLUN(t, bug)
			count, found := 0, 0
			x.states(func(state string, first, second *blockdev.Mem) {
				if count++; found > 0 && bug != nil {
					return
				}
				if err := x.judge(deadline(t), first, second); err != nil {
					if found++; bug == nil {
						t.Errorf("%s: %v", state, err)
					}
				}
			})
			if bug != nil && found == 0 {
				t.Error("the planted bug was not found")
			}
			if bug == nil && (x.old < 10 || x.new < 3) {
				t.Errorf("%d states, the old domain in %d, the new one in %d", count, x.old, x.new)
			}
		})
	}
}

func isLabel(off, n int64) bool { return off == 512 && n == 512 }

// recorded is an addition whose writes to both LUNs were recorded. Those to the second end before those to the first begin.
type recorded struct {
	first, second       *blockdev.Mem // before
	onFirst, onSecond   *faulty.Recorder
	old, new            int // states seen
	before, after       Info
	keysBefore, keysNow Keys
}

func recordAddLUN(t *testing.T, bug layer) *recorded {
	t.Helper()
	x := &recorded{first: blockdev.NewMem(lunSize, 512).Rename("first"), second: furtherLUN(1)}
	x.second.SetBytes(0, []byte("XFSB\x00\x00\x10\x00"))
	w := writer(t, newDomain(t, x.first))
	create(t, w, qcow(1))
	_ = w.Close()
	x.onFirst, x.onSecond = faulty.NewRecorder(x.first.Clone()), faulty.NewRecorder(x.second.Clone())
	var second blockdev.Device = x.onSecond
	if bug != nil {
		second = bug(second)
	}
	d := openDomain(t, x.onFirst)
	w = writer(t, d)
	x.before, x.keysBefore = d.Info(), d.Keys()
	info, err := w.AddLUN(deadline(t), LUN{Device: second, Force: "xfs"})
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	x.after, x.keysNow = info, d.Keys()
	return x
}

// states calls f with what a crash could leave of both LUNs.
func (x *recorded) states(f func(name string, first, second *blockdev.Mem)) {
	one, two := &history{base: x.first, rec: x.onFirst}, &history{base: x.second, rec: x.onSecond}
	two.states(false, func(name string, _ int, state func() *blockdev.Mem) { f("second: "+name, x.first.Clone(), state()) })
	rnd, all := rand.New(rand.NewPCG(7, 7)), x.onSecond.Len()
	one.states(false, func(name string, _ int, state func() *blockdev.Mem) {
		for k := range min(4, 1+len(x.onSecond.Volatile(all))) {
			f("first: "+name, state(), x.onSecond.ReplayKeep(x.second, all, func(int) bool { return k == 0 || rnd.IntN(2) == 0 }))
		}
	})
}

// judge goes on with a state as the next SPM would.
func (x *recorded) judge(ctx context.Context, first, second *blockdev.Mem) error {
	devs := []blockdev.Device{first}
	d, err := Open(ctx, devs, testOptions())
	if errors.Is(err, lvm2.ErrMissingPV) {
		devs = append(devs, second)
		d, err = Open(ctx, devs, testOptions())
	}
	if err != nil {
		return err
	}
	w, _, err := d.BecomeWriter(ctx, openGuard{epoch: 4})
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	switch n := len(d.Info().LUNs); {
	case n == 1 && d.Info().Free == x.before.Free && fmt.Sprint(d.Keys()) == fmt.Sprint(x.keysBefore):
		x.old++
		force := ""
		if h, err := inspectLUN(ctx, ioCtx(time.Minute), second); err == nil && h.name == "xfs" {
			force = "xfs"
		}
		if _, err := w.AddLUN(ctx, LUN{Device: second, Force: force}); err != nil {
			return fmt.Errorf("adding it again: %w", err)
		}
	case n == 2 && d.Info().Free == x.after.Free && fmt.Sprint(d.Keys()) == fmt.Sprint(x.keysNow):
		x.new++
	default:
		return fmt.Errorf("%d LUNs, %+v", n, d.Info())
	}
	if _, err := w.Create(ctx, qcow(2)); err != nil {
		return err
	}
	again, err := Open(ctx, []blockdev.Device{second, first}, testOptions())
	if err != nil {
		return err
	}
	found, err := Check(ctx, again)
	for _, f := range found {
		err = errors.Join(err, errors.New(f.String()))
	}
	return err
}

// TestReplacePVKeys: numbers without gaps, names that stay, and PV0 where the volume metadata is.
func TestReplacePVKeys(t *testing.T) {
	t.Parallel()
	entry := func(guid, id string, n, at int) string {
		return fmt.Sprintf("pv:%s,uuid:%s,pestart:0,pecount:%d,mapoffset:%d", guid, id, n, at)
	}
	pvs := []lvm2.PV{{ID: "a", Device: "/dev/mapper/aa", PECount: 10}, {ID: "b", Device: "/dev/mapper/bb", PECount: 20}, {ID: "c", Device: "/dev/sd,c", PECount: 30}}
	vg := &lvm2.VG{PVs: pvs}
	for name, c := range map[string]struct{ have, want Keys }{
		"none before":        {Keys{"X": "y"}, Keys{"X": "y", "PV0": entry("aa", "a", 10, 0), "PV1": entry("bb", "b", 20, 10), "PV2": entry("sd_c", "c", 30, 30)}},
		"one added":          {Keys{"PV0": entry("first", "a", 10, 0), "PV1": entry("wwid", "b", 20, 10)}, Keys{"PV0": entry("first", "a", 10, 0), "PV1": entry("wwid", "b", 20, 10), "PV2": entry("sd_c", "c", 30, 30)}},
		"a gap":              {Keys{"PV0": entry("first", "a", 10, 0), "PV3": entry("c,c", "c", 30, 99)}, Keys{"PV0": entry("first", "a", 10, 0), "PV1": entry("c,c", "c", 30, 10), "PV2": entry("bb", "b", 20, 40)}},
		"another order":      {Keys{"PV0": entry("3", "c", 30, 0), "PV1": entry("1", "a", 10, 30)}, Keys{"PV0": entry("1", "a", 10, 0), "PV1": entry("3", "c", 30, 10), "PV2": entry("bb", "b", 20, 40)}},
		"twice, and rubbish": {Keys{"PV0": entry("x", "a", 1, 0), "PV1": entry("y", "a", 1, 0), "PV2": "rubbish", "PV9": entry("gone", "z", 1, 1), "PV01": "no number of ours"}, Keys{"PV01": "no number of ours", "PV0": entry("x", "a", 10, 0), "PV1": entry("bb", "b", 20, 10), "PV2": entry("sd_c", "c", 30, 30)}},
	} {
		c.have.replacePVKeys(vg)
		if fmt.Sprint(c.have) != fmt.Sprint(c.want) {
			t.Errorf("%s:\n%v, want\n%v", name, c.have, c.want)
		}
	}
}

func FuzzPVKeys(f *testing.F) {
	f.Add("PV0", "pv:36001405,uuid:AFYnIh-2Sa7-Z7cs-ecHr-otVe-9VEG-BIQ6gg,pestart:0,pecount:77,mapoffset:0")
	f.Add("PV12", "pv:a,uuid:,uuid:b,")
	f.Add("PV-1", "pv:")
	f.Add("PV00", ",uuid:x")
	f.Fuzz(func(t *testing.T, key, value string) {
		k := Keys{key: value, "VERSION": "5"}
		vg := &lvm2.VG{PVs: []lvm2.PV{{ID: "a", Device: "x", PECount: 3}, {ID: "b", Device: "y", PECount: 4}}}
		k.replacePVKeys(vg)
		first := fmt.Sprint(k)
		if k.replacePVKeys(vg); fmt.Sprint(k) != first {
			t.Errorf("a second time: %v, first %v", k, first)
		}
		if _, _, ok := parsePVKey(k["PV0"]); !ok || k["PV1"] == "" || k["VERSION"] == "" {
			t.Errorf("%v", k)
		}
	})
}
