package testutil

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// SparseFile makes a file of size bytes that takes no space, in the test's own folder.
func SparseFile(t testing.TB, name string, size int64) string {
	t.Helper()
	return sparseFile(t, filepath.Join(t.TempDir(), name), size)
}

func sparseFile(t testing.TB, path string, size int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

// MemoryFile is a SparseFile on tmpfs where there is one: for tests that want a file's bytes and not its disk, which
// flushes a thousand times slower.
func MemoryFile(t testing.TB, name string, size int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-test") //nolint:usetesting // t.TempDir cannot be told to lie on tmpfs
	if err != nil {
		return SparseFile(t, name, size)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return sparseFile(t, filepath.Join(dir, name), size)
}

// LoopDevice attaches file to a loop device with the given logical sector size and direct I/O where the file system
// allows it, and returns the path of the device. It is detached at the end of the test. Skips without root.
func LoopDevice(t testing.TB, file string, sectorSize int) string {
	t.Helper()
	NeedRoot(t)
	NeedTool(t, "losetup")
	args := []string{"losetup", "--find", "--show", "--sector-size", strconv.Itoa(sectorSize), file}
	out, err := TryRun(t, args...)
	if err != nil {
		missing(t, "cannot make a loop device: "+err.Error())
	}
	dev := strings.TrimSpace(out)
	t.Cleanup(func() { detach(t, dev) })
	return dev
}

// detach gives a loop device back. It must not use the test's context, which is already cancelled in a cleanup.
func detach(t testing.TB, dev string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, toolPath("losetup"), "--detach", dev).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "No such device") { // the test detached it itself
			return
		}
		t.Errorf("losetup --detach %s: %v %s", dev, err, out)
	}
}
