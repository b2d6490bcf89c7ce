package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/leases"
)

// Names of the RPC methods that a Witness answers.
const (
	MethodPing    = "host.ping"
	MethodInspect = "host.inspect"
	MethodFree    = "host.free"
)

// PingReply is a host's answer about itself. It touches no disk.
type PingReply struct {
	Host        string     `json:"host"`
	HostID      int        `json:"host_id"`
	Role        spm.Status `json:"role"`
	Generation  uint64     `json:"generation"`
	KeeperOK    bool       `json:"keeper_ok"`
	MasterValid bool       `json:"master_valid"`
	Started     time.Time  `json:"started"` // of the agent: a new value is a restart
}

// InspectReply is what a host reads on the master domain.
type InspectReply struct {
	Lease      spm.LeaseInfo       `json:"lease"`
	LeaseError string              `json:"lease_error,omitempty"` // why Lease is not valid
	Hosts      []leases.HostStatus `json:"hosts"`                 // the lockspace, from the keeper's memory
}

// FreeRequest asks a host to free the lockspace record of a host that is proven dead.
type FreeRequest struct {
	HostID     int    `json:"host_id"`
	Generation uint64 `json:"generation"`
}

// FreeReply is empty.
type FreeReply struct{}

// Lockspace is the master's lockspace as this host's keeper sees it.
type Lockspace interface {
	Hosts(ctx context.Context) ([]leases.HostStatus, error)
	FreeHost(ctx context.Context, hostID int, generation uint64) error
}

// LeaseReader reads the SPM lease from the disk. spm.KeeperLease is one.
type LeaseReader interface {
	Inspect(ctx context.Context) (spm.LeaseInfo, error)
}

// Self tells what a host knows of itself.
type Self interface {
	// Health returns the generation of its host id, whether its keeper runs and renews, and whether the master can
	// be read. It must not block on a device.
	Health() (generation uint64, keeperOK, masterValid bool)
}

// Witness answers the manager's questions on every host.
type Witness struct {
	Host    string
	HostID  int
	Role    func() spm.Status
	Self    Self
	Space   Lockspace
	Lease   LeaseReader
	Proven  func(hostID int, generation uint64) bool // whether this host's mirror has the proof; nil takes the caller's word
	Started time.Time
}

// Ping answers about this host.
func (w *Witness) Ping(_ context.Context, _ struct{}) (PingReply, error) {
	gen, keeper, master := w.Self.Health()
	return PingReply{Host: w.Host, HostID: w.HostID, Role: w.Role(), Generation: gen, KeeperOK: keeper,
		MasterValid: master, Started: w.Started}, nil
}

// Inspect reads the lease and the lockspace.
func (w *Witness) Inspect(ctx context.Context, _ struct{}) (InspectReply, error) {
	hosts, err := w.Space.Hosts(ctx)
	if err != nil {
		return InspectReply{}, fmt.Errorf("asking the keeper about the lockspace: %w", err)
	}
	rep := InspectReply{Hosts: hosts}
	if rep.Lease, err = w.Lease.Inspect(ctx); err != nil {
		rep.LeaseError = err.Error()
	}
	return rep, nil
}

// Free frees a host id on disk. The keeper re-reads the record and refuses when the generation moved on.
func (w *Witness) Free(ctx context.Context, req FreeRequest) (FreeReply, error) {
	if req.HostID == w.HostID {
		return FreeReply{}, fmt.Errorf("host id %d is this host, which is alive", req.HostID)
	}
	if !w.awaitProof(ctx, req) {
		return FreeReply{}, fmt.Errorf("no proof recorded for host id %d generation %d: try again when the mirror has it", req.HostID, req.Generation)
	}
	return FreeReply{}, w.Space.FreeHost(ctx, req.HostID, req.Generation)
}

// proofWait bounds how long a free waits for a proof that the leader has just committed.
const proofWait = 500 * time.Millisecond

// awaitProof waits until this host's mirror has the proof; it may be a commit behind the leader.
func (w *Witness) awaitProof(ctx context.Context, req FreeRequest) bool {
	ctx, cancel := context.WithTimeout(ctx, proofWait)
	defer cancel()
	for w.Proven != nil && !w.Proven(req.HostID, req.Generation) {
		if pause(ctx, 5*time.Millisecond); ctx.Err() != nil {
			return false
		}
	}
	return true
}

// Handlers returns what the agent registers on its cluster port.
func (w *Witness) Handlers() map[string]spm.Handler {
	return map[string]spm.Handler{MethodPing: handle(w.Ping), MethodInspect: handle(w.Inspect), MethodFree: handle(w.Free)}
}

// handle decodes the request of fn.
func handle[In, Out any](fn func(context.Context, In) (Out, error)) spm.Handler {
	return func(ctx context.Context, _ string, body []byte) (any, error) {
		var in In
		if len(body) > 0 {
			if err := json.Unmarshal(body, &in); err != nil {
				return nil, fmt.Errorf("decoding the request: %w", err)
			}
		}
		return fn(ctx, in)
	}
}
