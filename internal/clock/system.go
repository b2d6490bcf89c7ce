package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// System is the machine's own CLOCK_BOOTTIME. In a build for failure injection it may be wrong, see seam.go.
type System struct{}

// Boot reads CLOCK_BOOTTIME.
func (System) Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// The call cannot fail on Linux >= 2.6.39 with a valid pointer; without a clock no lease can be judged.
		panic("clock_gettime(CLOCK_BOOTTIME): " + err.Error())
	}
	return skewed(time.Duration(ts.Nano()))
}
