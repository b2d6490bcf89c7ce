package host

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/leases"
)

// health is what the last probe found. The probe is the only one that touches devices for it, so a question about
// health never hangs on one.
type health struct {
	keeperOK    bool // our host id is live
	masterValid bool // the SPM lease on the master could be read
}

// Renewals tells how the renewals of our host id in the master's lockspace go, by the shared page: it is true also while the keeper
// does not answer.
func (rt *runtime) Renewals() string {
	l, ok := rt.domain(rt.presentID())
	life := rt.profile.Expiry()
	switch {
	case !ok || l.guard.Check(life/4-rt.profile.Margin()) != nil:
		return manager.RenewalsFailing
	case l.guard.Check(life/2-rt.profile.Margin()) != nil:
		return manager.RenewalsLate
	}
	return manager.RenewalsOK
}

// heedFunc takes in what the manager wants of this host; see Host.heed.
type heedFunc func(req manager.PingRequest) *manager.HostUse

// Heed takes in what the manager wants of this host.
func (rt *runtime) Heed(req manager.PingRequest) *manager.HostUse {
	if rt.heed == nil {
		return nil
	}
	return rt.heed(req)
}

// Health tells what the manager needs to choose an SPM.
func (rt *runtime) Health() (generation uint64, keeperOK, masterValid bool) {
	hl := rt.health.Load()
	select {
	case <-rt.keeper.Done():
		return rt.generation(), false, false
	default:
		return rt.generation(), hl.keeperOK, hl.masterValid
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
	p := rt.present.Load()
	if p == nil {
		rt.health.Store(&hl)
		return
	}
	hosts, err := rt.keeper.Hosts(ctx, p.id)
	for _, h := range hosts {
		hl.keeperOK = hl.keeperOK || h.HostID == rt.self.HostID && h.State == leases.HostLive
	}
	if (errors.Is(err, leases.ErrLost) || rt.expired()) && rt.isPresent(p.id) {
		rt.lostOnce.Do(func() { close(rt.lost) })
	}
	if hl.keeperOK {
		_, err = rt.keeper.Inspect(ctx, p.spec)
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

// expired says whether our host id on the master is over by the shared page. A keeper that hangs cannot say so itself; it is
// ended, and a new one takes the id again.
func (rt *runtime) expired() bool {
	p := rt.present.Load()
	if p == nil {
		return false
	}
	l, ok := rt.domain(p.id)
	return ok && l.guard.Check(0) != nil
}

// lockspaces are those that this host has joined, for the manager's questions.
type lockspaces struct{ rt *runtime }

// Joined names them, the master's first.
func (l lockspaces) Joined() []string {
	rt := l.rt
	rt.mu.Lock()
	defer rt.mu.Unlock()
	names := slices.Sorted(maps.Keys(rt.domains))
	if i := slices.Index(names, rt.pool().Master); i > 0 {
		names[0], names[i] = names[i], names[0]
	}
	return names
}

// Hosts lists the hosts of a lockspace as the keeper saw them.
func (l lockspaces) Hosts(ctx context.Context, lockspace string) ([]leases.HostStatus, error) {
	return l.rt.keeper.Hosts(ctx, lockspace)
}

// ReadHost reads a host's record from the disk.
func (l lockspaces) ReadHost(ctx context.Context, lockspace string, hostID int) (leases.HostRecord, error) {
	return l.rt.keeper.ReadHost(ctx, lockspace, hostID)
}

// FreeRecord frees the record of a host that is proven dead. The witness, which alone calls it, has seen the proof.
func (l lockspaces) FreeRecord(ctx context.Context, lockspace string, seen leases.HostRecord) error {
	return l.rt.keeper.FreeRecord(ctx, lockspace, seen)
}

// learnWatchdog asks the keeper what resets this machine; known after the first join.
func (rt *runtime) learnWatchdog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rt.profile.IOTimeout)
	defer cancel()
	p, err := rt.keeper.Protection(ctx)
	if err != nil {
		rt.log.Warn("the keeper does not say what protects this host", "err", err)
		return
	}
	rt.protection.Store(&p)
}

// watchdog is what resets this machine when its leases run out under somebody, and after how many seconds.
func (rt *runtime) watchdog() (kind string, seconds int) {
	p := rt.protection.Load()
	if p == nil {
		return "", 0
	}
	return string(p.Kind), int(p.Fire / time.Second)
}
