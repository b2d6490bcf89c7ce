package host

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fencing/kdump"
	"github.com/holdfast-io/holdfast/fencing/soft"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// Config is what a Host is made of.
type Config struct {
	// Cluster is the host's name, addresses, data directory and the times of Raft.
	Cluster cluster.Config
	// HostName is the name in the lockspaces: unique to this installation and the same after a restart.
	HostName string
	// Keeper says how to start the lease keeper.
	Keeper keeper.Config
	// Profile is the default profile of a pool that is made here: compatible, fast or dev.
	Profile string
	// Devices is the allow-list of LUNs that may be made into domains; empty allows all.
	Devices []string
	// Fencing powers hosts off and on; nil where there is none.
	Fencing fencing.Agent
	// OpenDevice makes power devices of their configuration in the cluster; nil: those of package power.
	OpenDevice OpenDevice
	// Soft is a command that tries to bring a silent host back before its power is switched off; without Argv there is none.
	Soft soft.Command
	// Kdump hears crash kernels; nil: nobody listens. Who made it runs and closes it.
	Kdump *kdump.Listener
	// Grace is how long a host may be silent before anything follows from it; 0 takes the profile's.
	Grace time.Duration
	// DomainFailure is how long hosts must fail to reach a domain before anything follows from it; 0 takes the profile's.
	DomainFailure time.Duration
	// UnprotectedTakeover says whether the SPM role is taken from a host without a watchdog when its lease is dead: allow
	// or wait; empty takes the profile's.
	UnprotectedTakeover string
	// Users use the storage beyond the life of this agent, under leases of their own; nil: there are none.
	Users Users
	Log   *slog.Logger

	started time.Time // of this agent; a new value tells the manager of a restart
	later   *later    // events to record
	retired *retired  // masters that this host gave its word about
}

// Users are processes of this host that hold leases and outlive the agent.
type Users interface {
	// EndAll ends all of them and returns when none can write any more. It is called before a new keeper joins a lockspace:
	// with the new generation of our host id the leases that the last keeper held for them can be taken by others.
	EndAll(ctx context.Context) error
	// Kick says that the storage is up.
	Kick()
	// UsedOn lists the volumes of a domain that are attached here, by UUID.
	UsedOn(domainID string) []string
}

// keeperPidFile names the keeper's process, for supervisors.
const keeperPidFile = "keeper.pid"

// recordKeeper writes the keeper's pid to the data directory.
func (c Config) recordKeeper(pid int) error {
	path := filepath.Join(c.Cluster.DataDir, keeperPidFile)
	tmp := path + ".new"
	if err := os.WriteFile(tmp, fmt.Appendf(nil, "%d\n", pid), 0o644); err != nil {
		return fmt.Errorf("recording the keeper's pid: %w", err)
	}
	return os.Rename(tmp, path)
}
