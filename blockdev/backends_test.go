package blockdev_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

const devSize = 24 << 20

// backend makes a device of devSize bytes.
type backend struct {
	name string
	make func(t *testing.T) blockdev.Device
}

func backends() []backend {
	return []backend{
		{"mem512", func(t *testing.T) blockdev.Device { return blockdev.NewMem(devSize, 512) }},
		{"mem4096", func(t *testing.T) blockdev.Device { return blockdev.NewMem(devSize, 4096) }},
		{"file512", func(t *testing.T) blockdev.Device { return openFile(t, blockdev.Options{}) }},
		{"file4096", func(t *testing.T) blockdev.Device { return openFile(t, blockdev.Options{SectorSize: 4096}) }},
		{"fileBuffered", func(t *testing.T) blockdev.Device { return openFile(t, blockdev.Options{Buffered: true}) }},
		{"tmpfs", openTmpfs},
		{"loop512", func(t *testing.T) blockdev.Device { return openLoop(t, 512) }},
		{"loop4096", func(t *testing.T) blockdev.Device { return openLoop(t, 4096) }},
		{"nbdkitTCP", func(t *testing.T) blockdev.Device { return open(t, nbdkitTCP(t), blockdev.Options{}) }},
		{"nbdkitTCP4096", func(t *testing.T) blockdev.Device {
			return open(t, nbdkitTCP(t, "--filter=blocksize-policy", "blocksize-minimum=4096", "blocksize-error-policy=error"), blockdev.Options{})
		}},
		{"nbdkitNoZero", func(t *testing.T) blockdev.Device {
			return open(t, nbdkitTCP(t, "--filter=nozero"), blockdev.Options{})
		}},
		{"qemuNBD", func(t *testing.T) blockdev.Device { return open(t, qemuNBD(t).uri, blockdev.Options{}) }},
		{"linear", openLinear},
		{"guarded", func(t *testing.T) blockdev.Device { return blockdev.NewGuarded(openFile(t, blockdev.Options{}), yes{}) }},
		{"faulty", func(t *testing.T) blockdev.Device { return faulty.New(blockdev.NewMem(devSize, 512)) }},
		{"recorder", func(t *testing.T) blockdev.Device { return faulty.NewRecorder(blockdev.NewMem(devSize, 512)) }},
	}
}

// yes is a guard that allows everything.
type yes struct{}

func (yes) Check(time.Duration) error { return nil }
func (yes) Epoch() uint64             { return 1 }

func open(t *testing.T, uri string, o blockdev.Options) blockdev.Device {
	t.Helper()
	d, err := blockdev.Open(testutil.Deadline(t), uri, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func openFile(t *testing.T, o blockdev.Options) blockdev.Device {
	return open(t, testutil.SparseFile(t, "lun", devSize), o)
}

func openTmpfs(t *testing.T) blockdev.Device {
	dir, err := os.MkdirTemp("/dev/shm", "blockdev") //nolint:usetesting // t.TempDir cannot be told to lie on tmpfs
	if err != nil {
		t.Skip("no tmpfs: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "lun")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, devSize); err != nil {
		t.Fatal(err)
	}
	return open(t, path, blockdev.Options{})
}

func openLoop(t *testing.T, sectorSize int) blockdev.Device {
	dev := testutil.LoopDevice(t, testutil.SparseFile(t, "lun", devSize), sectorSize)
	d := open(t, dev, blockdev.Options{Exclusive: true})
	if d.SectorSize() != sectorSize {
		t.Fatalf("sector size %d, want %d", d.SectorSize(), sectorSize)
	}
	return d
}

func openLinear(t *testing.T) blockdev.Device {
	a, b := blockdev.NewMem(devSize, 512), openFile(t, blockdev.Options{})
	d, err := blockdev.NewLinear("lv", []blockdev.Segment{
		{Dev: a, Off: 8 << 20, Len: 1<<20 + 512},
		{Dev: b, Off: 512, Len: devSize - 2<<20 - 1024},
		{Dev: a, Off: 0, Len: 1<<20 + 512},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// server is an NBD server process.
type server struct {
	uri string
	cmd *exec.Cmd
}

// kill ends the server in the middle of whatever it does.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.cmd.Wait() // "signal: killed"
}

func start(t *testing.T, uri string, args ...string) *server {
	t.Helper()
	cmd := testutil.Command(t, args...)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	s := &server{uri: uri, cmd: cmd}
	testutil.Retry(t, 10*time.Second, func() error {
		d, err := blockdev.Open(testutil.Deadline(t), uri, blockdev.Options{})
		if err != nil {
			return err
		}
		return d.Close()
	})
	return s
}

// nbdkitTCP serves memory over TCP; extra arguments may add filters.
func nbdkitTCP(t *testing.T, extra ...string) string {
	t.Helper()
	testutil.NeedTool(t, "nbdkit")
	port := testutil.FreePort(t)
	args := []string{"nbdkit", "--foreground", "--exit-with-parent", "--ipaddr", "127.0.0.1", "--port", strconv.Itoa(port)}
	var params []string
	for _, a := range extra {
		if a[0] == '-' {
			args = append(args, a)
		} else {
			params = append(params, a)
		}
	}
	args = append(args, "memory", fmt.Sprint("size=", devSize))
	return start(t, fmt.Sprintf("nbd://127.0.0.1:%d/any", port), append(args, params...)...).uri
}

// qemuNBD serves a file over a unix socket.
func qemuNBD(t *testing.T) *server {
	t.Helper()
	testutil.NeedTool(t, "qemu-nbd")
	file, sock := testutil.SparseFile(t, "lun", devSize), filepath.Join(t.TempDir(), "sock")
	return startQemuNBD(t, file, sock)
}

func startQemuNBD(t *testing.T, file, sock string) *server {
	t.Helper()
	uri := "nbd+unix:///exp?socket=" + url.QueryEscape(sock)
	return start(t, uri, "qemu-nbd", "--persistent", "--shared=8", "--format=raw", "--cache=none", "--discard=unmap",
		"--export-name=exp", "--socket="+sock, file)
}
