// Package clock is the seam for the clock that leases are measured with.
//
// Go's monotonic clock stops while a machine is suspended, CLOCK_BOOTTIME does not. A lease that expired during a
// suspend must be seen as expired, so every lease deadline is a BOOTTIME reading.
package clock

import "time"

// Clock tells the time since boot, suspend included.
type Clock interface {
	// Boot is the time since boot on CLOCK_BOOTTIME. Readings are the same in all processes of one machine.
	Boot() time.Duration
}

// Virtual follows package time, and with it the fake time of a testing/synctest bubble, plus an offset that a test
// may move to model a suspend.
type Virtual struct {
	Start time.Time
	Skew  time.Duration
}

// Boot is the time since Start plus Skew.
func (v *Virtual) Boot() time.Duration { return time.Since(v.Start) + v.Skew }
