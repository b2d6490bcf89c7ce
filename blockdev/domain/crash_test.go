package domain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/blockdev/qcow2"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// step is one change of a history, with its place in the recorder's log: before begin it cannot have happened, from
// end on it must have.
type step struct {
	create     *VolumeSpec
	remove     string
	begin, end int
}

// history is a recorded run: what the LUN was like before, what was written, and what was asked for.
type history struct {
	base  *blockdev.Mem
	rec   *faulty.Recorder
	steps []step
	fixed []string // volumes that were there before and stay
}

// layer is put between recorder and domain to plant a bug.
type layer func(blockdev.Device) blockdev.Device

// record runs a history on a used LUN: deleted volumes, stale headers and noise lie where new volumes will go.
func record(t *testing.T, bug layer) *history {
	t.Helper()
	lun := blockdev.NewMem(lunSize, 512)
	w := writer(t, newDomain(t, lun))
	h := &history{fixed: []string{volID(0)}}
	create(t, w, qcow(0))
	for n := 90; n < 99; n++ {
		create(t, w, qcow(n))
	}
	for n := 90; n < 99; n++ {
		if err := w.Delete(deadline(t), volID(n)); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	soil(t, openDomain(t, lun))
	h.base = lun.Clone()
	h.rec = faulty.NewRecorder(lun)
	var top blockdev.Device = h.rec
	if bug != nil {
		top = bug(top)
	}
	d := openDomain(t, top)
	w = writer(t, d)
	h.play(t, w)
	_ = w.Close()
	return h
}

// soil writes noise into the lease areas and extents that the next volumes get.
func soil(t *testing.T, d *Domain) {
	t.Helper()
	leases, err := d.group.Device("leases")
	if err != nil {
		t.Fatal(err)
	}
	noise := bytes.Repeat([]byte("noise..."), 1024)
	for slot := 2; slot < 12; slot++ {
		for _, at := range []int64{1024, 512 * 1024, mib - 8192} {
			if err := leases.WriteAt(deadline(t), noise, d.geometry().leaseOffset(slot)+at); err != nil {
				t.Fatal(err)
			}
		}
	}
	dev, at, err := d.group.Locate(volID(0), 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := int64(1); n < 12; n++ {
		if err := dev.WriteAt(deadline(t), bytes.Repeat(noise, 64), at+n*128*mib); err != nil {
			t.Fatal(err)
		}
	}
}

// do carries out steps at once and notes what the recorder saw meanwhile.
func (h *history) do(t *testing.T, w *Writer, steps ...step) {
	t.Helper()
	begin := h.rec.Len()
	var wg sync.WaitGroup
	for i := range steps {
		wg.Go(func() {
			var err error
			if s := steps[i]; s.create != nil {
				_, err = w.Create(deadline(t), *s.create)
			} else {
				err = w.Delete(deadline(t), s.remove)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range steps {
		steps[i].begin, steps[i].end = begin, h.rec.Len()
	}
	h.steps = append(h.steps, steps...)
}

func (h *history) play(t *testing.T, w *Writer) {
	t.Helper()
	make1 := func(s VolumeSpec) step { return step{create: &s} }
	top := qcow(1)
	top.ID, top.Parent = volID(2), volID(1)
	raw := VolumeSpec{ID: volID(3), Image: imgID(3), Name: "raw", Format: FormatRaw, Capacity: 200 * mib}
	h.do(t, w, make1(qcow(1)))
	h.do(t, w, make1(top))
	h.do(t, w, make1(raw))
	h.do(t, w, step{remove: volID(2)})
	h.do(t, w, make1(qcow(4)), make1(qcow(5)), make1(qcow(6)), step{remove: volID(3)})
	h.do(t, w, make1(qcow(7)))
}

// judge recovers one state as the next SPM would, and returns what is wrong with it.
func (h *history) judge(ctx context.Context, state *blockdev.Mem, n int) (problems []error) {
	devs := []blockdev.Device{state}
	d, err := Open(ctx, devs, testOptions())
	if err != nil {
		return []error{fmt.Errorf("open: %w", err)}
	}
	w, _, err := d.BecomeWriter(ctx, openGuard{epoch: 4})
	if err != nil {
		return []error{fmt.Errorf("recovery: %w", err)}
	}
	defer func() { _ = w.Close() }()
	problems = append(problems, h.judgeSteps(ctx, d, n)...)
	if _, err := w.Create(ctx, qcow(50)); err != nil {
		problems = append(problems, fmt.Errorf("create after recovery: %w", err))
	}
	again, err := Open(ctx, devs, testOptions())
	if err != nil {
		return append(problems, fmt.Errorf("open after recovery: %w", err))
	}
	findings, err := Check(ctx, again)
	problems = append(problems, err)
	for _, f := range findings {
		problems = append(problems, errors.New(f.String()))
	}
	return slices.DeleteFunc(problems, func(err error) bool { return err == nil })
}

// judgeSteps holds the volumes against what was promised when the crash came.
func (h *history) judgeSteps(ctx context.Context, d *Domain, n int) (problems []error) {
	must, may := map[string]bool{}, map[string]bool{}
	for _, id := range h.fixed {
		must[id], may[id] = true, true
	}
	for _, s := range h.steps {
		switch {
		case s.create != nil && s.begin < n:
			may[s.create.ID] = true
			must[s.create.ID] = s.end <= n
		case s.create == nil && s.begin < n:
			must[s.remove] = false
			may[s.remove] = s.end > n
		}
	}
	for _, v := range d.Volumes() {
		if !may[v.ID] {
			problems = append(problems, fmt.Errorf("volume %s should not be there", v.ID))
		}
		delete(must, v.ID)
		if v.Format == FormatQcow2 {
			problems = append(problems, readHeader(ctx, d, v))
		}
	}
	for id, needed := range must {
		if needed {
			problems = append(problems, fmt.Errorf("volume %s was promised and is gone", id))
		}
	}
	return problems
}

func readHeader(ctx context.Context, d *Domain, v Volume) error {
	dev, err := d.Device(v.ID)
	if err != nil {
		return err
	}
	hd, err := qcow2.ReadHeader(ctx, dev)
	if err == nil && (hd.Size != v.Capacity || hd.BackingName != v.Parent) {
		err = fmt.Errorf("qcow2 header %+v", hd)
	}
	return err
}

// states calls f with every state that a crash could have left: each prefix, each prefix with the next write torn,
// and with writes that no flush had made durable lost in several combinations.
func (h *history) states(short bool, f func(name string, n int, state func() *blockdev.Mem)) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := 0; n <= h.rec.Len(); n++ {
		f(fmt.Sprintf("prefix %d", n), n, func() *blockdev.Mem { return h.rec.Replay(h.base, n, 0) })
		total := h.rec.Sectors(n)
		for _, torn := range slices.Compact([]int{1, total / 2, total - 1}) {
			if torn > 0 && torn < total && !(short && torn != 1) {
				f(fmt.Sprintf("prefix %d and %d of %d sectors", n, torn, total), n, func() *blockdev.Mem { return h.rec.Replay(h.base, n, torn) })
			}
		}
		for k := range 3 {
			if len(h.rec.Volatile(n)) == 0 || short && k > 0 {
				break
			}
			p := rnd.Float64()
			f(fmt.Sprintf("prefix %d, lost writes %d", n, k), n, func() *blockdev.Mem {
				return h.rec.ReplayKeep(h.base, n, func(int) bool { return rnd.Float64() < p })
			})
		}
	}
}

func TestCrash_everyPrefix(t *testing.T) {
	t.Parallel()
	h := record(t, nil)
	count := 0
	h.states(testing.Short(), func(name string, n int, state func() *blockdev.Mem) {
		count++
		if problems := h.judge(deadline(t), state(), n); len(problems) > 0 {
			t.Errorf("%s: %v", name, errors.Join(problems...))
		}
	})
	t.Logf("%d writes, %d states", h.rec.Len(), count)
}

// TestCrash_judgedByTools shows a sample of the states, as the crash left them and recovered, to LVM and qemu-img.
func TestCrash_judgedByTools(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "lvm", "qemu-img", "e2fsck")
	h := record(t, nil)
	count := 0
	h.states(false, func(name string, n int, state func() *blockdev.Mem) {
		if count++; count%50 != 7 {
			return
		}
		t.Run(name, func(t *testing.T) {
			lun := state()
			file := filepath.Join(t.TempDir(), "lun")
			if err := lun.WriteFile(file); err != nil {
				t.Fatal(err)
			}
			newJudges(t, file).lvm("vgck", testDomain) // may warn of a lagging copy, must not fail
			if problems := h.judge(deadline(t), lun, n); len(problems) > 0 {
				t.Error(errors.Join(problems...))
			}
			file += "-recovered"
			if err := lun.WriteFile(file); err != nil {
				t.Fatal(err)
			}
			j := newJudges(t, file)
			if out := j.lvm("vgck", testDomain); out != "" {
				t.Errorf("vgck: %s", out)
			}
			j.volumes(openDomain(t, lun))
		})
	})
}

// late holds writes to a range back until the commit has passed: the bug of writing in the wrong order.
type late struct {
	blockdev.Device
	mu      sync.Mutex
	matches func(off, n int64) bool
	heads   int
	held    []func(context.Context) error
}

func (l *late) WriteAt(ctx context.Context, p []byte, off int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.matches(off, int64(len(p))) {
		data := bytes.Clone(p)
		l.held = append(l.held, func(ctx context.Context) error { return l.Device.WriteAt(ctx, data, off) })
		return nil
	}
	if err := l.Device.WriteAt(ctx, p, off); err != nil {
		return err
	}
	if off != 4096 {
		return nil
	}
	if l.heads++; l.heads%2 == 0 { // the second write to the header commits
		return l.release(ctx)
	}
	return nil
}

func (l *late) release(ctx context.Context) error {
	var errs []error
	for _, f := range l.held {
		errs = append(errs, f(ctx))
	}
	l.held = nil
	return errors.Join(errs...)
}

// noFlush forgets flushes: the bug of trusting the cache.
type noFlush struct{ blockdev.Device }

func (noFlush) Flush(context.Context) error { return nil }

// TestCrash_findsPlantedBugs proves that the crash test sees writes in the wrong order and missing flushes.
func TestCrash_findsPlantedBugs(t *testing.T) {
	t.Parallel()
	const data = 129 * mib
	in := func(from, to int64) layer {
		return func(d blockdev.Device) blockdev.Device {
			return &late{Device: d, matches: func(off, n int64) bool { return off >= data+from && off < data+to }}
		}
	}
	for name, bug := range map[string]layer{
		"metadata after the commit":    in(0, 128*mib),
		"leases after the commit":      in(4*128*mib, 20*128*mib),
		"first bytes after the commit": in(36*128*mib, 100*128*mib),
		"no flush":                     func(d blockdev.Device) blockdev.Device { return noFlush{d} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := record(t, bug)
			found := 0
			h.states(false, func(_ string, n int, state func() *blockdev.Mem) {
				if found == 0 && len(h.judge(deadline(t), state(), n)) > 0 {
					found++
				}
			})
			if found == 0 {
				t.Error("the planted bug was not found")
			}
		})
	}
}

// TestCrash_createDomain crashes the creation of a domain at every write; doing it again must succeed.
func TestCrash_createDomain(t *testing.T) {
	t.Parallel()
	base := blockdev.NewMem(lunSize, 512)
	h := &history{base: base, rec: faulty.NewRecorder(base.Clone())}
	if _, err := Create(deadline(t), testCreateOptions(h.rec)); err != nil {
		t.Fatal(err)
	}
	complete := 0
	h.states(true, func(name string, n int, state func() *blockdev.Mem) {
		lun := state()
		d, err := Open(deadline(t), []blockdev.Device{lun}, testOptions())
		if err == nil {
			complete++
			f, err := Check(deadline(t), d)
			f = slices.DeleteFunc(f, func(f Finding) bool { return f.Where == "volume group" }) // the second area lags
			if err != nil || len(f) > 0 {
				t.Errorf("%s: a domain that opens is incomplete: %v %v", name, f, err)
			}
			return
		}
		o := testCreateOptions(lun)
		if _, err := Create(deadline(t), o); err != nil {
			t.Errorf("%s: open said %v, starting over: %v", name, err, err)
		}
	})
	if complete == 0 {
		t.Error("no state was complete")
	}
}
