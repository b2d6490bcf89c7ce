//go:build vmtest

package dm

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// udevd finds the process.
func udevdPID(t *testing.T) int {
	t.Helper()
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		b, err := os.ReadFile("/proc/" + d.Name() + "/comm")
		if err == nil && strings.HasPrefix(string(b), "systemd-udevd") {
			pid := 0
			for _, c := range d.Name() {
				pid = pid*10 + int(c-'0')
			}
			return pid
		}
	}
	t.Fatal("udevd does not run")
	return 0
}

// semaphores is what the kernel has, without the head line.
func semaphores(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sysvipc/sem")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(rest)
}

// With a real udevd and Debian's rules the node is udev's link, and each operation waits for it. No semaphore is left.
func TestUdev_makesNodes(t *testing.T) {
	g := newGuest(t, "vg-u")
	g.create("a", 2)
	g.m.cfg.UdevPatience = 30 * time.Second // this machine is emulated
	for range 3 {
		begin := time.Now()
		d := g.activate(g.volume("a"))
		took := time.Since(begin)
		to, err := os.Readlink(d.Path)
		if err != nil || !strings.HasPrefix(to, "../dm-") {
			t.Errorf("node %s: %q, %v: not udev's", d.Path, to, err)
		}
		if to, err := os.Readlink("/dev/vg-u/a"); err != nil || !strings.HasPrefix(to, "../dm-") {
			t.Errorf("lvm2's own link: %q, %v", to, err)
		}
		t.Logf("udev made %s in %v", d.Path, took)
		if took > 25*time.Second {
			t.Error("udev was not heard")
		}
		g.extend("a", int64(len(g.group.VG().LV("a").Segments))+g.group.VG().LV("a").Extents())
		if _, err := g.m.Refresh(deadline(t), g.volume("a")); err != nil {
			t.Error(err)
		}
		if err := g.m.Deactivate(deadline(t), g.id("a")); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(d.Path); err == nil {
			t.Error("the node is still there")
		}
		if s := semaphores(t); s != "" {
			t.Errorf("semaphores are left: %s", s)
		}
	}
}

// A udevd that does not answer costs its patience and nothing else: the node is made here.
func TestUdev_hangs(t *testing.T) {
	g := newGuest(t, "vgh")
	g.create("a", 2)
	pid := udevdPID(t)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Error(err)
		}
	}()
	begin := time.Now()
	g.m.cfg.UdevPatience = 2 * time.Second
	d := g.activate(g.volume("a"))
	if took := time.Since(begin); took < 2*time.Second || took > 40*time.Second {
		t.Errorf("took %v", took)
	}
	if st, err := os.Lstat(d.Path); err != nil || st.Mode()&os.ModeDevice == 0 {
		t.Errorf("%v, %v", st, err)
	}
	if err := g.m.Deactivate(deadline(t), g.id("a")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(d.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the node is still there: %v", err)
	}
	if s := semaphores(t); s != "" {
		t.Errorf("semaphores are left: %s", s)
	}
}
