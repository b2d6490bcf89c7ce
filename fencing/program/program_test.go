package program

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script runs shell code.
func script(code string) Spec { return Spec{Path: "/bin/sh", Args: []string{"-c", code}} }

func TestRun(t *testing.T) {
	t.Parallel()
	s := script(`cat; echo "$PATH|$LC_ALL|$EXTRA|$HOME|$(pwd)"; echo bad >&2; exit 3`)
	s.Stdin, s.Env = "password=x\n", []string{"EXTRA=1"}
	out, err := Run(testutil.Deadline(t), s)
	if err != nil || out.Code != 3 || out.Truncated {
		t.Fatalf("%+v, %v", out, err)
	}
	if out.Stdout != "password=x\n"+Path+"|C|1||/\n" || out.Stderr != "bad\n" {
		t.Fatalf("%+v", out)
	}
}

func TestRun_unreadInput(t *testing.T) {
	t.Parallel()
	s := script("exit 0")
	s.Stdin = strings.Repeat("x", 1<<20)
	if out, err := Run(testutil.Deadline(t), s); err != nil || out.Code != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
}

func TestRun_boundedOutput(t *testing.T) {
	t.Parallel()
	s := script("yes | head -c 1000000; exit 2")
	s.MaxOutput = 100
	out, err := Run(testutil.Deadline(t), s)
	if err != nil || len(out.Stdout) != 100 || !out.Truncated || out.Code != 2 {
		t.Fatalf("%d bytes, %v, code %d", len(out.Stdout), err, out.Code)
	}
}

func TestRun_missing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), plain} {
		if _, err := Run(testutil.Deadline(t), Spec{Path: path}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// The group is killed, not the program alone: its child would go on otherwise.
func TestRun_killsTheGroup(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(testutil.Deadline(t))
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, script("sleep 1000 & echo $! > "+file+".new; mv "+file+".new "+file+"; wait"))
		ended <- err
	}()
	testutil.Retry(t, 30*time.Second, func() error {
		if childPid(file) == 0 {
			return errors.New("the child has not begun")
		}
		return nil
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	mustBeGone(t, childPid(file))
}

// A program that ended leaves nothing behind, and does not keep its caller waiting for the pipes of what it left.
func TestRun_killsWhatIsLeft(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	out, err := Run(testutil.Deadline(t), script("sleep 1000 & echo $! > "+file+"; echo done; exit 0"))
	if err != nil || out.Stdout != "done\n" {
		t.Fatalf("%+v, %v", out, err)
	}
	mustBeGone(t, childPid(file))
}

func childPid(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// mustBeGone waits until a process has ended; that of a killed one takes a moment.
func mustBeGone(t *testing.T, pid int) {
	t.Helper()
	if pid == 0 {
		t.Fatal("the child did not say its number, so nothing was tested")
	}
	testutil.Retry(t, 30*time.Second, func() error {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return nil
		}
		return errors.New("the child still runs")
	})
}
