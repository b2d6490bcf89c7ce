package leases

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
)

// Standalone names a host for the operations of repair tools, which work on records without a running lockspace:
// nothing is renewed, nobody else is watched, and so nobody else can be judged. It is up to the caller that no other
// process acts for the same host id at the same time.
type Standalone struct {
	Lockspace  string
	HostID     int
	Generation uint64
	Profile    Profile
	// Log is required.
	Log *slog.Logger
}

// lockspace is as much of a lockspace as the algorithms on resources need. It is usable for 8N from now on, which
// bounds how long an operation may take.
func (s Standalone) lockspace(dev blockdev.Device, geo Geometry) (*Lockspace, error) {
	space, err := MakeName(s.Lockspace)
	if err != nil {
		return nil, fmt.Errorf("lockspace %w", err)
	}
	if s.HostID < 1 || s.HostID > geo.MaxHosts() {
		return nil, fmt.Errorf("%w: host %d of %d", ErrHostIDRange, s.HostID, geo.MaxHosts())
	}
	if err := s.Profile.Validate(); err != nil {
		return nil, err
	}
	ls := &Lockspace{leases: map[string]*resource{}, renewing: make(chan struct{}, 1), geo: geo, space: space, alone: true,
		generation: s.Generation, hosts: make([]observed, geo.MaxHosts())}
	ls.cfg = LockspaceConfig{Device: dev, Probe: dev, Geometry: geo, Name: s.Lockspace, HostID: s.HostID,
		Profile: s.Profile, Clock: clock.System{}, Log: s.Log}
	ls.lastRenew = ls.now()
	return ls, nil
}

// Acquire takes a resource for the host and returns its new version. ErrNoLockspace when somebody else's lease would
// have to be judged: without a lockspace nobody can tell whether the owner is alive.
func (s Standalone) Acquire(ctx context.Context, spec ResourceSpec, geo Geometry) (uint64, error) {
	ls, err := s.lockspace(spec.Device, geo)
	if err != nil {
		return 0, err
	}
	lease, err := ls.Acquire(ctx, spec)
	if err != nil {
		return 0, err
	}
	return lease.Epoch(), nil
}

// Release frees a resource that the host holds by the steps of an ordinary release. ErrNotHeld when the record says
// that it is not this host's in this generation; then nothing is written.
func (s Standalone) Release(ctx context.Context, spec ResourceSpec, geo Geometry) error {
	ls, err := s.lockspace(spec.Device, geo)
	if err != nil {
		return err
	}
	r, err := ls.resource(spec)
	if err != nil {
		return err
	}
	if r.leader, err = r.readLeader(ctx); err != nil {
		return err
	}
	l := &r.leader
	if l.Timestamp == 0 || l.OwnerID != uint64(s.HostID) || l.OwnerGeneration != s.Generation {
		return fmt.Errorf("resource %s: %w by host %d generation %d: the record names host %d generation %d, timestamp %d", spec.Name,
			ErrNotHeld, s.HostID, s.Generation, l.OwnerID, l.OwnerGeneration, l.Timestamp)
	}
	if r.block, err = r.readBlock(ctx, s.HostID); err != nil {
		return err
	}
	if !r.block.Valid() {
		return fmt.Errorf("resource %s: %w: block of host %d", spec.Name, ErrCorrupt, s.HostID)
	}
	r.state = stateHeld
	return (&Lease{r: r, version: l.Lver}).Release(ctx)
}

// TakeHost takes a host id as Join does, with the same waits, and leaves it at that: nobody renews it.
func TakeHost(ctx context.Context, cfg LockspaceConfig) (Leader, error) {
	ls, err := newLockspace(ctx, cfg)
	if err != nil {
		return Leader{}, err
	}
	found, err := ls.readRecord(ctx, cfg.HostID)
	if err != nil {
		return Leader{}, err
	}
	otherN := ls.ioTimeoutOf(&found)
	if found, err = ls.waitForHost(ctx, found, otherN); err != nil {
		return Leader{}, err
	}
	if err := ls.take(ctx, found, otherN); err != nil {
		return Leader{}, err
	}
	return ls.own, nil
}
