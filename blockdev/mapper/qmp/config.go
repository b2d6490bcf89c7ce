package qmp

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

// Config is what a Monitor needs to know. Start from DefaultConfig.
type Config struct {
	// Socket is QEMU's monitor, an absolute path. QEMU serves one client of a socket at a time, so it must be one that
	// nobody else uses, libvirt neither: give QEMU a second -qmp.
	Socket string
	// CallTimeout bounds each command. Default 5 s.
	CallTimeout time.Duration
	// PollEvery is the pause between two looks at how far volumes are written, in case an event was missed. Default 30 s.
	PollEvery time.Duration
	// LowPollEvery is that pause while a volume is low, when QEMU has told all that it tells by itself. Default 1 s.
	LowPollEvery time.Duration
	// RetryEvery is the pause before another try to connect. Default 1 s.
	RetryEvery time.Duration
	// Log takes what happens to the connection. Default: nothing is logged.
	Log *slog.Logger
}

// DefaultConfig has the defaults of everything that has one.
func DefaultConfig() Config {
	return Config{CallTimeout: 5 * time.Second, PollEvery: 30 * time.Second, LowPollEvery: time.Second,
		RetryEvery: time.Second, Log: slog.New(slog.DiscardHandler)}
}

// maxSocket is the longest path of a unix socket.
const maxSocket = 107

// Validate refuses what cannot work.
func (c Config) Validate() error {
	switch {
	case !filepath.IsAbs(c.Socket) || len(c.Socket) > maxSocket:
		return fmt.Errorf("%w: socket %.120q: want an absolute path of at most %d bytes", ErrConfig, c.Socket, maxSocket)
	case c.CallTimeout <= 0 || c.PollEvery <= 0 || c.LowPollEvery <= 0 || c.RetryEvery <= 0:
		return fmt.Errorf("%w: times %v, %v, %v, %v: want more than 0", ErrConfig, c.CallTimeout, c.PollEvery, c.LowPollEvery, c.RetryEvery)
	case c.Log == nil:
		return fmt.Errorf("%w: no log: start from DefaultConfig", ErrConfig)
	}
	return nil
}

// VolumeConfig is a volume among a guest's disks.
type VolumeConfig struct {
	// Node is the block node on the volume's device: the one whose driver is host_device, below the format's.
	Node string
	// Above are the nodes between it and the guest's disk, the format's above all, as far as they are known: QEMU names the highest
	// of them when it pauses the guest. Others are found by asking it.
	Above []string
	// AllocatedBytes is the size of the volume, MaxBytes the most that it may grow to.
	AllocatedBytes, MaxBytes int64
	// ThresholdBytes is how much must be free behind the highest byte written; with less, watchers are called.
	ThresholdBytes int64
	// HighBytes is the end of what was written before. QEMU counts from its own start.
	HighBytes int64
}

// Validate refuses what cannot be watched.
func (c VolumeConfig) Validate() error {
	if c.Node == "" || c.AllocatedBytes <= 0 || c.MaxBytes < c.AllocatedBytes || c.ThresholdBytes < 0 || c.HighBytes < 0 {
		return fmt.Errorf("%w: node %q, %d of %d bytes allocated, threshold %d, highest byte %d", ErrConfig, c.Node,
			c.AllocatedBytes, c.MaxBytes, c.ThresholdBytes, c.HighBytes)
	}
	return nil
}
