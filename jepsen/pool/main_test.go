package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/procs"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestMain(m *testing.M) {
	if os.Getenv(frozenEnv) != "" {
		freezeAndWait()
		return
	}
	dir, err := os.MkdirTemp("", "hfj")
	if err != nil {
		panic(err)
	}
	built.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// built is the program under test, built once.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(built.dir, "holdfast")
	built.once.Do(func() {
		out, err := exec.Command("go", "build", "-o", path, "../../cmd/holdfast").CombinedOutput() //nolint:noctx // the test's own time bounds it
		if err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatalf("building the program: %v", built.err)
	}
	return path
}

// shortDir is a folder with a path that is short enough for sockets, in memory where that is possible.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "hfj")
	if err != nil {
		dir, err = os.MkdirTemp("", "hfj")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// noServer serves nothing, for tests without agents.
func noServer(string, string, string) error { return nil }

// needRoot skips where there are no namespaces.
func needRoot(t *testing.T) {
	t.Helper()
	testutil.NeedRoot(t)
	testutil.NeedTool(t, "ip", "nsenter", "mkfs.ext4", "mount", "fsfreeze", "losetup")
}

// bare makes a pool of hosts without a LUN. Nothing may be left of it at the end.
func bare(t *testing.T, n int) *Pool {
	t.Helper()
	needRoot(t)
	p, err := Open(Config{Dir: shortDir(t), Binary: os.Args[0], Hosts: n, Serve: noServer, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, p) })
	return p
}

// closed closes a pool, twice, and asserts that nothing of it is left.
func closed(t *testing.T, p *Pool) {
	t.Helper()
	begun := time.Now()
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Errorf("closing: %v", err)
	}
	t.Logf("closed in %s", time.Since(begun).Round(time.Millisecond))
	nothingLeft(t, p.Tag())
}

// logger tells what the pool does, among what the test says.
func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// nothingLeft looks for processes, namespaces, loop devices and mounts of a pool.
func nothingLeft(t *testing.T, tag string) {
	t.Helper()
	for _, what := range leftovers(t, tag) {
		t.Errorf("left behind: %s", what)
	}
}

func leftovers(t *testing.T, tag string) (left []string) {
	t.Helper()
	pids, err := procs.Family(0, poolMark+"="+tag)
	for _, pid := range pids {
		left = append(left, fmt.Sprintf("process %d", pid))
	}
	var names []string
	if os.Geteuid() == 0 {
		more, nerr := namespaces()
		names, err = more, errors.Join(err, nerr)
	}
	for _, ns := range names {
		if strings.HasPrefix(ns, tag+"-") {
			left = append(left, "namespace "+ns)
		}
	}
	loops, lerr := loopsOf(tag + "-")
	for _, l := range loops {
		left = append(left, fmt.Sprintf("loop device %+v", l))
	}
	if err := errors.Join(err, lerr); err != nil {
		t.Fatal(err)
	}
	return left
}

// in calls f on a thread in a network namespace. Sockets that it makes stay in there.
func in(t *testing.T, ns string, f func() error) {
	t.Helper()
	if err := inNS(ns, f); err != nil {
		t.Fatal(err)
	}
}

func inNS(ns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// listen makes a TCP listener in a namespace; it is served until the end: what comes is echoed.
func listen(t *testing.T, ns, addr string) {
	t.Helper()
	var l net.Listener
	in(t, ns, func() (err error) {
		var lc net.ListenConfig
		l, err = lc.Listen(t.Context(), "tcp", addr)
		return err
	})
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() { echo(t.Context(), c) })
		}
	})
	t.Cleanup(func() { l.Close(); served.Wait() })
}

// echo sends back what comes, until the test ends.
func echo(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	b := make([]byte, 64)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

// reaches says whether a TCP connection from a namespace is made, and carries bytes both ways, within wait.
func reaches(ns, addr string, wait time.Duration) error {
	return inNS(ns, func() error {
		d := net.Dialer{Timeout: wait}
		c, err := d.Dial("tcp", addr) //nolint:noctx // the dialer has a timeout
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(wait))
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 1))
		return err
	})
}
