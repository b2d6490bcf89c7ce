//go:build vmtest

package dm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// These tests run in the guest of `make vmtest`: a real kernel's device-mapper, real lvm2 and dmsetup, two empty disks.
// They are compiled for it only.

const guestExtent = 16 * mib

// guest is a volume group on the guest's disks.
type guest struct {
	t     *testing.T
	group *lvm2.Group
	m     *Mapper
}

func newGuest(t *testing.T, name string) *guest {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var devs []blockdev.Device
	for _, path := range []string{"/dev/vda", "/dev/vdb"} {
		d, err := blockdev.Open(ctx, path, blockdev.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		devs = append(devs, d)
	}
	g, err := lvm2.Create(ctx, lvm2.CreateOptions{Name: name, ExtentSize: guestExtent, MetadataSize: 8 * mib, Devices: devs, Force: true}, yes{})
	if err != nil {
		t.Fatal(err)
	}
	return &guest{t: t, group: g, m: guestMapper(t)}
}

func guestMapper(t *testing.T) *Mapper {
	t.Helper()
	c := DefaultConfig()
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (g *guest) commit(change func(*lvm2.Tx) error) {
	g.t.Helper()
	tx := g.group.Begin()
	err := change(tx)
	if err == nil {
		err = g.group.Commit(deadline(g.t), tx, yes{}, "vmtest")
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) create(name string, extents int64) {
	g.t.Helper()
	g.commit(func(tx *lvm2.Tx) error {
		_, err := tx.CreateLV(name, extents*guestExtent, lvm2.LVOptions{})
		return err
	})
}

func (g *guest) extend(name string, extents int64) {
	g.t.Helper()
	g.commit(func(tx *lvm2.Tx) error {
		_, err := tx.ExtendLV(name, extents*guestExtent)
		return err
	})
}

func (g *guest) volume(name string) Volume {
	v := Volume{VG: g.group.VG(), Name: name}
	for _, d := range g.group.Devices() {
		v.PVs = append(v.PVs, d.Name())
	}
	return v
}

func (g *guest) id(name string) Identity {
	id, err := Identify(g.group.VG(), g.group.VG().LV(name))
	if err != nil {
		g.t.Fatal(err)
	}
	return id
}

func (g *guest) activate(v Volume) Device {
	g.t.Helper()
	d, err := g.m.Activate(deadline(g.t), v)
	if err != nil {
		g.t.Fatal(err)
	}
	return d
}

// tool runs a real program and returns what it wrote.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, out, stderr.String())
	}
	if s := stderr.String(); s != "" {
		t.Logf("%v: %s", args, s)
	}
	return strings.TrimSpace(string(out))
}

func lvm(t *testing.T, args ...string) string {
	t.Helper()
	return tool(t, append([]string{"/usr/sbin/lvm"}, args...)...)
}

// agree compares what we say with what the real programs say.
func (g *guest) agree(d Device, name string, attr string) {
	t := g.t
	t.Helper()
	if got := tool(t, "/usr/sbin/dmsetup", "table", d.Name); got != d.Table.String() {
		t.Errorf("dmsetup has\n%s\nwe\n%v", got, d.Table)
	}
	got := tool(t, "/usr/sbin/dmsetup", "info", "-c", "--noheadings", "--separator", " ", "-o", "uuid,major,minor", d.Name)
	if want := fmt.Sprintf("%s %d %d", d.UUID, d.Number.Major, d.Number.Minor); got != want {
		t.Errorf("dmsetup info: %q, want %q", got, want)
	}
	vg := g.group.VG()
	got = lvm(t, "lvs", "--noheadings", "--units", "b", "--nosuffix", "-o", "lv_attr,lv_active,lv_size,lv_dm_path", vg.Name+"/"+name)
	if want := fmt.Sprintf("%s active %d %s", attr, vg.Size(vg.LV(name)), d.Path); strings.Join(strings.Fields(got), " ") != want {
		t.Errorf("lvs: %q, want %q", got, want)
	}
	if err := g.m.Verify(deadline(t), g.volume(name)); err != nil {
		t.Error(err)
	}
	if list, err := g.m.List(deadline(t), vg); err != nil || len(list) != 1 || list[0].UUID != d.UUID || list[0].Path != d.Path {
		t.Errorf("list: %+v, %v", list, err)
	}
}

func TestGuest_lvm2Agrees(t *testing.T) {
	g := newGuest(t, "vg-one")
	g.create("a-b", 2)
	d := g.activate(g.volume("a-b"))
	t.Logf("active: %s\n%v", d.Path, d.Table)
	g.agree(d, "a-b", "-wi-a-----")

	t.Run("extended by us", func(t *testing.T) {
		g.extend("a-b", 70) // on to the second disk
		if err := g.m.Verify(deadline(t), g.volume("a-b")); !errors.Is(err, ErrStale) {
			t.Errorf("before the refresh: %v", err)
		}
		d, err := g.m.Refresh(deadline(t), g.volume("a-b"))
		if err != nil || len(d.Table) < 2 {
			t.Fatalf("%v, %v", d.Table, err)
		}
		g.agree(d, "a-b", "-wi-a-----")
	})
	t.Run("lvchange --refresh changes nothing", func(t *testing.T) {
		before := tool(t, "/usr/sbin/dmsetup", "table", "vg--one-a--b")
		lvm(t, "lvchange", "--refresh", "vg-one/a-b")
		if after := tool(t, "/usr/sbin/dmsetup", "table", "vg--one-a--b"); after != before {
			t.Errorf("it was\n%s\nand is\n%s", before, after)
		}
		g.agree(g.look("a-b"), "a-b", "-wi-a-----")
	})
	t.Run("refreshed by lvm2 after our commit", func(t *testing.T) {
		g.extend("a-b", 75)
		lvm(t, "lvchange", "--refresh", "vg-one/a-b")
		g.agree(g.look("a-b"), "a-b", "-wi-a-----")
	})
	t.Run("extended by lvm2", func(t *testing.T) {
		lvm(t, "lvextend", "--autobackup", "n", "-l", "80", "vg-one/a-b")
		if _, err := g.group.Refresh(deadline(t)); err != nil {
			t.Fatal(err)
		}
		g.agree(g.look("a-b"), "a-b", "-wi-a-----")
	})
	t.Run("open", func(t *testing.T) {
		f, err := os.Open(d.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.m.Deactivate(deadline(t), g.id("a-b")); !errors.Is(err, ErrOpen) {
			t.Errorf("%v", err)
		}
		g.agree(g.look("a-b"), "a-b", "-wi-ao----")
		f.Close()
	})
	t.Run("deactivated", func(t *testing.T) {
		if err := g.m.Deactivate(deadline(t), g.id("a-b")); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(d.Path); err == nil {
			t.Error("the node is still there")
		}
		if got := lvm(t, "lvs", "--noheadings", "-o", "lv_attr", "vg-one/a-b"); got != "-wi-------" {
			t.Errorf("lvs: %q", got)
		}
		if _, err := g.m.Look(deadline(t), g.id("a-b").UUID); !errors.Is(err, ErrNotActive) {
			t.Errorf("%v", err)
		}
	})
	t.Run("activated by lvm2, deactivated by us, and the reverse", func(t *testing.T) {
		lvm(t, "lvchange", "-ay", "vg-one/a-b")
		g.agree(g.activate(g.volume("a-b")), "a-b", "-wi-a-----")
		if err := g.m.Deactivate(deadline(t), g.id("a-b")); err != nil {
			t.Error(err)
		}
		g.activate(g.volume("a-b"))
		lvm(t, "lvchange", "-an", "vg-one/a-b")
		if list, err := g.m.List(deadline(t), g.group.VG()); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		v := g.volume("a-b")
		v.ReadOnly = true
		d := g.activate(v)
		if f, err := os.OpenFile(d.Path, os.O_WRONLY, 0); err == nil {
			if _, err := f.Write(make([]byte, 4096)); err == nil && f.Sync() == nil {
				t.Error("written")
			}
			f.Close()
		}
		if got := lvm(t, "lvs", "--noheadings", "-o", "lv_attr", "vg-one/a-b"); got != "-Ri-a-----" {
			t.Errorf("lvs: %q", got)
		}
		g.agree(g.activate(g.volume("a-b")), "a-b", "-wi-a-----")
	})
	if got := lvm(t, "vgck", "vg-one"); got != "" {
		t.Errorf("vgck: %s", got)
	}
	if err := g.m.Deactivate(deadline(t), g.id("a-b")); err != nil {
		t.Error(err)
	}
}

func (g *guest) look(name string) Device {
	g.t.Helper()
	d, err := g.m.Look(deadline(g.t), g.id(name).UUID)
	if err != nil {
		g.t.Fatal(err)
	}
	return d
}

// What others, or a crash, left is put right.
func TestGuest_recovers(t *testing.T) {
	g := newGuest(t, "vgr")
	g.create("a", 2)
	d := g.activate(g.volume("a"))
	suspend := func(t *testing.T) {
		tool(t, "/usr/sbin/dmsetup", "--noudevsync", "suspend", "--nolockfs", d.Name)
		if err := g.m.Verify(deadline(t), g.volume("a")); !errors.Is(err, ErrSuspended) {
			t.Errorf("%v", err)
		}
	}
	t.Run("suspended", func(t *testing.T) {
		suspend(t)
		if err := g.m.Recover(deadline(t), g.group.VG(), g.volume("a").PVs); err != nil {
			t.Fatal(err)
		}
		g.agree(g.look("a"), "a", "-wi-a-----")
	})
	t.Run("suspended with a table that nobody committed", func(t *testing.T) {
		cmd := exec.Command("/usr/sbin/dmsetup", "load", d.Name)
		cmd.Stdin = strings.NewReader(fmt.Sprintf("0 8192 linear %v 65536\n", d.Table[0].Dev))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		suspend(t)
		if !g.look("a").Prepared {
			t.Fatal("no table waits")
		}
		if err := g.m.Recover(deadline(t), g.group.VG(), g.volume("a").PVs); err != nil {
			t.Fatal(err)
		}
		g.agree(g.look("a"), "a", "-wi-a-----")
	})
	t.Run("suspended, and the volume has grown", func(t *testing.T) {
		suspend(t)
		g.extend("a", 5)
		if err := g.m.Recover(deadline(t), g.group.VG(), g.volume("a").PVs); err != nil {
			t.Fatal(err)
		}
		g.agree(g.look("a"), "a", "-wi-a-----")
	})
	if err := g.m.Deactivate(deadline(t), g.id("a")); err != nil {
		t.Error(err)
	}
}

// pattern fills a block with what says where and in which round it was written.
func pattern(b []byte, block, round uint64) {
	for i := 0; i+16 <= len(b); i += 16 {
		binary.LittleEndian.PutUint64(b[i:], block)
		binary.LittleEndian.PutUint64(b[i+8:], round)
	}
}

const ioBlock = 64 << 10

// writer writes blocks of a device over and over, direct, as far as it is told that the device reaches.
type writer struct {
	fd     int
	blocks atomic.Int64
	rounds []uint64 // the last acknowledged round of each block
	writes int64
	worst  time.Duration
}

func (w *writer) run(stop <-chan struct{}) error {
	mem, err := unix.Mmap(-1, 0, ioBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	for round := uint64(1); ; round++ {
		for block := int64(0); block < w.blocks.Load(); block++ {
			select {
			case <-stop:
				return nil
			default:
			}
			pattern(mem, uint64(block), round)
			begin := time.Now()
			n, err := unix.Pwrite(w.fd, mem, block*ioBlock)
			if err != nil || n != ioBlock {
				return fmt.Errorf("block %d: %d bytes, %w", block, n, err)
			}
			w.worst = max(w.worst, time.Since(begin))
			w.writes++
			if int64(len(w.rounds)) <= block {
				w.rounds = append(w.rounds, 0)
			}
			w.rounds[block] = round
		}
	}
}

// check reads every block back, through the physical volumes and not the device, by the metadata.
func (w *writer) check(g *guest, name string) error {
	dev, err := g.group.Device(name)
	if err != nil {
		return err
	}
	got, want := make([]byte, ioBlock), make([]byte, ioBlock)
	for block, round := range w.rounds {
		if err := dev.ReadAt(deadline(g.t), got, int64(block)*ioBlock); err != nil {
			return err
		}
		if pattern(want, uint64(block), round); !bytes.Equal(got, want) {
			return fmt.Errorf("block %d is not what was written in round %d", block, round)
		}
	}
	return nil
}

// I/O goes on while the volume grows over and over: no write fails, none is lost, and the new space is usable at once.
func TestGuest_refreshUnderLoad(t *testing.T) {
	g := newGuest(t, "vgio")
	g.create("a", 1)
	d := g.activate(g.volume("a"))
	fd, err := unix.Open(d.Path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{fd: fd}
	perExtent := int64(guestExtent / ioBlock)
	w.blocks.Store(perExtent)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- w.run(stop) }()
	var worst time.Duration
	const growths = 50
	for n := int64(2); n <= growths; n++ {
		beyond := make([]byte, 512)
		if _, err := unix.Pread(fd, beyond, d.Table.Bytes()); err == nil {
			if m, _ := unix.Seek(fd, 0, 2); m != d.Table.Bytes() {
				t.Errorf("size %d before growth %d", m, n)
			}
		}
		g.extend("a", n)
		begin := time.Now()
		if d, err = g.m.Refresh(deadline(t), g.volume("a")); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(begin))
		if size, err := unix.Seek(fd, 0, 2); err != nil || size != n*guestExtent {
			t.Fatalf("growth %d: %d bytes, %v", n, size, err)
		}
		w.blocks.Store(n * perExtent)
	}
	time.Sleep(time.Second) // the writer reaches the end
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if err := w.check(g, "a"); err != nil {
		t.Error(err)
	}
	t.Logf("%d growths under %d writes of 64 KiB on %d blocks, none failed, all read back; slowest refresh %v, slowest write %v",
		growths-1, w.writes, len(w.rounds), worst, w.worst)
	if len(w.rounds) == 0 || w.writes < 100 {
		t.Error("hardly anything was written")
	}
	w.rounds[0]++ // the check must be able to fail
	if w.check(g, "a") == nil {
		t.Error("a lost write is not noticed")
	}
	if err := g.m.Deactivate(deadline(t), g.id("a")); err != nil {
		t.Error(err)
	}
}

const (
	envToggle   = "HOLDFAST_DM_TOGGLE"
	guestRounds = 40
)

// extras counts the devices of all.
func (g *guest) extras() int {
	all, err := g.m.List(deadline(g.t), g.group.VG())
	if err != nil {
		g.t.Fatal(err)
	}
	return len(all)
}

// TestGuest_toggler is the process that TestGuest_killed kills: it changes a device without an end.
func TestGuest_toggler(t *testing.T) {
	name := os.Getenv(envToggle)
	if name == "" {
		t.Skip("a part of TestGuest_killed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var devs []blockdev.Device
	for _, path := range []string{"/dev/vda", "/dev/vdb"} {
		d, err := blockdev.Open(ctx, path, blockdev.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		devs = append(devs, d)
	}
	group, err := lvm2.Open(ctx, devs)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, group: group, m: guestMapper(t)}
	g.m.cfg.Log = slog.New(slog.DiscardHandler)
	fmt.Println("toggling")
	for v := g.volume(name); ctx.Err() == nil; v.ReadOnly = !v.ReadOnly {
		if _, err := g.m.Activate(ctx, v); err != nil {
			t.Fatal(err)
		}
		if v.ReadOnly {
			continue
		}
		if err := g.m.Deactivate(ctx, g.id(name)); err != nil {
			t.Fatal(err)
		}
	}
}

// A process that is killed at any moment leaves no device suspended, and whatever it leaves is put right by the next.
func TestGuest_killed(t *testing.T) {
	g := newGuest(t, "vgk")
	g.create("a", 70)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	left := map[string]int{}
	if got := g.extras(); got != 0 {
		t.Fatalf("%d devices at the start", got)
	}
	for round := range guestRounds {
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestGuest_toggler$")
		cmd.Env = append(os.Environ(), envToggle+"=a")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+round*7%50) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		d, err := g.m.Look(deadline(t), g.id("a").UUID)
		switch {
		case errors.Is(err, ErrNotActive):
			left["no device"]++
		case err != nil:
			t.Fatal(err)
		case d.Suspended:
			t.Fatalf("round %d: suspended: %+v", round, d)
		default:
			left[fmt.Sprintf("table %t, prepared %t", d.Active, d.Prepared)]++
		}
		if err := g.m.Recover(deadline(t), g.group.VG(), g.volume("a").PVs); err != nil {
			t.Fatal(err)
		}
		if d, err := g.m.Look(deadline(t), g.id("a").UUID); err == nil && (!d.Active || d.Prepared || d.Suspended) {
			t.Fatalf("round %d: recovery left %+v", round, d)
		}
		g.activate(g.volume("a"))
		if err := g.m.Verify(deadline(t), g.volume("a")); err != nil {
			t.Fatal(err)
		}
		if err := g.m.Deactivate(deadline(t), g.id("a")); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills left: %v", guestRounds, left)
}
