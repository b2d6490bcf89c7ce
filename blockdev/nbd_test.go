package blockdev_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// short is a context with a deadline soon.
func short(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestNBD_hung: a server that stops answering makes mutations unknown and reads time out; what was abandoned is
// counted until the replies come, the connection survives, and the late writes are there.
func TestNBD_hung(t *testing.T) {
	t.Parallel()
	s := qemuNBD(t)
	d := open(t, s.uri, blockdev.Options{})
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p := bytes.Repeat([]byte{5}, 4096)
	if err := d.WriteAt(short(t, time.Second), p, 0); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
		t.Errorf("write: %v", err)
	}
	if err := d.ReadAt(short(t, time.Second), make([]byte, 512), 0); !errors.Is(err, blockdev.ErrTimeout) {
		t.Errorf("read: %v", err)
	}
	clear(p) // the caller's slice is the caller's again
	if n := d.Pending(); n != 2 {
		t.Errorf("%d pending, want 2", n)
	}
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	wantPending(t, d, 0)
	got := make([]byte, 4096)
	if err := d.ReadAt(testutil.Deadline(t), got, 0); err != nil || got[0] != 5 || got[4095] != 5 {
		t.Errorf("the late write is not there: %v", err)
	}
}

func wantPending(t *testing.T, d blockdev.Device, want int) {
	t.Helper()
	testutil.Retry(t, 10*time.Second, func() error {
		if d.Pending() != want {
			return errors.New("calls still pending")
		}
		return nil
	})
}

// TestNBD_bound: with too many requests not back, calls fail at once.
func TestNBD_bound(t *testing.T) {
	t.Parallel()
	s := qemuNBD(t)
	d := open(t, s.uri, blockdev.Options{MaxPending: 3})
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := d.Flush(short(t, 500*time.Millisecond)); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
	}
	if err := d.WriteAt(testutil.Deadline(t), make([]byte, 512), 0); !errors.Is(err, blockdev.ErrPending) {
		t.Errorf("write: %v", err)
	}
}

// TestNBD_killed: a server killed under load fails what is under way, mutations as unknown, and the device works
// again when the server is back. Everything that was acknowledged and flushed is there.
func TestNBD_killed(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-nbd")
	file, sock := testutil.SparseFile(t, "lun", devSize), filepath.Join(t.TempDir(), "sock")
	s := startQemuNBD(t, file, sock)
	d := open(t, s.uri, blockdev.Options{IOTimeout: 50 * time.Millisecond})
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil { // so that all calls are caught in the middle
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx := short(t, 5*time.Second)
	for i := range 8 {
		wg.Go(func() {
			if err := d.WriteAt(ctx, make([]byte, 1<<20), int64(i)<<20); !errors.Is(err, blockdev.ErrOutcomeUnknown) && !errors.Is(err, blockdev.ErrGone) {
				t.Errorf("write: %v", err)
			}
			if err := d.ReadAt(ctx, make([]byte, 512), 0); !errors.Is(err, blockdev.ErrGone) {
				t.Errorf("read: %v", err)
			}
		})
	}
	unknown := make(chan error, 1)
	wg.Go(func() { unknown <- d.Flush(ctx) })
	s.kill(t)
	wg.Wait()
	if err := <-unknown; !errors.Is(err, blockdev.ErrOutcomeUnknown) && !errors.Is(err, blockdev.ErrGone) {
		t.Errorf("flush: %v", err)
	}
	os.Remove(sock)
	startQemuNBD(t, file, sock)
	p := bytes.Repeat([]byte{9}, 512)
	if err := errors.Join(d.WriteAt(ctx, p, 512), d.Flush(ctx)); err != nil {
		t.Fatalf("after the server came back: %v", err)
	}
	<-ctx.Done() // the deadline of the lost writes
	wantPending(t, d, 0)
}

// TestNBD_lostIsPending: a mutation whose connection broke counts until its deadline.
func TestNBD_lostIsPending(t *testing.T) {
	t.Parallel()
	s := qemuNBD(t)
	d := open(t, s.uri, blockdev.Options{IOTimeout: time.Millisecond})
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx := short(t, 3*time.Second)
	done := make(chan error)
	go func() { done <- d.WriteAt(ctx, make([]byte, 512), 0) }()
	testutil.Retry(t, 2*time.Second, func() error { // wait until the request is on its way
		if d.Flush(short(t, 10*time.Millisecond)); d.Pending() == 0 {
			return errors.New("nothing sent")
		}
		return nil
	})
	s.kill(t)
	if err := <-done; !errors.Is(err, blockdev.ErrOutcomeUnknown) || !errors.Is(err, blockdev.ErrGone) {
		t.Errorf("write: %v", err)
	}
	if d.Pending() == 0 {
		t.Error("a write that the server may still carry out is not pending")
	}
	wantPending(t, d, 0)
	if end, _ := ctx.Deadline(); time.Now().Before(end) { // the context's own timer may be late
		t.Error("forgotten before its deadline")
	}
}

// TestNBD_shrunk: a server that comes back with a smaller export is not the device that was opened.
func TestNBD_shrunk(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "qemu-nbd")
	file, sock := testutil.SparseFile(t, "lun", devSize), filepath.Join(t.TempDir(), "sock")
	s := startQemuNBD(t, file, sock)
	d := open(t, s.uri, blockdev.Options{})
	s.kill(t)
	os.Remove(sock)
	if err := os.Truncate(file, devSize/2); err != nil {
		t.Fatal(err)
	}
	startQemuNBD(t, file, sock)
	testutil.Retry(t, 5*time.Second, func() error {
		err := d.ReadAt(testutil.Deadline(t), make([]byte, 512), 0)
		if !errors.Is(err, blockdev.ErrGone) {
			t.Fatalf("read: %v", err)
		}
		if !strings.Contains(err.Error(), "when it was opened") { // not the old connection's end any more
			return err
		}
		return nil
	})
}

func TestNBD_closedUnderWay(t *testing.T) {
	t.Parallel()
	s := qemuNBD(t)
	d := open(t, s.uri, blockdev.Options{})
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- d.WriteAt(testutil.Deadline(t), make([]byte, 512), 0) }()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, blockdev.ErrGone) {
		t.Errorf("write: %v", err)
	}
	if err := d.Flush(testutil.Deadline(t)); !errors.Is(err, blockdev.ErrGone) {
		t.Errorf("flush after close: %v", err)
	}
}

func TestOpen_nbdRefusals(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "nbdkit")
	uri := nbdkitTCP(t)
	other := strings.Replace(qemuNBD(t).uri, "/exp?", "/other?", 1)
	for _, c := range []struct {
		name, uri string
		o         blockdev.Options
		want      error
	}{
		{"no server", "nbd://127.0.0.1:1/x", blockdev.Options{}, blockdev.ErrGone},
		{"no socket", "nbd+unix:///x?socket=/nowhere", blockdev.Options{}, blockdev.ErrGone},
		{"wrong export", other, blockdev.Options{}, blockdev.ErrGone},
		{"scheme", "iscsi://x/y", blockdev.Options{}, blockdev.ErrNotSupported},
	} {
		if d, err := blockdev.Open(testutil.Deadline(t), c.uri, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
			if err == nil {
				d.Close()
			}
		}
	}
	for _, bad := range []string{"nbd://", "nbd+unix:///x", "nbd://h/x?socket=1", "nbd://h:p/x"} {
		if _, err := blockdev.Open(testutil.Deadline(t), bad, blockdev.Options{}); err == nil {
			t.Errorf("%s accepted", bad)
		}
	}
	d := open(t, uri, blockdev.Options{ReadOnly: true})
	if err := d.WriteAt(testutil.Deadline(t), make([]byte, 512), 0); !errors.Is(err, blockdev.ErrReadOnly) {
		t.Errorf("write: %v", err)
	}
	if d := open(t, uri, blockdev.Options{SectorSize: 4096}); d.SectorSize() != 4096 {
		t.Errorf("sector size %d", d.SectorSize())
	}
}
