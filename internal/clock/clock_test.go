package clock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/clock"
)

func TestSystem(t *testing.T) {
	t.Parallel()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	a := clock.System{}.Boot()
	b := clock.System{}.Boot()
	if a < time.Duration(ts.Nano()) || b < a || b > a+time.Minute {
		t.Errorf("%v, %v after %v", a, b, time.Duration(ts.Nano()))
	}
}

func TestVirtual(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &clock.Virtual{Start: time.Now()}
		time.Sleep(time.Hour)
		if c.Boot() != time.Hour {
			t.Errorf("%v after an hour", c.Boot())
		}
		c.Skew = time.Minute // a suspend
		if c.Boot() != time.Hour+time.Minute {
			t.Errorf("%v after a suspend", c.Boot())
		}
	})
}

// TestSystem_allocates: leases are judged with it all the time.
func TestSystem_allocates(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { clock.System{}.Boot() }); n != 0 {
		t.Errorf("%v allocations a reading", n)
	}
}
