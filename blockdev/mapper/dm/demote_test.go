package dm

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// demoted is a volume as a snapshot leaves it: for reading, under whoever has it open.
func (b *bench) demoted(name string) Extents {
	e := b.extents(name)
	e.ReadOnly, e.Demoted = true, true
	return e
}

// forReading judges a device that is demoted: it maps what it mapped, I/O flows, and the kernel refuses writes.
func (b *bench) forReading(name string) error {
	if err := b.finished(name); err != nil {
		return err
	}
	if d, _ := b.kernel.device(b.uuid(name)); !d.ro || d.live.ro != d.ro {
		return errors.New("it can be written")
	}
	return nil
}

// A device becomes one for reading under its user, who is never held for good and never fails; only where it is said that the user reads.
func TestMapper_demote(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 14)
	m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
	if _, err := m.Refresh(ctx, b.demoted("a")); !errors.Is(err, ErrNotActive) {
		t.Errorf("no device: %v", err)
	}
	if _, err := m.Activate(ctx, b.extents("a")); err != nil {
		t.Fatal(err)
	}
	b.kernel.change(b.uuid("a"), func(d *simDev) { d.open = 1 })
	e := b.demoted("a")
	e.Demoted = false
	if _, err := m.Refresh(ctx, e); !errors.Is(err, ErrOpen) {
		t.Errorf("under somebody who may write: %v", err)
	}
	if d, _ := b.kernel.device(b.uuid("a")); d.ro || d.suspended || d.idle != nil {
		t.Errorf("the refused one changed it: %+v", d)
	}
	for range 2 {
		d, err := m.Refresh(ctx, b.demoted("a"))
		if err != nil || !d.ReadOnly {
			t.Fatalf("%+v, %v", d, err)
		}
		if err := b.forReading("a"); err != nil {
			t.Fatal(err)
		}
	}
	// Frozen by the one who cuts devices off, it does not go on by itself; what it maps is still right when it may.
	if err := m.Freeze(ctx, b.id("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Refresh(ctx, b.demoted("a")); !errors.Is(err, ErrFrozen) {
		t.Errorf("demoted while frozen: %v", err)
	}
	if d, _ := b.kernel.device(b.uuid("a")); !d.harmless() || !d.ro {
		t.Errorf("frozen: %+v", d)
	}
	e = b.demoted("a")
	e.Held = true
	if _, err := m.Activate(ctx, e); err != nil {
		t.Error(err)
	}
	if err := b.forReading("a"); err != nil {
		t.Error(err)
	}
}

// demoteCrash dies at a step of a demotion, and another process does it again: it says what was wrong.
func demoteCrash(t *testing.T, step int, after bool, plant func(uint, []byte) bool) (bad []string, reached bool) {
	b := newBench(t)
	b.create("a", 14)
	if _, err := b.mapper(newProcess(b.kernel)).Activate(deadline(t), b.extents("a")); err != nil {
		t.Fatal(err)
	}
	b.kernel.change(b.uuid("a"), func(d *simDev) { d.open = 1 })
	readOnly := false
	b.kernel.watch = func(k *simKernel) {
		for _, d := range k.devs {
			switch {
			case d.suspended:
				bad = append(bad, "I/O is held")
			case d.live == nil || d.live.t.fails():
				bad = append(bad, "I/O fails")
			case readOnly && !d.ro:
				bad = append(bad, "it can be written again")
			}
			readOnly = readOnly || d.ro
		}
	}
	p := newProcess(b.kernel)
	p.dieAt, p.after, p.change = step, after, plant
	for _, life := range []*process{p, newProcess(b.kernel)} {
		life.change = plant
		_, err := b.mapper(life).Refresh(deadline(t), b.demoted("a"))
		if err == nil {
			err = b.forReading("a")
		}
		if err != nil && !life.dead {
			bad = append(bad, err.Error())
		}
	}
	return bad, p.dead
}

func everyDemoteCrash(t *testing.T, plant func(uint, []byte) bool) (bad []string, steps int) {
	for step := 0; ; step++ {
		for _, after := range []bool{false, true} {
			b, reached := demoteCrash(t, step, after, plant)
			for _, s := range b {
				bad = append(bad, fmt.Sprintf("step %d, after %t: %s", step, after, s))
			}
			if !reached {
				return bad, step
			}
		}
	}
}

// Whoever demotes a device may die at any step: its user reads on, and the next one finishes it.
func TestMapper_demote_crashes(t *testing.T) {
	t.Parallel()
	bad, steps := everyDemoteCrash(t, nil)
	if len(bad) > 0 || steps < 3 {
		t.Errorf("%d steps\n%s", steps, strings.Join(bad, "\n"))
	}
}

func TestMapper_demote_planted(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(cmd uint, b []byte) bool{
		"no table is loaded":  func(cmd uint, _ []byte) bool { return cmd == unix.DM_TABLE_LOAD },
		"it is never resumed": func(cmd uint, _ []byte) bool { return cmd == unix.DM_DEV_SUSPEND },
	} {
		if bad, _ := everyDemoteCrash(t, plant); len(bad) == 0 {
			t.Errorf("%s: not caught", name)
		}
	}
}

// A kernel that leaves the device writable is not believed to have demoted it.
func TestMapper_demote_notTaken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 14)
	if _, err := b.mapper(newProcess(b.kernel)).Activate(deadline(t), b.extents("a")); err != nil {
		t.Fatal(err)
	}
	p := newProcess(b.kernel)
	p.change = func(cmd uint, _ []byte) bool { return cmd == unix.DM_TABLE_LOAD }
	if _, err := b.mapper(p).Refresh(deadline(t), b.demoted("a")); !errors.Is(err, ErrConflict) {
		t.Errorf("%v", err)
	}
}
