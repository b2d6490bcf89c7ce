package spm

import (
	"context"
	"errors"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// Keeper is what a KeeperLease needs of the keeper's client. *keeper.Client is one.
type Keeper interface {
	Inspect(ctx context.Context, spec keeper.ResourceSpec) (keeper.ResourceInfo, error)
	Acquire(ctx context.Context, spec keeper.ResourceSpec) (uint64, error)
	Release(ctx context.Context, spec keeper.ResourceSpec) error
	Guard(lockspace, resource string) blockdev.Guard
	Done() <-chan struct{}
}

// KeeperLease is the SPM lease of a master domain, held by this host's keeper.
type KeeperLease struct {
	Keeper Keeper
	// Spec names the lease. An acquire never waits for a silent owner: whether and how long to wait is the manager's
	// decision.
	Spec keeper.ResourceSpec
}

// Inspect reads the lease from the disk.
func (k KeeperLease) Inspect(ctx context.Context) (LeaseInfo, error) {
	info, err := k.Keeper.Inspect(ctx, k.Spec)
	if err != nil {
		return LeaseInfo{}, err
	}
	return LeaseInfo{Held: info.State != leases.ResourceFree, Owner: info.Owner, Generation: info.Generation, Version: info.Version}, nil
}

// Acquire takes the lease. While it is held, the keeper looks whether another host asks for it.
func (k KeeperLease) Acquire(ctx context.Context, least uint64) (uint64, error) {
	spec := k.Spec
	spec.NoWait, spec.WatchRequests, spec.MinVersion = true, true, least
	return k.Keeper.Acquire(ctx, spec)
}

// Release frees the lease. What is not held, or went with its keeper or lockspace, needs no release.
func (k KeeperLease) Release(ctx context.Context) error {
	err := k.Keeper.Release(ctx, k.Spec)
	if errors.Is(err, leases.ErrNotHeld) || errors.Is(err, leases.ErrLost) || errors.Is(err, keeper.ErrGone) {
		return nil
	}
	return err
}

// Guard is the right to write.
func (k KeeperLease) Guard() blockdev.Guard { return k.Keeper.Guard(k.Spec.Lockspace, k.Spec.Name) }

// Done is closed when the keeper is gone.
func (k KeeperLease) Done() <-chan struct{} { return k.Keeper.Done() }
