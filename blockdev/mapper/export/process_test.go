package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// exported is an export in a process of its own.
type exported struct {
	Hello
	cmd *exec.Cmd
	uri string
}

// testSpec is a volume on a file, of which the first allocated bytes are mapped.
func testSpec(t testing.TB, file string, allocated, size int64) Spec {
	t.Helper()
	dir := shortDir(t)
	s := DefaultSpec()
	s.Name, s.MaxBytes, s.ThresholdBytes = "vol", size, 1*mib
	s.Socket, s.Control = filepath.Join(dir, "nbd"), filepath.Join(dir, "ctl")
	s.Segments = []SegmentSpec{{file, 0, allocated}}
	return s
}

// start runs the process and returns what it says when it is ready.
func start(t testing.TB, s Spec) (*exported, error) {
	t.Helper()
	specR, specW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer readyR.Close()
	cmd := testutil.Command(t, os.Args[0])
	cmd.Env = append(cmd.Env, envRole+"=export")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{specR, readyW}, t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	specR.Close()
	readyW.Close()
	err = json.NewEncoder(specW).Encode(s)
	if err := errors.Join(err, specW.Close()); err != nil {
		t.Fatal(err)
	}
	h, err := ReadReady(readyR)
	return &exported{Hello: h, cmd: cmd, uri: nbdURI(s.Name, s.Socket)}, err
}

func mustStart(t testing.TB, s Spec) *exported {
	t.Helper()
	e, err := start(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func dial(t testing.TB, s Spec) (*Client, Hello) {
	t.Helper()
	c, h, err := Dial(testutil.Deadline(t), s.Control)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, h
}

// TestProcess_agentRestarts: clients of the control socket come and go, a guest's connection does not notice, and the
// next agent learns everything and extends.
func TestProcess_agentRestarts(t *testing.T) {
	t.Parallel()
	file := testutil.SparseFile(t, "lun", 64*mib)
	spec := testSpec(t, file, 4*mib, 32*mib)
	e := mustStart(t, spec)
	ctx := testutil.Deadline(t)
	guest, err := blockdev.Open(ctx, e.uri, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	first, hello := dial(t, spec)
	if hello.PID != e.cmd.Process.Pid || hello.Status.AllocatedBytes != 4*mib || len(hello.Spec.Segments) != 1 {
		t.Errorf("%+v", hello)
	}
	data := bytes.Repeat([]byte{9}, mib)
	if err := guest.WriteAt(ctx, data, 3*mib); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- guest.WriteAt(ctx, data, 4*mib) }()
	st, err := first.Watch(ctx, hello.Status.Seq)
	if err != nil || !st.Low {
		t.Errorf("%+v, %v", st, err)
	}
	if err := first.Close(); err != nil { // the agent dies while the guest waits for space
		t.Fatal(err)
	}
	second, hello := dial(t, spec)
	st = hello.Status
	for err == nil && st.Waiting == 0 {
		st, err = second.Watch(ctx, st.Seq)
	}
	more := []SegmentSpec{{file, 0, 4 * mib}, {file, 16 * mib, 4 * mib}}
	st, err = second.Grow(ctx, more)
	if err != nil || st.AllocatedBytes != 8*mib {
		t.Fatalf("%+v, %v", st, err)
	}
	if err := <-wrote; err != nil {
		t.Errorf("the guest's write: %v", err)
	}
	if st, err = second.Grow(ctx, more[:1]); err != nil || st.AllocatedBytes != 8*mib {
		t.Errorf("an extension that was known: %+v, %v", st, err)
	}
	if _, err = second.Grow(ctx, []SegmentSpec{{file, mib, 40 * mib}}); !errors.Is(err, ErrMapping) {
		t.Errorf("another mapping: %v", err)
	}
	if _, h := dial(t, spec); len(h.Spec.Segments) != 2 || h.Spec.Segments[1] != more[1] {
		t.Errorf("%+v", h.Spec)
	}
	if st, err = second.Detach(ctx); err != nil || !st.Detached {
		t.Errorf("detach: %+v, %v", st, err)
	}
	if err := e.cmd.Wait(); err != nil {
		t.Errorf("the process: %v", err)
	}
	wantOnFile(t, file, 16*mib, data)
	if left, err := filepath.Glob(spec.Control + "*"); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := second.Status(ctx); !errors.Is(err, ErrNoProcess) {
		t.Errorf("after the end: %v", err)
	}
}

func wantOnFile(t *testing.T, file string, off int64, want []byte) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
		t.Errorf("not on the device: %v", err)
	}
}

func TestProcess_oneAtATime(t *testing.T) {
	t.Parallel()
	file := testutil.SparseFile(t, "lun", 8*mib)
	spec := testSpec(t, file, 4*mib, 8*mib)
	e := mustStart(t, spec)
	if _, err := start(t, spec); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: %v", err)
	}
	if err := e.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = e.cmd.Wait() // "signal: killed"
	mustStart(t, spec)
	if _, h := dial(t, spec); h.Status.AllocatedBytes != 4*mib {
		t.Errorf("%+v", h)
	}
}

// TestProcess_killed: after the death of the process and a new one, a client that connects again goes on, and finds what
// it had flushed.
func TestProcess_killed(t *testing.T) {
	t.Parallel()
	spec := testSpec(t, testutil.SparseFile(t, "lun", 8*mib), 4*mib, 8*mib)
	e := mustStart(t, spec)
	ctx := testutil.Deadline(t)
	guest, err := blockdev.Open(ctx, e.uri, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	data := bytes.Repeat([]byte{6}, 64*kib)
	if err := errors.Join(guest.WriteAt(ctx, data, mib), guest.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = e.cmd.Wait() // "signal: killed"
	mustStart(t, spec)
	got := make([]byte, len(data))
	testutil.Retry(t, 10*time.Second, func() error { return guest.ReadAt(ctx, got, mib) })
	if err := guest.WriteAt(ctx, data, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%v", err)
	}
}

// TestProcess_sigterm: an end in order, by the machine's shutdown say.
func TestProcess_sigterm(t *testing.T) {
	t.Parallel()
	spec := testSpec(t, testutil.SparseFile(t, "lun", 8*mib), 4*mib, 8*mib)
	e := mustStart(t, spec)
	c, h := dial(t, spec)
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx := testutil.Deadline(t)
	st, err := h.Status, error(nil)
	for err == nil && !st.Detached {
		st, err = c.Watch(ctx, st.Seq)
	}
	if !st.Detached && !errors.Is(err, ErrNoProcess) && !errors.Is(err, ErrDetached) {
		t.Errorf("%+v, %v", st, err)
	}
	if err := e.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestProcess_refuses(t *testing.T) {
	t.Parallel()
	file := testutil.SparseFile(t, "lun", 8*mib)
	for name, c := range map[string]struct {
		change func(*Spec)
		want   error
	}{
		"relative socket": {func(s *Spec) { s.Socket = "x" }, ErrConfig},
		"one socket":      {func(s *Spec) { s.Socket = s.Control }, ErrConfig},
		"no segments":     {func(s *Spec) { s.Segments = nil }, ErrConfig},
		"no size":         {func(s *Spec) { s.MaxBytes = 0 }, ErrConfig},
		"no device":       {func(s *Spec) { s.Segments[0].Device = "/nonexistent" }, blockdev.ErrGone},
		"behind the end":  {func(s *Spec) { s.Segments[0].LengthBytes = 16 * mib }, blockdev.ErrOutOfRange},
	} {
		spec := testSpec(t, file, 4*mib, 8*mib)
		c.change(&spec)
		e, err := start(t, spec)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if e.cmd.Wait() == nil {
			t.Errorf("%s: exit status 0", name)
		}
	}
}

// TestControl_hostile: what comes over the control socket costs the export nothing.
func TestControl_hostile(t *testing.T) {
	t.Parallel()
	spec := testSpec(t, testutil.SparseFile(t, "lun", 8*mib), 4*mib, 8*mib)
	mustStart(t, spec)
	for name, b := range map[string][]byte{
		"garbage": []byte("GET / HTTP/1.1\r\n\r\n"), "long": {255, 255, 255, 255}, "empty": {0, 0, 0, 0},
		"no json": {3, 0, 0, 0, 'a', 'b', 'c'}, "half": {9, 0, 0, 0, '{'},
	} {
		c, _ := dial(t, spec)
		c.sending.Lock()
		_, err := c.sock.Write(b)
		c.sending.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if name != "half" {
			<-c.done // dropped
		}
	}
	oldest, _ := dial(t, spec)
	for range maxControllers {
		dial(t, spec)
	}
	<-oldest.done // it went for the youngest
	c, _ := dial(t, spec)
	if a, err := c.call(testutil.Deadline(t), call{Method: "nonsense"}); err == nil || a.Status == nil {
		t.Errorf("%+v, %v", a, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Watch(ctx, c.mustStatus(t).Seq); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("watch without an event: %v", err)
	}
}

func (c *Client) mustStatus(t *testing.T) Status {
	t.Helper()
	st, err := c.Status(testutil.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// memoryKiB is a line of /proc/PID/status.
func memoryKiB(t testing.TB, pid int, key string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == key+":" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s of process %d", key, pid)
	return 0
}
