package pool

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/internal/clockseam"
)

// clockEnv names the file from which a test build of the program takes what its clocks are to be wrong by; see package clockseam. The
// file is mapped, so a change is seen at once.
const clockEnv = clockseam.Env

// clockFile is beside the host's disk and not on it: a clock may jump while the disk is hung.
func (h *host) clockFile() string { return filepath.Join(h.dir, "clock.seam") }

func (h *host) writeClock(offset time.Duration, ppm int64) error {
	if err := clockseam.Set(h.clockFile(), clock.System{}.Boot(), offset, ppm); err != nil {
		return fmt.Errorf("setting the clock of %s: %w", h.name, err)
	}
	return nil
}

// SetClock makes a host's clock, as it counts since its boot, jump forward by offset and run ppm parts in a million too fast from now on.
// An offset below zero moves nothing: CLOCK_BOOTTIME has no steps back. Only a test build of the program looks. 0, 0 makes it run
// right again; what it is ahead it stays ahead, also over restarts.
func (p *Pool) SetClock(name string, offset time.Duration, ppm int64) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	return h.writeClock(offset, ppm)
}
