package pool

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/internal/config"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Config says what pool to make.
type Config struct {
	// Dir holds sockets, configuration files and mount points. It must be short: a unix socket's path has at most 107 bytes.
	Dir string
	// Disks holds the hosts' disks, one file each; Dir when empty. On tmpfs, flushes cost nothing.
	Disks string
	// Logs gets a HOST.log for each host; Dir when empty.
	Logs string
	// Binary is the program `holdfast`.
	Binary string
	// Hosts is how many there are, 1 to 200; they are called h1, h2 and so on.
	Hosts int
	// Profile is the pool's timing: dev, fast or compatible; default fast.
	Profile string
	// Serve makes the LUN's server listen for one host; required. It is called once for each host before any agent runs. addr
	// is HOST:PORT in the network namespace ns, or, with an empty ns, the path of a unix socket. The export is called Export.
	Serve func(host, ns, addr string) error
	// Cut is told, once or twice, when a host loses power, after its processes were killed and before they are gone: from there on nothing more
	// of it may reach the LUN. Mend is told before it starts again. Nil: the storage cable is pulled instead.
	Cut, Mend func(host string) error
	// Env is added to the agents' environment.
	Env []string
	// Tag names everything that belongs to this pool, for Sweep; made up when empty. Letters and digits only.
	Tag string
	// DiskBytes is the size of a host's disk; default 64 MiB.
	DiskBytes int64
	// Configure may change a host's configuration before it is written.
	Configure func(host string, c *config.Agent)
	// Plain leaves network and disks alone even as root.
	Plain bool
	// Watchdog gives each host a watchdog that cuts its power, and starts it again, when users of a lease outlive it. Without one an SPM
	// that was stopped, or cut off from its LUN, can still have writes on their way when its lease is dead.
	Watchdog bool
	// Fencing gives the hosts power switches, and the pool the power devices that reach them.
	Fencing bool
	// Now is the clock of the run, and Power is told of each change of a host's power and of each request to its switch, from several
	// goroutines. Both may be nil.
	Now   func() time.Duration
	Power func(history.Power)
	// Log tells what the pool does; default nowhere.
	Log *slog.Logger
}

// Export is the name under which the LUN must be served.
const Export = "lun"

// defaultDisk is enough for the logs and snapshots of an hour.
const defaultDisk = 64 << 20

// maxHosts fits into the addresses of the pool network.
const maxHosts = 200

// made numbers the pools of this process.
var made atomic.Int64

// complete fills in defaults and checks the rest.
func (c *Config) complete() error {
	switch {
	case c.Dir == "" || !filepath.IsAbs(c.Dir):
		return fmt.Errorf("pool: Dir %q is not an absolute path", c.Dir)
	case c.Hosts < 1 || c.Hosts > maxHosts:
		return fmt.Errorf("pool: %d hosts, want 1 to %d", c.Hosts, maxHosts)
	case c.Serve == nil:
		return errors.New("pool: Serve is missing; the hosts need a LUN")
	}
	if _, err := os.Stat(c.Binary); err != nil {
		return fmt.Errorf("pool: no program to run: %w; build it first", err)
	}
	for _, d := range []*string{&c.Disks, &c.Logs} {
		if *d == "" {
			*d = c.Dir
		}
	}
	if c.Profile == "" {
		c.Profile = "fast"
	}
	if c.Tag == "" {
		c.Tag = fmt.Sprintf("hfj%dp%d", os.Getpid(), made.Add(1))
	}
	if c.DiskBytes == 0 {
		c.DiskBytes = defaultDisk
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return checkTag(c.Tag)
}

// Ability is something that a pool can do, or not, on this machine.
type Ability string

// The abilities. Killing and stopping processes, clocks and damage are always possible.
const (
	Network Ability = "network" // Block, Unplug, MendNetwork
	Storage Ability = "storage" // UnplugStorage
	Disk    Ability = "disk"    // FillDisk, FreezeDisk; PowerOff loses what was not flushed
)

// ErrCannot says that this machine, or this user, does not allow it; see Pool.Can.
var ErrCannot = errors.New("not possible here; it takes root, network namespaces and loop devices")

// ErrNoHost says that there is no host of that name.
var ErrNoHost = errors.New("no such host")
