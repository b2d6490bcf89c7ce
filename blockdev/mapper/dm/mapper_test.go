package dm

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

func TestMapper_life(t *testing.T) {
	t.Parallel()
	for _, minor := range []uint32{27, 48} { // before and after lists had uuids
		b := newBench(t)
		b.kernel.minor = minor
		b.create("a-b", 14) // all of the first LUN
		b.create("other", 1)
		m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
		if err := m.Verify(ctx, b.volume("a-b")); !errors.Is(err, ErrNotActive) {
			t.Errorf("verify before: %v", err)
		}
		if _, err := m.Refresh(ctx, b.volume("a-b")); !errors.Is(err, ErrNotActive) {
			t.Errorf("refresh before: %v", err)
		}
		d, err := m.Activate(ctx, b.volume("a-b"))
		if err != nil || d.Name != "vg--one-a--b" || d.UUID != b.uuid("a-b") || d.Path != b.dir+"/vg--one-a--b" || !d.Active || d.ReadOnly {
			t.Fatalf("%+v, %v", d, err)
		}
		if err := errors.Join(b.finished("a-b"), m.Verify(ctx, b.volume("a-b"))); err != nil {
			t.Error(err)
		}
		b.extend("a-b", 17)
		if err := m.Verify(ctx, b.volume("a-b")); !errors.Is(err, ErrStale) {
			t.Errorf("verify after growth: %v", err)
		}
		if d, err = m.Refresh(ctx, b.volume("a-b")); err != nil || d.Table.Bytes() != 17*extent {
			t.Fatalf("%+v, %v", d, err)
		}
		if err := b.finished("a-b"); err != nil {
			t.Error(err)
		}
		list, err := m.List(ctx, b.group.VG())
		if err != nil || len(list) != 1 || list[0].UUID != b.uuid("a-b") {
			t.Errorf("%+v, %v", list, err)
		}
		for range 2 {
			if err := m.Deactivate(ctx, b.id("a-b")); err != nil {
				t.Error(err)
			}
		}
		if left, _ := os.ReadDir(b.dir); len(left) != 0 || len(b.kernel.devs) != 0 {
			t.Errorf("left: %v, %v", left, b.kernel.devs)
		}
		if list, err := m.List(ctx, b.group.VG()); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
	}
}

// A refresh with nothing to do asks once and changes nothing.
func TestMapper_refreshOfTheSame(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 2)
	p := newProcess(b.kernel)
	m, ctx := b.mapper(p), deadline(t)
	if _, err := m.Activate(ctx, b.volume("a")); err != nil {
		t.Fatal(err)
	}
	before := p.step
	if _, err := m.Refresh(ctx, b.volume("a")); err != nil || p.step != before+1 {
		t.Errorf("%d steps, %v", p.step-before, err)
	}
}

// Metadata that is older than the device's table must not shorten it under its user.
func TestMapper_olderMetadata(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 2)
	old := b.volume("a")
	b.extend("a", 4)
	m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
	if _, err := m.Activate(ctx, b.volume("a")); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(context.Context, Source) (Device, error){"refresh": m.Refresh, "activate": m.Activate} {
		b.kernel.change(b.uuid("a"), func(d *simDev) { d.suspended, d.idle = true, &simTable{t: d.live.t[:1]} })
		if d, err := f(ctx, old); err != nil || d.Table.Bytes() != 4*extent {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
		if err := b.finished("a"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.Verify(ctx, old); err != nil {
		t.Error(err)
	}
}

// A device that maps something else is never changed under its user, and is put right when it has none.
func TestMapper_conflict(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 2)
	m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
	if _, err := m.Activate(ctx, b.volume("a")); err != nil {
		t.Fatal(err)
	}
	b.kernel.change(b.uuid("a"), func(d *simDev) {
		d.live, d.open = &simTable{t: Table{{Length: 8192, Dev: Number{254, 16}, Offset: 8192}}}, 1
	})
	for name, f := range map[string]func(context.Context, Source) (Device, error){"refresh": m.Refresh, "activate": m.Activate} {
		if _, err := f(ctx, b.volume("a")); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.Verify(ctx, b.volume("a")); !errors.Is(err, ErrConflict) {
		t.Errorf("verify: %v", err)
	}
	if d, _ := b.kernel.device(b.uuid("a")); len(d.live.t) != 1 || d.live.t[0].Dev.Minor != 16 || d.idle != nil {
		t.Errorf("changed: %+v", d.live)
	}
	b.kernel.change(b.uuid("a"), func(d *simDev) { d.open = 0 })
	if _, err := m.Refresh(ctx, b.volume("a")); err != nil {
		t.Error(err)
	}
	if err := b.finished("a"); err != nil {
		t.Error(err)
	}
}

func TestMapper_readOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 2)
	m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
	ro := b.volume("a")
	ro.ReadOnly = true
	if d, err := m.Activate(ctx, ro); err != nil || !d.ReadOnly {
		t.Fatalf("%+v, %v", d, err)
	}
	if err := m.Verify(ctx, b.volume("a")); !errors.Is(err, ErrConflict) {
		t.Errorf("verify: %v", err)
	}
	if d, err := m.Activate(ctx, b.volume("a")); err != nil || d.ReadOnly {
		t.Fatalf("%+v, %v", d, err)
	}
	b.kernel.change(b.uuid("a"), func(d *simDev) { d.open = 1 })
	if _, err := m.Activate(ctx, ro); !errors.Is(err, ErrOpen) {
		t.Errorf("made read-only under its user: %v", err)
	}
	b.kernel.change(b.uuid("a"), func(d *simDev) { d.open = 0 })
	if d, err := m.Activate(ctx, ro); err != nil || !d.ReadOnly {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestMapper_nameTaken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 2)
	p := newProcess(b.kernel)
	m, ctx := b.mapper(p), deadline(t)
	if err := m.cmd.create(Identity{Name: "vg--one-a", UUID: "somebody"}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Activate(ctx, b.volume("a")); !errors.Is(err, ErrNameTaken) {
		t.Errorf("%v", err)
	}
	if len(b.kernel.devs) != 1 {
		t.Errorf("%v", b.kernel.devs)
	}
}

// A device with our uuid under another name is ours: lvm2 decides by the uuid, and so do we.
func TestMapper_otherName(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 2)
	m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
	if err := m.cmd.create(Identity{Name: "custom", UUID: b.uuid("a")}, false); err != nil {
		t.Fatal(err)
	}
	if d, err := m.Activate(ctx, b.volume("a")); err != nil || d.Path != b.dir+"/custom" {
		t.Fatalf("%+v, %v", d, err)
	}
	if err := b.finished("a"); err != nil {
		t.Error(err)
	}
}

func TestMapper_deactivateOpen(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 2)
	synctest.Test(t, func(t *testing.T) {
		b.t = t
		m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
		if _, err := m.Activate(ctx, b.volume("a")); err != nil {
			t.Fatal(err)
		}
		b.kernel.change(b.uuid("a"), func(d *simDev) { d.open = 2 })
		begin := time.Now()
		if err := m.Deactivate(ctx, b.id("a")); !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), "2 times") {
			t.Errorf("%v", err)
		}
		if took := time.Since(begin); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("gave up after %v", took)
		}
		if err := b.finished("a"); err != nil {
			t.Error(err)
		}
		time.AfterFunc(time.Second, func() { b.kernel.change(b.uuid("a"), func(d *simDev) { d.open = 0 }) })
		if err := m.Deactivate(ctx, b.id("a")); err != nil {
			t.Errorf("closed meanwhile: %v", err)
		}
	})
}

// An ioctl that hangs, as a resume does while the LUN does, is not waited for longer than the deadline. Nothing else is
// done to the volume before it comes back, and it goes no further then.
func TestMapper_hang(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 2)
	b.create("c", 1)
	synctest.Test(t, func(t *testing.T) {
		b.t = t
		p := newProcess(b.kernel)
		m := b.mapper(p)
		p.hang = make(chan struct{})
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Activate(short, b.volume("a")); !errors.Is(err, blockdev.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		second, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Deactivate(second, b.id("a")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Errorf("beside one that hangs: %v", err)
		}
		third, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Close(third); err == nil {
			t.Error("closed with an operation under way")
		}
		close(p.hang)
		synctest.Wait()
		if _, ok := b.kernel.device(b.uuid("a")); ok {
			t.Error("went on after its deadline")
		}
		if _, err := m.Activate(deadline(t), b.volume("a")); err == nil {
			t.Error("a closed mapper works")
		}
	})
}

func TestMapper_needsDeadline(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 1)
	m := b.mapper(newProcess(b.kernel))
	if _, err := m.Activate(t.Context(), b.volume("a")); !errors.Is(err, blockdev.ErrNoDeadline) {
		t.Errorf("%v", err)
	}
}

func TestMapper_unmappable(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a", 1)
	m, ctx := b.mapper(newProcess(b.kernel)), deadline(t)
	v := b.volume("a")
	for name, c := range map[string]struct {
		change func(*Volume)
		want   error
	}{
		"no group":    {func(v *Volume) { v.VG = nil }, ErrUnmappable},
		"no volume":   {func(v *Volume) { v.Name = "gone" }, lvm2.ErrNotFound},
		"too few PVs": {func(v *Volume) { v.PVs = v.PVs[:1] }, ErrUnmappable},
		"a file":      {func(v *Volume) { v.PVs = []string{"/tmp/lun", v.PVs[1]} }, ErrUnmappable},
	} {
		w := v
		c.change(&w)
		if _, err := m.Activate(ctx, w); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.kernel.luns[Number{254, 0}] = 4096 // the LUN has shrunk
	if _, err := m.Activate(ctx, v); !errors.Is(err, ErrUnmappable) {
		t.Errorf("a LUN that shrank: %v", err)
	}
	if len(b.kernel.devs) != 0 {
		t.Errorf("%v", b.kernel.devs)
	}
}

// An activation whose table the kernel refuses leaves no device behind.
func TestMapper_activateFails(t *testing.T) {
	t.Parallel()
	for step := range 6 {
		b := newBench(t)
		b.create("a", 1)
		p := newProcess(b.kernel)
		p.failAt, p.errno = step, unix.EINVAL
		m := b.mapper(p)
		_, err := m.Activate(deadline(t), b.volume("a"))
		if _, left := b.kernel.device(b.uuid("a")); err != nil && left && step > 1 {
			t.Errorf("step %d: %v, and a device is left", step, err)
		}
		if _, err := m.Activate(deadline(t), b.volume("a")); err != nil {
			t.Errorf("step %d: again: %v", step, err)
		}
		if err := b.finished("a"); err != nil {
			t.Errorf("step %d: %v", step, err)
		}
	}
}

func TestConfig_validate(t *testing.T) {
	t.Parallel()
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	bad := []func(*Config){
		func(c *Config) { c.Dir = "mapper" }, func(c *Config) { c.Mode = os.ModeDir }, func(c *Config) { c.UID = -1 },
		func(c *Config) { c.OpenPatience = -1 }, func(c *Config) { c.UdevPatience = 0 }, func(c *Config) { c.Log = nil },
	}
	for i, change := range bad {
		c := DefaultConfig()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%d is accepted", i)
		}
	}
}

func TestTable_compare(t *testing.T) {
	t.Parallel()
	a, bb := Number{254, 0}, Number{254, 16}
	whole := Table{{0, 30, a, 100, false}, {30, 10, bb, 5, false}}
	split := Table{{0, 10, a, 100, false}, {10, 20, a, 110, false}, {30, 10, bb, 5, false}}
	if !whole.Equal(split) || !split.beginsWith(whole) || !whole.beginsWith(Table{{0, 7, a, 100, false}}) || !whole.beginsWith(nil) {
		t.Error("equal mappings differ")
	}
	for i, o := range []Table{{{0, 30, bb, 100, false}}, {{0, 30, a, 101, false}}, {{0, 31, a, 100, false}}, slices.Concat(whole, Table{{40, 1, a, 0, false}})} {
		if whole.Equal(o) || whole.beginsWith(o) {
			t.Errorf("%d: different mappings do not differ", i)
		}
	}
}
