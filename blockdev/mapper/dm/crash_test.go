package dm

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// crashCase is an operation that may die at any step.
type crashCase struct {
	name  string
	setup func(b *bench, m *Mapper)
	op    func(b *bench, m *Mapper) error
	gone  bool // afterwards there is no device
}

var crashCases = []crashCase{
	{name: "activate", setup: func(*bench, *Mapper) {}, op: activateA},
	{name: "refresh", setup: func(b *bench, m *Mapper) {
		if err := activateA(b, m); err != nil {
			b.t.Fatal(err)
		}
		b.kernel.change(b.uuid("a"), func(d *simDev) { d.open = 1 }) // a guest
		b.extend("a", 17)
	}, op: func(b *bench, m *Mapper) error {
		_, err := m.Refresh(deadline(b.t), b.volume("a"))
		return err
	}},
	{name: "deactivate", gone: true, setup: func(b *bench, m *Mapper) {
		if err := activateA(b, m); err != nil {
			b.t.Fatal(err)
		}
	}, op: func(b *bench, m *Mapper) error { return m.Deactivate(deadline(b.t), b.id("a")) }},
}

func activateA(b *bench, m *Mapper) error {
	_, err := m.Activate(deadline(b.t), b.volume("a"))
	return err
}

// moments judges every state of the kernel between two ioctls, where a death may leave it for good: a device that is in
// use is not suspended, and maps nothing but a beginning of what the metadata gives the volume.
func (b *bench) moments(bad *[]string) {
	want, err := b.mapper(newProcess(b.kernel)).plan(b.volume("a"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.kernel.watch = func(k *simKernel) {
		for _, d := range k.devs {
			if d.suspended {
				*bad = append(*bad, "suspended between two ioctls")
			}
			if d.live != nil && !want.table.beginsWith(d.live.t) {
				*bad = append(*bad, fmt.Sprintf("maps what the metadata does not give it:\n%v", d.live.t))
			}
		}
	}
}

// crash runs an operation that dies at a step, then a new life that recovers and does it again. It returns what was wrong
// and whether the step was reached at all.
func crash(t testing.TB, c crashCase, step int, after bool, plant func(cmd uint, buf []byte) bool) (bad []string, reached bool) {
	b := newBench(t)
	b.create("a", 14)
	c.setup(b, b.mapper(newProcess(b.kernel)))
	b.moments(&bad)
	p := newProcess(b.kernel)
	p.dieAt, p.after, p.change = step, after, plant
	err := c.op(b, b.mapper(p))
	if !p.dead && err != nil {
		return append(bad, err.Error()), false
	}
	second := newProcess(b.kernel)
	second.change = plant
	m := b.mapper(second)
	if err := m.Recover(deadline(t), b.group.VG(), b.volume("a").PVs); err != nil {
		bad = append(bad, "recover: "+err.Error())
	}
	if d, ok := b.kernel.device(b.uuid("a")); ok && (d.suspended || d.idle != nil || d.live == nil) {
		bad = append(bad, "recovery left it unfinished")
	}
	if err := c.op(b, m); err != nil {
		bad = append(bad, "again: "+err.Error())
	}
	return append(bad, b.outcome(c)...), p.dead
}

// outcome judges the end.
func (b *bench) outcome(c crashCase) (bad []string) {
	if !c.gone {
		if err := b.finished("a"); err != nil {
			bad = append(bad, err.Error())
		}
		return bad
	}
	if _, ok := b.kernel.device(b.uuid("a")); ok {
		bad = append(bad, "the device is still there")
	}
	if _, err := readNode(b.dir + "/vg--one-a"); err == nil {
		bad = append(bad, "the node is still there")
	}
	return bad
}

// everyCrash tries all steps, each before and after it takes effect.
func everyCrash(t testing.TB, c crashCase, plant func(cmd uint, buf []byte) bool) (bad []string, steps int) {
	for step := 0; ; step++ {
		for _, after := range []bool{false, true} {
			b, reached := crash(t, c, step, after, plant)
			for _, s := range b {
				bad = append(bad, fmt.Sprintf("step %d, after %t: %s", step, after, s))
			}
			if !reached {
				return bad, step
			}
		}
	}
}

func TestMapper_crashAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, c := range crashCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bad, steps := everyCrash(t, c, nil)
			for _, s := range bad {
				t.Error(s)
			}
			if steps < 2 {
				t.Errorf("only %d steps", steps)
			}
		})
	}
}

// Each planted bug must be noticed by the checks above.
func TestMapper_crashCatchesPlantedBugs(t *testing.T) {
	t.Parallel()
	refresh := crashCases[1]
	for name, plant := range map[string]func(*simKernel) func(cmd uint, buf []byte) bool{
		"suspends in an ioctl of its own": func(k *simKernel) func(uint, []byte) bool {
			return func(cmd uint, buf []byte) bool {
				if cmd == unix.DM_TABLE_LOAD {
					suspendNow(k)
				}
				return false
			}
		},
		"forgets to load": func(*simKernel) func(uint, []byte) bool {
			return func(cmd uint, _ []byte) bool { return cmd == unix.DM_TABLE_LOAD }
		},
		"forgets to resume": func(*simKernel) func(uint, []byte) bool {
			return func(cmd uint, _ []byte) bool { return cmd == unix.DM_DEV_SUSPEND }
		},
		"loads another extent": func(*simKernel) func(uint, []byte) bool {
			return func(cmd uint, buf []byte) bool {
				if cmd == unix.DM_TABLE_LOAD {
					shiftOffset(buf)
				}
				return false
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if bad := refreshWith(t, refresh, plant); len(bad) == 0 {
				t.Error("not noticed")
			}
		})
	}
}

// refreshWith runs the operation once, with a bug, and no crash.
func refreshWith(t testing.TB, c crashCase, plant func(*simKernel) func(uint, []byte) bool) (bad []string) {
	b := newBench(t)
	b.create("a", 14)
	c.setup(b, b.mapper(newProcess(b.kernel)))
	b.moments(&bad)
	p := newProcess(b.kernel)
	p.change = plant(b.kernel)
	if err := c.op(b, b.mapper(p)); err != nil {
		bad = append(bad, err.Error())
	}
	return append(bad, b.outcome(c)...)
}

func suspendNow(k *simKernel) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range k.devs {
		d.suspended = true
	}
	k.watch(k)
}

// shiftOffset changes the last digit of the first target's place.
func shiftOffset(buf []byte) {
	at := headerSize + targetSize
	for buf[at+1] != 0 {
		at++
	}
	buf[at] = '0' + (buf[at]-'0'+8)%10
}

// What lvm2 leaves when it dies between its suspend and its resume is put right: the committed metadata decides, not the
// table that waits.
func TestMapper_recoversOthersCrash(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 2)
	b.create("c", 1)
	m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
	for _, name := range []string{"a", "c"} {
		if _, err := m.Activate(ctx, b.volume(name)); err != nil {
			t.Fatal(err)
		}
	}
	gone := b.uuid("c")
	b.commit("remove", func(tx *lvm2.Tx) error { return tx.RemoveLV("c") })
	for _, uuid := range []string{b.uuid("a"), gone} {
		b.kernel.change(uuid, func(d *simDev) {
			d.open, d.suspended = 1, true
			d.idle = &simTable{t: Table{{Length: 3 * 8192, Dev: Number{254, 16}, Offset: 8192}}}
		})
	}
	if err := m.Recover(ctx, b.group.VG(), b.volume("a").PVs); err != nil {
		t.Fatal(err)
	}
	if err := b.finished("a"); err != nil {
		t.Error(err)
	}
	if d, ok := b.kernel.device(gone); !ok || d.suspended || d.idle != nil || len(d.live.t) != 1 || d.live.t[0].Dev.Minor != 0 {
		t.Errorf("the removed volume's device: %+v", d)
	}
}
