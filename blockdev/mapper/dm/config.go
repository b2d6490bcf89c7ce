package dm

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Config is what a Mapper needs to know. Start from DefaultConfig.
type Config struct {
	// Kernel takes the ioctls. Default, when nil: this machine's, opened by New and closed by Close.
	Kernel Kernel
	// Dir is where nodes are made. Default /dev/mapper. Danger: programs and lvm2 look nowhere else.
	Dir string
	// Mode, UID and GID are those of nodes that are made here, where udev does not. Default 0600, root.
	Mode     os.FileMode
	UID, GID int
	// OpenPatience is how long Deactivate tries again while the device is open: udev and its like look into devices for
	// a moment after each change. Default 2 s.
	OpenPatience time.Duration
	// UdevPatience is how long an operation waits for udev before it makes the node itself. Default 5 s.
	UdevPatience time.Duration
	// Log takes what happens to devices. Default: nothing is logged.
	Log *slog.Logger

	udev    notifier                            // findUdev when nil
	resolve func(path string) (pvDevice, error) // resolvePV when nil
	nodes   *nodes                              // of Dir when nil
}

// DefaultConfig has the defaults of everything that has one.
func DefaultConfig() Config {
	return Config{
		Dir: DefaultDir, Mode: 0o600, OpenPatience: 2 * time.Second, UdevPatience: 5 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
}

// Validate refuses what cannot work.
func (c Config) Validate() error {
	switch {
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("device-mapper: folder for nodes %q: want an absolute path", c.Dir)
	case c.Mode.Perm() != c.Mode || c.UID < 0 || c.GID < 0:
		return fmt.Errorf("device-mapper: nodes of mode %v for %d:%d: want permission bits and ids", c.Mode, c.UID, c.GID)
	case c.OpenPatience < 0 || c.UdevPatience <= 0:
		return fmt.Errorf("device-mapper: patience of %v with open devices, %v with udev: want no negative times, and some for udev",
			c.OpenPatience, c.UdevPatience)
	case c.Log == nil:
		return fmt.Errorf("device-mapper: no log: start from DefaultConfig")
	}
	return nil
}

func (c Config) withSeams() Config {
	if c.udev == nil {
		c.udev = findUdev()
	}
	if c.resolve == nil {
		c.resolve = resolvePV
	}
	if c.nodes == nil {
		c.nodes = &nodes{dir: c.Dir, mode: c.Mode, uid: c.UID, gid: c.GID, mknod: makeNode, number: blockNumber}
	}
	return c
}
