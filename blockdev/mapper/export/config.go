package export

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Config is what an export needs to know besides its segments. Start from DefaultConfig.
type Config struct {
	// Name is the name of the export, usually the volume's uuid. At most 4096 bytes.
	Name string
	// MaxBytes is the size that clients see: the most the volume may ever grow to, a multiple of 4096. No default.
	MaxBytes int64
	// ReadOnly refuses every mutation with EPERM. No guard is needed then.
	ReadOnly bool
	// Guard is the right to write. Needed unless ReadOnly.
	Guard blockdev.Guard
	// ThresholdBytes is how much must be free behind the highest byte written; with less, watchers are called.
	// Default 2 GiB, VDSM's 80 % of a chunk. Danger: with too little every extension becomes a wait.
	ThresholdBytes int64
	// HighBytes is the end of what was written before, if the caller knows: the image's end offset. Default 0.
	HighBytes int64
	// Patience is how long a write behind the allocated end waits for Grow before ENOSPC. Default 10 s. Danger: a
	// guest's own disk timeout (30 s for SCSI) counts from the same moment.
	Patience time.Duration
	// IOTimeout is the deadline of each device call. Default 10 s. The guard must be good for longer than that.
	IOTimeout time.Duration
	// DetachTimeout bounds the draining when Run ends by its context. Default 30 s.
	DetachTimeout time.Duration
	// Discard passes trims on to the devices. Default false: they are taken and nothing happens.
	Discard bool
	// Log takes what happens to connections and devices. Default: nothing is logged.
	Log *slog.Logger
}

// DefaultConfig has the defaults of everything that has one.
func DefaultConfig() Config {
	return Config{
		ThresholdBytes: 2 << 30, Patience: 10 * time.Second, IOTimeout: 10 * time.Second,
		DetachTimeout: 30 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
}

const (
	maxName     = 4096
	maxExport   = 1 << 60
	sizeUnit    = 4096
	maxDuration = 10 * time.Minute
)

// Validate refuses what cannot be served.
func (c Config) Validate() error {
	switch {
	case c.Name == "" || len(c.Name) > maxName:
		return fmt.Errorf("%w: a name of %d bytes: want 1 to %d", ErrConfig, len(c.Name), maxName)
	case c.MaxBytes <= 0 || c.MaxBytes > maxExport || c.MaxBytes%sizeUnit != 0:
		return fmt.Errorf("%w: size of %d bytes: want a positive multiple of %d", ErrConfig, c.MaxBytes, sizeUnit)
	case c.ThresholdBytes < 0 || c.HighBytes < 0:
		return fmt.Errorf("%w: threshold %d, highest byte %d: want no negative numbers", ErrConfig, c.ThresholdBytes, c.HighBytes)
	case c.Patience < 0 || c.Patience > maxDuration:
		return fmt.Errorf("%w: patience %v: want 0 to %v", ErrConfig, c.Patience, maxDuration)
	case c.IOTimeout <= 0 || c.IOTimeout > maxDuration || c.DetachTimeout <= 0 || c.DetachTimeout > maxDuration:
		return fmt.Errorf("%w: I/O timeout %v, detach timeout %v: want more than 0, up to %v",
			ErrConfig, c.IOTimeout, c.DetachTimeout, maxDuration)
	case c.Guard == nil && !c.ReadOnly:
		return fmt.Errorf("%w: no guard: give one, or export read-only", ErrConfig)
	case c.Log == nil:
		return fmt.Errorf("%w: no log: start from DefaultConfig", ErrConfig)
	}
	return nil
}
