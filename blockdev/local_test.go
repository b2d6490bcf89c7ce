package blockdev_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// frozenFS mounts a small ext4 and returns a file on it, and functions that freeze and thaw it: while it is frozen,
// writes hang in the kernel as on a dead LUN.
func frozenFS(t *testing.T) (file string, freeze, thaw func()) {
	t.Helper()
	testutil.NeedRoot(t)
	testutil.NeedTool(t, "mkfs.ext4", "mount", "umount", "fsfreeze")
	loop := testutil.LoopDevice(t, testutil.SparseFile(t, "fs", 64<<20), 512)
	testutil.Run(t, "mkfs.ext4", "-q", loop)
	dir := t.TempDir()
	testutil.Run(t, "mount", loop, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("umount: %v", err)
		}
	})
	file = filepath.Join(dir, "lun")
	if err := os.WriteFile(file, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	thawed := true
	thaw = func() {
		if !thawed {
			testutil.Run(t, "fsfreeze", "--unfreeze", dir)
			thawed = true
		}
	}
	t.Cleanup(func() {
		if !thawed {
			unix.IoctlSetInt(mustOpen(t, dir), 0xc0045878, 0) // FITHAW; the test's commands are dead by now
		}
	})
	return file, func() { testutil.Run(t, "fsfreeze", "--freeze", dir); thawed = false }, thaw
}

func mustOpen(t *testing.T, path string) int {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestLocal_hung: writes that hang in the kernel are abandoned at their deadline and counted; they land later with
// the data they were given, whatever the caller does with its slice; Close does not wait for them.
func TestLocal_hung(t *testing.T) {
	t.Parallel()
	file, freeze, thaw := frozenFS(t)
	d := open(t, file, blockdev.Options{MaxPending: 3})
	other := open(t, file, blockdev.Options{ReadOnly: true})
	freeze()
	p := bytes.Repeat([]byte{3}, 1<<20)
	for i := range int64(3) {
		hang(t, d, p, i<<20)
	}
	clear(p)
	if n := d.Pending(); n != 3 {
		t.Errorf("%d pending", n)
	}
	if err := d.WriteAt(testutil.Deadline(t), p, 0); !errors.Is(err, blockdev.ErrPending) {
		t.Errorf("one too many: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	thaw()
	wantPending(t, d, 0)
	got := make([]byte, 3<<20)
	if err := other.ReadAt(testutil.Deadline(t), got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.Repeat([]byte{3}, 3<<20)) {
		t.Error("a late write landed with other data than it was given")
	}
	if err := d.ReadAt(testutil.Deadline(t), got, 0); !errors.Is(err, blockdev.ErrGone) {
		t.Errorf("read after close: %v", err)
	}
}

// hang lets a write hang until its deadline. On a busy machine that may pass before the write is on its way.
func hang(t *testing.T, d blockdev.Device, p []byte, off int64) {
	t.Helper()
	for wait := 30 * time.Millisecond; ; wait *= 2 {
		before := d.Pending()
		err := d.WriteAt(short(t, wait), p, off)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("write: %v", err)
		}
		if d.Pending() == before && wait < 10*time.Second {
			continue
		}
		if !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Errorf("write: %v", err)
		}
		return
	}
}

// TestLocal_cancelled: a cancelled context ends the wait as a deadline does.
func TestLocal_cancelled(t *testing.T) {
	t.Parallel()
	file, freeze, thaw := frozenFS(t)
	d := open(t, file, blockdev.Options{})
	freeze()
	ctx, cancel := context.WithCancel(testutil.Deadline(t))
	done := make(chan error)
	go func() { done <- d.WriteAt(ctx, make([]byte, 512), 0) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("write: %v", err)
	}
	thaw()
	wantPending(t, d, 0)
}

func TestLocal_shrunk(t *testing.T) {
	t.Parallel()
	file := testutil.SparseFile(t, "lun", devSize)
	d := open(t, file, blockdev.Options{})
	if err := os.Truncate(file, 1<<20); err != nil {
		t.Fatal(err)
	}
	ctx := testutil.Deadline(t)
	for name, f := range calls(d, 2<<20, 4096) {
		if err := f(ctx); !errors.Is(err, blockdev.ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if st, err := os.Stat(file); err != nil || st.Size() != 1<<20 {
		t.Error("the file grew again")
	}
	if err := d.WriteAt(ctx, make([]byte, 512), 0); err != nil {
		t.Errorf("write to what is left: %v", err)
	}
}

func TestLocal_loopShrunk(t *testing.T) {
	t.Parallel()
	file := testutil.SparseFile(t, "lun", devSize)
	loop := testutil.LoopDevice(t, file, 512)
	d := open(t, loop, blockdev.Options{})
	if err := os.Truncate(file, 1<<20); err != nil {
		t.Fatal(err)
	}
	testutil.Run(t, "losetup", "--set-capacity", loop)
	for name, f := range calls(d, 2<<20, 4096) {
		if err := f(testutil.Deadline(t)); !errors.Is(err, blockdev.ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLocal_readOnly(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "blockdev")
	loop := testutil.LoopDevice(t, testutil.SparseFile(t, "lun", devSize), 512)
	ctx := testutil.Deadline(t)
	d := open(t, loop, blockdev.Options{})
	testutil.Run(t, "blockdev", "--setro", loop)
	t.Cleanup(func() { exec.Command("blockdev", "--setrw", loop).Run() }) // it would outlive the attachment
	if err := d.WriteAt(ctx, make([]byte, 512), 0); !errors.Is(err, blockdev.ErrReadOnly) {
		t.Errorf("write to a device that turned read-only: %v", err)
	}
	if late, err := blockdev.Open(ctx, loop, blockdev.Options{}); !errors.Is(err, blockdev.ErrReadOnly) {
		t.Errorf("open for writing: %v", err)
		if err == nil {
			late.Close()
		}
	}
	ro := open(t, loop, blockdev.Options{ReadOnly: true})
	for name, f := range calls(ro, 0, 512) {
		if err := f(ctx); (name == "read") != (err == nil) || err != nil && !errors.Is(err, blockdev.ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpen_localRefusals(t *testing.T) {
	t.Parallel()
	ctx := testutil.Deadline(t)
	loop := testutil.LoopDevice(t, testutil.SparseFile(t, "lun", devSize), 512)
	open(t, loop, blockdev.Options{Exclusive: true})
	small := testutil.SparseFile(t, "small", 100)
	file := testutil.SparseFile(t, "file", devSize)
	for _, c := range []struct {
		name, path string
		o          blockdev.Options
		want       error
	}{
		{"in use", loop, blockdev.Options{Exclusive: true}, blockdev.ErrBusy},
		{"missing", "/nowhere", blockdev.Options{}, blockdev.ErrGone},
		{"folder", t.TempDir(), blockdev.Options{}, blockdev.ErrNotSupported},
		{"character device", "/dev/null", blockdev.Options{}, blockdev.ErrNotSupported},
		{"no direct I/O", "/proc/version", blockdev.Options{ReadOnly: true}, blockdev.ErrNoDirectIO},
		{"empty", small, blockdev.Options{}, blockdev.ErrGone},
		{"other sectors", loop, blockdev.Options{SectorSize: 4096}, blockdev.ErrNotSupported},
		{"odd sectors", file, blockdev.Options{SectorSize: 1024}, nil},
		{"bounds", file, blockdev.Options{MaxInFlight: 4, MaxPending: 4}, nil},
	} {
		d, err := blockdev.Open(ctx, c.path, c.o)
		if err == nil {
			d.Close()
		}
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := blockdev.Open(context.Background(), file, blockdev.Options{}); !errors.Is(err, blockdev.ErrNoDeadline) {
		t.Errorf("without a deadline: %v", err)
	}
}
