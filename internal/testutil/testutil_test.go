package testutil_test

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a test that notes how it ended.
type fake struct {
	testing.TB
	failed, skipped string
}

type ended struct{}

func (f *fake) Helper()        {}
func (f *fake) Cleanup(func()) {}
func (f *fake) Fatalf(format string, args ...any) {
	f.failed = format
	panic(ended{})
}
func (f *fake) Skip(args ...any) { f.skipped = args[0].(string); panic(ended{}) }

// try runs f as a test of its own.
func try(t *testing.T, f func(t testing.TB)) *fake {
	fk := &fake{TB: t}
	func() {
		defer func() {
			if r := recover(); r != nil && r != (ended{}) {
				panic(r)
			}
		}()
		f(fk)
	}()
	return fk
}

// TestNeedTool_missing must not run in parallel: it changes the environment.
func TestNeedTool_missing(t *testing.T) {
	need := func(t testing.TB) { testutil.NeedTool(t, "sh", "holdfast-no-such-tool") }
	t.Setenv("CI", "")
	if f := try(t, need); !strings.Contains(f.skipped, "holdfast-no-such-tool") || f.failed != "" {
		t.Errorf("%+v", f)
	}
	t.Setenv("CI", "true")
	if f := try(t, need); f.failed == "" {
		t.Error("not a failure in CI")
	}
	if f := try(t, func(t testing.TB) { testutil.NeedTool(t, "sh") }); f.failed != "" || f.skipped != "" {
		t.Errorf("%+v", f)
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin, n := time.Now(), 0
		testutil.Retry(t, time.Second, func() error {
			if n++; n < 5 {
				return errors.New("not yet")
			}
			return nil
		})
		if n != 5 {
			t.Errorf("%d calls", n)
		}
		f := try(t, func(t testing.TB) {
			testutil.Retry(t, time.Second, func() error { return errors.New("never") })
		})
		if f.failed == "" || time.Since(begin) > 2*time.Second {
			t.Errorf("gave up after %v: %q", time.Since(begin), f.failed)
		}
	})
}

func TestFreePort(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 250 { // more than a block
		port := testutil.FreePort(t)
		if seen[port] || port >= 32768 {
			t.Fatalf("port %d, seen before: %v", port, seen[port])
		}
		seen[port] = true
	}
	runtime.GC() // closes what nobody holds any more
	runtime.GC()
	for port := range seen {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port-port%100)); err == nil {
			l.Close()
			t.Fatalf("the block of port %d is not reserved", port)
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sh")
	if out := testutil.Run(t, "sh", "-c", "echo $LC_ALL"); out != "C\n" {
		t.Errorf("%q", out)
	}
	_, err := testutil.TryRun(t, "sh", "-c", "echo why >&2; exit 3")
	var re *testutil.RunError
	if !errors.As(err, &re) || re.Stderr != "why\n" || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%v", err)
	}
}

func TestLoopDevice(t *testing.T) {
	t.Parallel()
	var dev string
	t.Run("attached", func(t *testing.T) {
		dev = testutil.LoopDevice(t, testutil.SparseFile(t, "f", 1<<20), 4096)
		if out := testutil.Run(t, "losetup", "--noheadings", "--output", "LOG-SEC", dev); strings.TrimSpace(out) != "4096" {
			t.Errorf("sectors of %s", out)
		}
	})
	if dev == "" {
		t.Skip("no loop devices here")
	}
	if b, err := os.ReadFile("/sys/block/" + strings.TrimPrefix(dev, "/dev/") + "/loop/backing_file"); err == nil && strings.Contains(string(b), t.Name()) {
		t.Errorf("%s is still attached to %s", dev, b)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	ctx := testutil.Deadline(t)
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > testutil.DefaultDeadline || ctx.Err() != nil {
		t.Errorf("deadline %v, %v", end, ok)
	}
}
