package keeper

import (
	"fmt"
	"hash/fnv"
	"io"
	"strings"

	"github.com/holdfast-io/holdfast/leases"
)

// Profile, HostStatus and ResourceInfo are those of package leases.
type (
	Profile      = leases.Profile
	HostStatus   = leases.HostStatus
	ResourceInfo = leases.ResourceInfo
)

// LockspaceSpec says which host id to hold in which lockspace.
type LockspaceSpec struct {
	// Name of the lockspace: the domain's UUID.
	Name string `json:"name"`
	// Device is a path or URI as blockdev.Open takes it. The keeper opens it itself.
	Device string `json:"device"`
	// Offset is where the area starts on Device, in bytes.
	Offset int64 `json:"offset"`
	// Geometry is read from the disk when zero.
	Geometry leases.Geometry `json:"geometry"`
	HostID   int             `json:"host_id"`
	// HostName must be unique to the machine and the same after a restart.
	HostName string  `json:"host_name"`
	Profile  Profile `json:"profile"`
	// Rejoin allows a lockspace that was lost while leases were held to be joined again. It is the caller's word that
	// none of its I/O under those leases is pending (Device.Pending() == 0 everywhere, and nbd deadlines passed).
	Rejoin bool `json:"rejoin,omitempty"`
}

// ResourceSpec says which lease to take.
type ResourceSpec struct {
	// Lockspace is the name of a joined lockspace.
	Lockspace string `json:"lockspace"`
	Name      string `json:"name"`
	Device    string `json:"device"`
	// Offset is absolute on Device, in bytes.
	Offset int64 `json:"offset"`
	// NoWait refuses instead of waiting for a silent owner to be dead.
	NoWait bool `json:"no_wait,omitempty"`
	// MinVersion is the least version that the lease is to have; see leases.ResourceSpec.
	MinVersion uint64 `json:"min_version,omitempty"`
	// Shared takes the lease together with others; see leases.AcquireShared. What is held here already is not converted
	// by asking for it the other way: Convert does that.
	Shared bool `json:"shared,omitempty"`
	// LVB reads the lock value block with the lease; see Client.LVB.
	LVB bool `json:"lvb,omitempty"`
	// WatchRequests looks each half second whether another host asks for the resource while it is held, and tells
	// Config.OnRequest. Without it requests are seen only when their sender's record tells us to look.
	WatchRequests bool `json:"watch_requests,omitempty"`
	// First frees this lease before all others when everything is let go, as when the agent ends: its place is given out by
	// the holder of another lease, who may use it for something else.
	First bool `json:"first,omitempty"`
	// Holder is who the lease is held for; nil is the agent itself. Asking again for what is held here needs the same
	// holder, which may name further processes then. Releasing with a holder refuses what is held for another one.
	Holder *Holder `json:"holder,omitempty"`
}

// key names a resource within the keeper.
func (s *ResourceSpec) key() string { return s.Lockspace + "/" + s.Name }

// nameSum is the name of a resource in the shared page.
func (s *ResourceSpec) nameSum() uint64 {
	sum := fnv.New64a()
	_, _ = io.WriteString(sum, s.key()) // a hash takes everything
	return sum.Sum64()
}

// validate refuses what cannot be opened.
func (s *ResourceSpec) validate() error {
	if s == nil || s.Lockspace == "" || s.Name == "" || s.Device == "" || s.Offset < 0 {
		return fmt.Errorf("%w: resource %+v", ErrInvalid, s)
	}
	return s.Holder.validate()
}

// Remote says whether requests to this device may outlive the process that sent them.
func Remote(uri string) bool { return remote(uri) }

// remote says whether requests to this device may outlive the process that sent them.
func remote(uri string) bool {
	return strings.HasPrefix(uri, "nbd://") || strings.HasPrefix(uri, "nbd+unix://")
}
