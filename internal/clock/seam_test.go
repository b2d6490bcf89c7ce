//go:build jepsen

package clock_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/internal/clockseam"
)

// TestSystem_seam runs itself with a seam, because a process opens it once.
func TestSystem_seam(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "clock")
	if err := clockseam.Set(path, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSystem_child$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), clockseam.Env+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	cmd = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSystem_child$", "-test.count=1")
	cmd.Env = append(os.Environ(), clockseam.Env+"="+path+".missing")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("a seam that is not there was ignored: %s", out)
	}
}

func TestSystem_child(t *testing.T) {
	path := os.Getenv(clockseam.Env)
	if path == "" {
		return // it has work only as a child
	}
	raw := func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			t.Fatal(err)
		}
		return time.Duration(ts.Nano())
	}
	before := raw()
	if got := (clock.System{}).Boot(); got < before || got > raw() {
		t.Errorf("a seam of zeros made %v of %v", got, before)
	}
	now := raw()
	if err := clockseam.Set(path, now, time.Hour, 50_000); err != nil {
		t.Fatal(err)
	}
	got, after := (clock.System{}).Boot(), raw()
	if got < now+time.Hour || got > after+time.Hour+(after-now)/10 {
		t.Errorf("%v between %v and %v, an hour and 5%% later", got, now, after)
	}
	if n := testing.AllocsPerRun(100, func() { clock.System{}.Boot() }); n != 0 {
		t.Errorf("%v allocations a reading", n)
	}
}
