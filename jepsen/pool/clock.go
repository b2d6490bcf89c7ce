package pool

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// clockEnv names the file from which a test build of the program takes what its clocks are to be wrong by: two little-endian
// int64, nanoseconds and parts in a million. The file is mapped, so a change is seen at once.
const clockEnv = "HOLDFAST_CLOCK_SEAM"

// clockFile is beside the host's disk and not on it: a clock may jump while the disk is hung.
func (h *host) clockFile() string { return filepath.Join(h.dir, "clock.seam") }

// writeClock changes both numbers with one write.
func (h *host) writeClock(offset time.Duration, ppm int64) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(offset))
	b = binary.LittleEndian.AppendUint64(b, uint64(ppm))
	f, err := os.OpenFile(h.clockFile(), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("setting the clock of %s: %w", h.name, err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("setting the clock of %s: %w", h.name, err)
	}
	return nil
}

// SetClock makes a host's clocks jump by offset and run ppm parts in a million too fast. Only a test build of the program looks;
// 0, 0 puts them right. It stays so over restarts.
func (p *Pool) SetClock(name string, offset time.Duration, ppm int64) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	return h.writeClock(offset, ppm)
}
