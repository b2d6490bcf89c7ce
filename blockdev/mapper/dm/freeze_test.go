package dm

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// extents is a volume of the bench as a process without its volume group is told of it.
func (b *bench) extents(name string) Extents {
	vg := b.group.VG()
	e := Extents{Identity: b.id(name)}
	for _, s := range vg.LV(name).Segments {
		a := s.Areas[0]
		e.Runs = append(e.Runs, Run{Path: b.volume(name).PVs[a.PV], OffsetBytes: vg.PVs[a.PV].PEStart + a.StartPE*vg.ExtentSize, LengthBytes: s.ExtentCount * vg.ExtentSize})
	}
	return e
}

// harmless tells whether no write can pass, now or after a resume by anybody.
func (d simDev) harmless() bool {
	return d.live == nil && d.idle == nil || !d.suspended && d.live.t.fails() && (d.idle == nil || d.idle.t.fails()) || d.suspended && d.idle != nil && d.idle.t.fails()
}

// Extents map what the volume group says, as lvm2 would, and grow.
func TestExtents_sameDevice(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 14)
	m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
	if _, err := m.Activate(ctx, b.extents("a")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.finished("a"), m.Verify(ctx, b.volume("a"))); err != nil {
		t.Error(err)
	}
	b.extend("a", 17)
	if _, err := m.Refresh(ctx, b.extents("a")); err != nil {
		t.Error(err)
	}
	if err := b.finished("a"); err != nil {
		t.Error(err)
	}
	for name, e := range map[string]Extents{
		"behind the device": {Identity: b.id("a"), Runs: []Run{{"/dev/mapper/lun0", 60 * mib, 8 * mib}}},
		"no device":         {Identity: b.id("a"), Runs: []Run{{"/tmp/lun", 0, mib}}},
		"half a sector":     {Identity: b.id("a"), Runs: []Run{{"/dev/mapper/lun0", 100, mib}}},
		"nothing":           {Identity: b.id("a")},
		"no identity":       {Runs: []Run{{"/dev/mapper/lun0", 0, mib}}},
	} {
		if _, err := m.Activate(ctx, e); !errors.Is(err, ErrUnmappable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A device is frozen under its user, and goes on, grown meanwhile, only for who says that nobody had the volume.
func TestMapper_freeze(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 14)
	m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
	if err := m.Freeze(ctx, b.id("a")); err != nil {
		t.Errorf("none: %v", err)
	}
	e := b.extents("a")
	if _, err := m.Activate(ctx, e); err != nil {
		t.Fatal(err)
	}
	b.kernel.change(e.Identity.UUID, func(d *simDev) { d.open = 1 })
	for range 2 {
		if err := m.Freeze(ctx, e.Identity); err != nil {
			t.Fatal(err)
		}
		if d, _ := b.kernel.device(e.Identity.UUID); !d.suspended || !d.harmless() {
			t.Fatalf("%+v", d)
		}
	}
	if _, err := m.Activate(ctx, e); !errors.Is(err, ErrFrozen) {
		t.Errorf("activated under a stranger: %v", err)
	}
	if d, _ := b.kernel.device(e.Identity.UUID); !d.harmless() {
		t.Errorf("the refused one let I/O through: %+v", d)
	}
	b.extend("a", 17)
	e = b.extents("a")
	e.Held = true
	if _, err := m.Activate(ctx, e); err != nil {
		t.Fatal(err)
	}
	if err := b.finished("a"); err != nil {
		t.Error(err)
	}
	// For good: its user gets errors, and nobody else the device before it is closed.
	for _, before := range []func() error{func() error { return m.Freeze(ctx, e.Identity) }, func() error { return nil }} {
		if err := errors.Join(before(), m.Fail(ctx, e.Identity), m.Freeze(ctx, e.Identity), m.Fail(ctx, e.Identity)); err != nil {
			t.Fatal(err)
		}
		if d, _ := b.kernel.device(e.Identity.UUID); d.suspended || !d.live.t.fails() || d.live.t.Bytes() != 17*extent {
			t.Fatalf("%+v", d)
		}
		e.Held = false
		if _, err := m.Activate(ctx, e); !errors.Is(err, ErrFrozen) {
			t.Errorf("cut off, and open: %v", err)
		}
		e.Held = true
		if _, err := m.Activate(ctx, e); err != nil {
			t.Errorf("held: %v", err)
		}
	}
	if err := m.Fail(ctx, e.Identity); err != nil {
		t.Error(err)
	}
	b.kernel.change(e.Identity.UUID, func(d *simDev) { d.open = 0 })
	e.Held = false
	if _, err := m.Activate(ctx, e); err != nil {
		t.Errorf("nobody has it open: %v", err)
	}
	if err := b.finished("a"); err != nil {
		t.Error(err)
	}
}

// freezeCrash dies at a step of Freeze, or of Fail, and then another process does it: it says what was wrong.
func freezeCrash(t *testing.T, step int, after, fail bool, plant func(uint, []byte) bool) (bad []string, reached bool) {
	b := newBench(t)
	b.create("a", 14)
	first := b.mapper(newProcess(b.kernel))
	if err := activateA(b, first); err != nil {
		t.Fatal(err)
	}
	b.kernel.change(b.uuid("a"), func(d *simDev) { d.open = 1 })
	cut := func(m *Mapper) error {
		if fail {
			return m.Fail(deadline(t), b.id("a"))
		}
		return m.Freeze(deadline(t), b.id("a"))
	}
	held := false // I/O was held or failed once: it must never pass again
	b.kernel.watch = func(k *simKernel) {
		for _, d := range k.devs {
			passes := !d.suspended && !d.live.t.fails()
			if passes && held {
				bad = append(bad, "I/O passes again")
			}
			held = held || !passes
		}
	}
	p := newProcess(b.kernel)
	p.dieAt, p.after, p.change = step, after, plant
	err := cut(b.mapper(p))
	if err == nil {
		if d, _ := b.kernel.device(b.uuid("a")); !d.harmless() {
			bad = append(bad, "said to be cut, and is not")
		}
	} else if !p.dead {
		bad = append(bad, err.Error())
	}
	second := newProcess(b.kernel)
	second.change = plant
	if err := cut(b.mapper(second)); err != nil {
		bad = append(bad, "again: "+err.Error())
	}
	if d, _ := b.kernel.device(b.uuid("a")); !d.harmless() {
		bad = append(bad, fmt.Sprintf("is not cut: %+v", d))
	}
	return bad, p.dead
}

func everyFreezeCrash(t *testing.T, fail bool, plant func(uint, []byte) bool) (bad []string, steps int) {
	for step := 0; ; step++ {
		for _, after := range []bool{false, true} {
			b, reached := freezeCrash(t, step, after, fail, plant)
			for _, s := range b {
				bad = append(bad, fmt.Sprintf("step %d, after %t: %s", step, after, s))
			}
			if !reached {
				return bad, step
			}
		}
	}
}

// Whoever cuts a device off may die at any step: the next one finishes it, and nothing passes in between that was held once.
func TestMapper_freeze_crashes(t *testing.T) {
	t.Parallel()
	for _, fail := range []bool{false, true} {
		bad, steps := everyFreezeCrash(t, fail, nil)
		if len(bad) > 0 || steps < 3 {
			t.Errorf("fail %t: %d steps\n%s", fail, steps, strings.Join(bad, "\n"))
		}
	}
}

func TestMapper_freeze_planted(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(cmd uint, _ []byte) bool{
		"nothing waits for the next resume": func(cmd uint, _ []byte) bool { return cmd == unix.DM_TABLE_LOAD },
		"I/O is not held":                   func(cmd uint, _ []byte) bool { return cmd == unix.DM_DEV_SUSPEND },
	} {
		bad, _ := everyFreezeCrash(t, false, plant)
		if len(bad) == 0 {
			t.Errorf("%s: not caught", name)
		}
	}
}
