package procs

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// startShell starts a shell script under a Spawner and returns it with its standard output.
func startShell(t *testing.T, script string, env ...string) (*exec.Cmd, *bufio.Reader, *Spawner) {
	t.Helper()
	s, err := NewSpawner()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(cmd); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out), s
}

func readPID(t *testing.T, r *bufio.Reader) int {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// A grandchild that made its own session is found by the mark, and killed and reaped after its parent is gone.
func TestFamily_orphanInItsOwnSession(t *testing.T) {
	t.Parallel()
	const mark = "HOLDFAST_TEST_MARK=orphan"
	cmd, out, s := startShell(t, `setsid sleep 100 >/dev/null 2>&1 & echo $!; sleep 100 >/dev/null 2>&1 & echo $!; wait`, mark)
	defer s.Close()
	own, same := readPID(t, out), readPID(t, out)

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for {
		pids, err := Family(cmd.Process.Pid, mark)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(pids, own) && slices.Contains(pids, same) {
			break
		}
		if deadline(t).Err() != nil {
			t.Fatalf("family is %v, want %d and %d", pids, own, same)
		}
	}
	for _, pid := range []int{own, same} {
		if err := Kill(deadline(t), pid); err != nil {
			t.Error(err)
		}
	}
	if pids, err := Family(cmd.Process.Pid, mark); err != nil || len(pids) > 0 {
		t.Errorf("after the kill: %v, %v", pids, err)
	}
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(own))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the orphan was not reaped: %v", err)
	}
}

func TestSpawner_closeKillsChildren(t *testing.T) {
	t.Parallel()
	cmd, out, s := startShell(t, `echo $$; exec sleep 100`)
	readPID(t, out)
	s.Close()
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ProcessState.Success() {
		t.Fatalf("the child ended with %v, want a kill", err)
	}
}

func TestHandle_waitRespectsContext(t *testing.T) {
	t.Parallel()
	h, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := h.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := h.Signal(unix.Signal(0)); err != nil {
		t.Fatal(err)
	}
}

func TestKill_nobody(t *testing.T) {
	t.Parallel()
	if err := Kill(deadline(t), 1<<22+12345); err != nil { // above the largest pid
		t.Logf("kill of a pid that cannot exist: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if err := WaitGone(deadline(t), cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
}

func TestLock_second(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	f, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(path)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Fatalf("second lock: %v", err)
	}
	f.Close()
	// A child that another test starts just now has a copy of the descriptor, and with it the lock, until it executes its program.
	testutil.Retry(t, 10*time.Second, func() error {
		g, err := Lock(path)
		if err == nil {
			err = g.Close()
		}
		return err
	})
}
