package host

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-io/holdfast/leases"
)

// health is what the last probe found. The probe is the only one that touches devices for it, so a question about
// health never hangs on one.
type health struct {
	keeperOK    bool // our host id is live
	masterValid bool // the SPM lease on the master could be read
}

// Health tells what the manager needs to choose an SPM.
func (rt *runtime) Health() (generation uint64, keeperOK, masterValid bool) {
	hl := rt.health.Load()
	select {
	case <-rt.keeper.Done():
		return rt.generation, false, false
	default:
		return rt.generation, hl.keeperOK, hl.masterValid
	}
}

// probe looks after the keeper and the master domain until ctx ends.
func (rt *runtime) probe(ctx context.Context) {
	tick := time.NewTicker(rt.profile.IOTimeout / 2)
	defer tick.Stop()
	for {
		rt.probeOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (rt *runtime) probeOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*rt.profile.IOTimeout)
	defer cancel()
	var hl health
	hosts, err := rt.Hosts(ctx)
	for _, h := range hosts {
		hl.keeperOK = hl.keeperOK || h.HostID == rt.self.HostID && h.State == leases.HostLive
	}
	if errors.Is(err, leases.ErrLost) {
		rt.lostOnce.Do(func() { close(rt.lost) })
	}
	if hl.keeperOK {
		_, err = rt.keeper.Inspect(ctx, rt.master)
		hl.masterValid = err == nil
	}
	if last := rt.health.Swap(&hl); *last == hl {
		return
	}
	if hl.masterValid {
		rt.log.Info("storage health", "keeper_ok", hl.keeperOK, "master_valid", hl.masterValid)
		return
	}
	rt.log.Warn("this host cannot be SPM", "keeper_ok", hl.keeperOK, "master_valid", hl.masterValid, "err", err)
}

// Hosts lists the master's lockspace.
func (rt *runtime) Hosts(ctx context.Context) ([]leases.HostStatus, error) {
	return rt.keeper.Hosts(ctx, rt.master.Lockspace)
}

// FreeHost frees a host that is proven dead in the master's lockspace, which the SPM lease waits for. The generation is
// that of this lockspace; a host has others elsewhere.
func (rt *runtime) FreeHost(ctx context.Context, hostID int, generation uint64) error {
	return rt.keeper.FreeHost(ctx, rt.master.Lockspace, hostID, generation)
}
