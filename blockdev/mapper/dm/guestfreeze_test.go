//go:build vmtest

package dm

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// directWriter writes one block after the other, directly, until a write fails.
type directWriter struct {
	n    atomic.Int64
	done chan error
}

func startDirectWriter(t *testing.T, path string) *directWriter {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	copy(b, bytes.Repeat([]byte("holdfast"), 512))
	w := &directWriter{done: make(chan error, 1)}
	go func() {
		defer f.Close()
		for {
			if _, err := f.WriteAt(b, w.n.Load()%1024*4096); err != nil {
				w.done <- err
				return
			}
			w.n.Add(1)
		}
	}()
	return w
}

// moves waits until it has written more.
func (w *directWriter) moves(t *testing.T) {
	t.Helper()
	from := w.n.Load()
	for end := time.Now().Add(time.Minute); w.n.Load() < from+10; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the writer stands still")
		}
	}
}

// still looks whether it writes nothing for a while.
func (w *directWriter) still(t *testing.T) {
	t.Helper()
	time.Sleep(500 * time.Millisecond)
	from := w.n.Load()
	time.Sleep(2 * time.Second)
	if now := w.n.Load(); now != from {
		t.Errorf("%d writes passed", now-from)
	}
}

// A device is frozen under direct writes: they stop, nobody but the one who may lets them go on, and a resume by mistake makes
// them fail instead.
func TestGuest_freeze(t *testing.T) {
	g := newGuest(t, "vg-freeze")
	g.create("a", 2)
	vg := g.group.VG()
	e := Extents{Identity: g.id("a")}
	for _, s := range vg.LV("a").Segments {
		e.Runs = append(e.Runs, Run{Path: g.volume("a").PVs[s.Areas[0].PV], OffsetBytes: vg.PVs[s.Areas[0].PV].PEStart + s.Areas[0].StartPE*vg.ExtentSize,
			LengthBytes: s.ExtentCount * vg.ExtentSize})
	}
	d, err := g.m.Activate(deadline(t), e)
	if err != nil {
		t.Fatal(err)
	}
	g.agree(d, "a", "-wi-a-----")
	w := startDirectWriter(t, d.Path)
	w.moves(t)
	for range 2 {
		if err := g.m.Freeze(deadline(t), e.Identity); err != nil {
			t.Fatal(err)
		}
	}
	w.still(t)
	if got := tool(t, "/usr/sbin/dmsetup", "info", "-c", "--noheadings", "-o", "suspended", d.Name); got != "Suspended" {
		t.Errorf("dmsetup: %q", got)
	}
	if got := tool(t, "/usr/sbin/dmsetup", "table", "--inactive", d.Name); !strings.HasSuffix(got, "error") {
		t.Errorf("the table that waits: %q", got)
	}
	if _, err := g.m.Activate(deadline(t), e); !errors.Is(err, ErrFrozen) {
		t.Errorf("by a stranger: %v", err)
	}
	w.still(t)
	e.Held = true
	if _, err := g.m.Activate(deadline(t), e); err != nil {
		t.Fatal(err)
	}
	w.moves(t)
	if err := g.m.Freeze(deadline(t), e.Identity); err != nil {
		t.Fatal(err)
	}
	tool(t, "/usr/sbin/dmsetup", "resume", d.Name) // somebody's mistake
	select {
	case err := <-w.done:
		if !errors.Is(err, unix.EIO) {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("neither written nor failed")
	}
	if _, err := g.m.Activate(deadline(t), e); err != nil {
		t.Fatal(err)
	}
	w = startDirectWriter(t, d.Path)
	w.moves(t)
	if err := g.m.Fail(deadline(t), e.Identity); err != nil {
		t.Error(err)
	}
	if err := <-w.done; !errors.Is(err, unix.EIO) {
		t.Errorf("cut off: %v", err)
	}
	if err := g.m.Deactivate(deadline(t), e.Identity); err != nil {
		t.Error(err)
	}
}
