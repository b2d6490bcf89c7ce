package qmp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// The tests with real programs of QEMU run one at a time: they are heavy.

// qemu is a real program of QEMU's with a monitor on a socket.
type qemu struct {
	t      *testing.T
	dir    string
	socket string
	args   []string
	cmd    *exec.Cmd
	out    bytes.Buffer
}

// startQEMU runs a program; {dir} in its arguments is a folder of the test's.
func startQEMU(t *testing.T, args ...string) *qemu {
	t.Helper()
	testutil.NeedTool(t, args[0])
	dir, err := os.MkdirTemp("", "qmp") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &qemu{t: t, dir: dir, socket: filepath.Join(dir, "qmp.sock"), args: args}
}

func (q *qemu) start() {
	q.t.Helper()
	args := make([]string, len(q.args))
	for i, a := range q.args {
		args[i] = strings.ReplaceAll(a, "{dir}", q.dir)
	}
	q.cmd = testutil.Command(q.t, args...)
	q.cmd.Stdout, q.cmd.Stderr = &q.out, &q.out
	if err := q.cmd.Start(); err != nil {
		q.t.Fatal(err)
	}
	q.t.Cleanup(q.stop)
}

// stop kills it, once.
func (q *qemu) stop() {
	if q.cmd == nil {
		return
	}
	_ = q.cmd.Process.Kill()
	_ = q.cmd.Wait()
	q.cmd = nil
	if q.t.Failed() {
		q.t.Logf("it said: %s", q.out.String())
	}
}

// monitor watches one volume of it until the test ends.
func (q *qemu) monitor(v VolumeConfig) *Volume {
	q.t.Helper()
	c := DefaultConfig()
	c.Socket, c.RetryEvery, c.CallTimeout = q.socket, 20*time.Millisecond, 20*time.Second
	c.PollEvery = time.Hour // events only
	m, err := New(c)
	if err != nil {
		q.t.Fatal(err)
	}
	vol, err := m.Add(v)
	if err != nil {
		q.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	q.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			q.t.Error(err)
		}
	})
	return vol
}

// until waits for a state.
func until(t *testing.T, v *Volume, what string, is func(Status) bool) Status {
	t.Helper()
	ctx := soon(t)
	for s := v.Status(); ; {
		if is(s) {
			return s
		}
		var err error
		if s, err = v.Watch(ctx, s.Seq); err != nil {
			t.Fatalf("waiting until %s: %v; %+v", what, err, v.Status())
		}
	}
}

func connected(s Status) bool { return s.Connected }

// storageDaemon serves a qcow2 image of 1 GiB, on a file of its own as the volume, over NBD.
func storageDaemon(t *testing.T) *qemu {
	q := startQEMU(t, "qemu-storage-daemon",
		"--blockdev", "file,node-name=dev,filename={dir}/v", "--blockdev", "qcow2,node-name=fmt,file=dev",
		"--chardev", "socket,id=c,path={dir}/qmp.sock,server=on,wait=off", "--monitor", "chardev=c",
		"--nbd-server", "addr.type=unix,addr.path={dir}/nbd.sock", "--export", "type=nbd,id=e,node-name=fmt,writable=on,name=x")
	testutil.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", filepath.Join(q.dir, "v"), "1G")
	q.start()
	return q
}

func (q *qemu) write(what string) {
	q.t.Helper()
	testutil.Run(q.t, "qemu-io", "-f", "raw", "-c", "write -P 7 "+what, "nbd+unix:///x?socket="+filepath.Join(q.dir, "nbd.sock"))
}

func TestQEMU_threshold(t *testing.T) {
	testutil.NeedTool(t, "qemu-img", "qemu-io")
	q := storageDaemon(t)
	v := q.monitor(VolumeConfig{Node: "dev", Above: []string{"fmt"}, AllocatedBytes: 64 * mib, MaxBytes: 1 << 30, ThresholdBytes: 48 * mib})
	until(t, v, "connected", connected)
	for round, size := range []int64{128 * mib, 192 * mib, 256 * mib} { // qcow2 takes clusters one after the other
		if s := v.Status(); s.Low {
			t.Fatalf("low at once: %+v", s)
		}
		at := (v.Status().AllocatedBytes - 48*mib) / mib
		q.write("0 1M") // below the threshold
		if s := v.Status(); s.Low {
			t.Fatalf("low below the threshold: %+v", s)
		}
		q.write(fmt.Sprintf("%dM 64M", 100*(round+1)))
		s := until(t, v, "low", func(s Status) bool { return s.Low })
		if s.HighBytes <= at*mib || s.HighBytes > 256*mib || s.GrowRate <= 0 {
			t.Errorf("%+v", s)
		}
		v.Grow(size)
		until(t, v, "not low", func(s Status) bool { return !s.Low })
		awaitThreshold(t, size-48*mib, v)
	}
}

// awaitThreshold waits until QEMU has taken the threshold.
func awaitThreshold(t *testing.T, want int64, v *Volume) {
	t.Helper()
	testutil.Retry(t, 20*time.Second, func() error {
		if got := v.alarm.Load(); got != want {
			return errors.New("QEMU has not been told of the threshold")
		}
		return nil
	})
}

// QEMU dies, and another one comes: the watcher finds it, and where its writes are.
func TestQEMU_restarts(t *testing.T) {
	testutil.NeedTool(t, "qemu-img", "qemu-io")
	q := storageDaemon(t)
	v := q.monitor(VolumeConfig{Node: "dev", AllocatedBytes: 64 * mib, MaxBytes: 1 << 30, ThresholdBytes: 48 * mib})
	until(t, v, "connected", connected)
	q.stop()
	until(t, v, "disconnected", func(s Status) bool { return !s.Connected && s.LastError != "" })
	q.start()
	until(t, v, "connected again", connected)
	awaitThreshold(t, 16*mib, v)
	q.write("0 20M")
	until(t, v, "low", func(s Status) bool { return s.Low })
}

func TestQEMU_snapshot(t *testing.T) {
	testutil.NeedTool(t, "qemu-img", "qemu-io")
	q := storageDaemon(t)
	overlay := filepath.Join(q.dir, "o")
	testutil.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", filepath.Join(q.dir, "v"), overlay)
	var c *Conn
	testutil.Retry(t, 20*time.Second, func() (err error) {
		c, err = Dial(soon(t), q.socket)
		return err
	})
	defer c.Close()
	q.write("0 1M")
	add := map[string]any{"driver": "qcow2", "node-name": "fmt2", "backing": nil,
		"file": map[string]any{"driver": "file", "node-name": "dev2", "filename": overlay}}
	if err := errors.Join(c.Add(soon(t), add), c.Snapshot(soon(t), "fmt", "fmt2")); err != nil {
		t.Fatal(err)
	}
	q.write("1M 1M")
	nodes, err := c.Nodes(soon(t))
	if err != nil || !hasNode(nodes, "dev2") || !hasNode(nodes, "fmt") {
		t.Errorf("%+v, %v", nodes, err)
	}
	if high, err := c.Highest(soon(t), "dev2"); err != nil || high < mib {
		t.Errorf("the overlay is written up to %d, %v", high, err)
	}
	var refused *Error
	if err := c.Snapshot(soon(t), "fmt", "nowhere"); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
	if err := c.Del(soon(t), "dev2"); !errors.As(err, &refused) {
		t.Errorf("closed a node in use: %v", err)
	}
	if err := c.Del(soon(t), "nowhere"); err != nil {
		t.Errorf("%v", err)
	}
	if going, err := c.Cont(soon(t)); err != nil || going {
		t.Errorf("a daemon without a guest: %t, %v", going, err)
	}
	if _, err := c.Highest(soon(t), "nowhere"); !errors.Is(err, ErrNoNode) {
		t.Errorf("%v", err)
	}
}

// bootSector is the smallest guest that writes: it asks the BIOS to write itself to the second sector of its disk, again
// until that works, and then halts. It needs no operating system and starts in a second.
//
//	again: mov ax, 0x0301   write one sector
//	       mov bx, 0x7c00   from where the BIOS has put this
//	       mov cx, 0x0002   cylinder 0, sector 2
//	       mov dx, 0x0080   head 0 of the first disk
//	       int 0x13
//	       jc again
//	halt:  hlt
//	       jmp halt
var bootSector = []byte{0xb8, 0x01, 0x03, 0xbb, 0x00, 0x7c, 0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0xcd, 0x13, 0x72, 0xf0, 0xf4, 0xeb, 0xfd}

// A guest whose write does not fit is paused by QEMU; after the growth the watcher lets it go on, and the write is done. The
// lack of space is made by blkdebug, once.
func TestQEMU_noSpace(t *testing.T) {
	q := startQEMU(t, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-accel", "tcg", "-m", "32",
		"-qmp", "unix:{dir}/qmp.sock,server=on,wait=off",
		"-blockdev", "file,node-name=file,filename={dir}/v",
		"-blockdev", `{"driver":"blkdebug","node-name":"dev","image":"file","inject-error":[{"event":"none","iotype":"write","errno":28,"once":true}]}`,
		"-blockdev", "raw,node-name=fmt,file=dev",
		"-device", "ide-hd,drive=fmt,werror=enospc,bootindex=0")
	disk := make([]byte, mib)
	copy(disk, bootSector)
	disk[510], disk[511] = 0x55, 0xaa
	path := filepath.Join(q.dir, "v")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	q.start()
	v := q.monitor(VolumeConfig{Node: "dev", Above: []string{"fmt"}, AllocatedBytes: mib, MaxBytes: 8 * mib, ThresholdBytes: mib, HighBytes: mib})
	s := until(t, v, "paused", func(s Status) bool { return s.Waiting == 1 })
	if !s.Low || s.WantBytes <= s.AllocatedBytes {
		t.Errorf("%+v", s)
	}
	if b, err := os.ReadFile(path); err != nil || b[512] != 0 {
		t.Fatalf("written before there is space: %v", err)
	}
	v.Grow(2 * mib)
	until(t, v, "going on", func(s Status) bool { return s.Waiting == 0 })
	testutil.Retry(t, 30*time.Second, func() error {
		b, err := os.ReadFile(path)
		if err == nil && !bytes.Equal(b[512:1024], disk[:512]) {
			err = errors.New("the guest's write has not come")
		}
		return err
	})
	if s := v.Status(); s.Waiting != 0 || s.Denied > 1 {
		t.Errorf("%+v", s)
	}
}
