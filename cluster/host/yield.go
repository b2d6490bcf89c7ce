package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// onRequest hands a request for the SPM lease, which came through the storage, to the role.
func (rt *runtime) onRequest(req keeper.RequestSeen) {
	if serving := rt.role.Status().Domains; req.Resource != spmName || len(serving) == 0 || req.Lockspace != serving[0] {
		return
	}
	rt.log.Warn("another host asks for the SPM role through the storage", "version", req.Lver, "mode", req.Mode.String(), "from", req.From)
	rt.role.Yield(req.Lver, rt.hostName(req.From))
}

// askPoll is how often it is looked whether the holder has let go, clearTimeout bounds taking the request back.
const (
	askPoll      = 100 * time.Millisecond
	clearTimeout = 5 * time.Second
)

// AskHolder asks the holder of the SPM lease through the storage to hand over, waits until the lease of this version is free or
// ctx ends, and takes the request back.
func (rt *runtime) AskHolder(ctx context.Context, version uint64) (bool, error) {
	p := rt.present.Load()
	if p == nil {
		return false, errNoMaster
	}
	info, err := rt.keeper.Request(ctx, p.spec, version+1, leases.RequestGraceful)
	switch {
	case err == nil && (info.Takeable || info.Version != version):
		return true, nil // nothing was asked
	case errors.Is(err, leases.ErrRequest): // asked by another host before, or the version moved on
		info, ierr := rt.keeper.Inspect(ctx, p.spec)
		if ierr == nil && info.Version != version {
			return true, nil
		}
		return false, errors.Join(err, ierr)
	case err != nil:
		return false, err
	}
	defer rt.clearRequest(ctx, p.spec)
	tick := time.NewTicker(askPoll)
	defer tick.Stop()
	for {
		info, err := rt.keeper.Inspect(ctx, p.spec)
		if err == nil && (info.State == leases.ResourceFree || info.Version != version) {
			return true, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, fmt.Errorf("the holder of the SPM lease has not let go: %w", ctx.Err())
		}
	}
}

// clearRequest takes the request back, whatever became of the caller.
func (rt *runtime) clearRequest(ctx context.Context, spec keeper.ResourceSpec) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTimeout)
	defer cancel()
	if err := rt.keeper.ClearRequest(ctx, spec); err != nil {
		rt.log.Warn("taking back the request for the SPM lease", "err", err)
	}
}
