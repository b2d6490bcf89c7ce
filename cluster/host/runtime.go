package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/plant"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
	"github.com/holdfast-io/holdfast/leases/watchdog"
)

// runtime is everything that stands on one keeper. It is made anew when the keeper dies.
type runtime struct {
	cfg     Config
	node    clusterNode
	self    fsm.Host
	poolID  string
	profile leases.Profile
	log     *slog.Logger
	reports func(seen uint64) ([]manager.DomainReport, uint64) // of the monitors

	keeper  *keeper.Client
	role    *spm.Role
	volumes *VolumeLeases
	present atomic.Pointer[presentMaster] // the master as this host uses it; nil: it is not open here

	handlers map[string]spm.Handler
	heed     heedFunc
	health   atomic.Pointer[health]

	protection atomic.Pointer[watchdog.Protection]

	lost     chan struct{} // closed when the keeper has lost the master's lockspace
	lostOnce sync.Once

	openers sync.WaitGroup  // goroutines that open and drop domains
	losses  sync.WaitGroup  // goroutines that confirm losses
	closing chan struct{}   // closed when losses need no confirmation any more
	stopped <-chan struct{} // closed when storage is to end for good and not to start again

	mu      sync.Mutex // guards what follows
	domains map[string]*luns
	opening map[string]*opening
	lastIDs []string      // what the mirror named last
	news    chan struct{} // closed and replaced when one of these changes
}

// Times of the runtime.
const (
	keeperStart = 90 * time.Second // an old keeper may still have to release its leases
	stopTimeout = 20 * time.Second
	domainRetry = 5 * time.Second
	letGoPoll   = 200 * time.Millisecond
	letGoEvery  = time.Second
)

// retryIn is how long a domain that failed so often in a row is left alone: twice as long each time, up to five minutes, spread so
// that hosts do not all come at once.
func retryIn(p leases.Profile, failures int) time.Duration {
	first := min(domainRetry*2, 5*p.IOTimeout)
	wait := min(first<<min(max(failures-1, 0), 8), hungRetry)
	return wait - time.Duration(rand.Int64N(int64(wait/4)+1))
}

// startRuntime brings the host's storage up: keeper, master domain, SPM role. Other domains follow in run.
func startRuntime(ctx context.Context, cfg Config, node clusterNode, self fsm.Host, pool fsm.Pool,
	reports func(uint64) ([]manager.DomainReport, uint64), heed heedFunc) (*runtime, error) {
	profile, err := leases.ProfileByName(pool.Profile)
	if err != nil {
		return nil, err
	}
	rt := &runtime{cfg: cfg, node: node, self: self, poolID: pool.ID, profile: profile, log: cfg.Log, reports: reports, heed: heed,
		handlers: map[string]spm.Handler{}, domains: map[string]*luns{}, lost: make(chan struct{}),
		closing: make(chan struct{}), stopped: ctx.Done(),
		opening: map[string]*opening{}, news: make(chan struct{})}
	rt.health.Store(&health{})
	if err := rt.start(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return nil, errors.Join(err, rt.close(stop))
	}
	return rt, nil
}

func (rt *runtime) start(ctx context.Context) error {
	if err := rt.startKeeper(ctx); err != nil {
		return err
	}
	if err := rt.endUsers(ctx); err != nil {
		return err
	}
	role, err := spm.New(rt.roleConfig())
	if err != nil {
		return err
	}
	rt.role = role
	rt.openMaster(ctx)
	maps.Copy(rt.handlers, role.Handlers())
	maps.Copy(rt.handlers, rt.witness().Handlers())
	rt.learnWatchdog(ctx)
	rt.probeOnce(ctx)
	return nil
}

func (rt *runtime) startKeeper(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keeperStart)
	defer cancel()
	cfg := rt.cfg.Keeper
	cfg.OnRequest = rt.onRequest // comes after a lease was acquired, so after the role was made
	cfg.OnLost = rt.lockspaceLost
	k, err := keeper.Start(ctx, cfg)
	if err != nil {
		return err
	}
	rt.keeper = k
	rt.volumes = newVolumeLeases(k, rt.pendingOn, rt.hostName, 2*rt.profile.IOTimeout, rt.log)
	return rt.cfg.recordKeeper(k.PID())
}

// usersTimeout bounds the end of processes that are killed; a LUN that does not answer holds them up.
const usersTimeout = 30 * time.Second

// endUsers ends what held leases through a keeper that is gone. One that was taken over holds them still.
func (rt *runtime) endUsers(ctx context.Context) error {
	if rt.cfg.Users == nil || rt.keeper.Adopted() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, usersTimeout)
	defer cancel()
	if err := rt.cfg.Users.EndAll(ctx); err != nil {
		return fmt.Errorf("processes that may still write under leases of the last keeper: %w", err)
	}
	return nil
}

// addDomain opens a domain's LUNs and joins its lockspace with our host id.
func (rt *runtime) addDomain(ctx context.Context, d fsm.Domain) error {
	l, err := openDomain(ctx, d, rt.profile, rt.cfg.finder(rt.profile), rt.log)
	if err != nil {
		return err
	}
	l.opts.Volumes = rt.volumes
	if err := rt.join(ctx, l); err != nil {
		return errors.Join(fmt.Errorf("domain %s: %w", d.Name, err), l.close())
	}
	rt.mu.Lock()
	rt.domains[d.ID] = l
	rt.mu.Unlock()
	return nil
}

// join takes our host id in the domain's lockspace. Taking over from a host of another name lasts until that one is
// surely dead.
func (rt *runtime) join(ctx context.Context, l *luns) error {
	ctx, cancel := context.WithTimeout(ctx, 2*rt.profile.HostDead()+10*rt.profile.IOTimeout)
	defer cancel()
	disk, err := l.read(ctx)
	if err != nil {
		return err
	}
	spec, err := l.lockspace(disk)
	if err != nil {
		return err
	}
	spec.HostID, spec.HostName, spec.Profile = rt.self.HostID, rt.cfg.HostName, rt.profile
	if l.spm, err = l.spmResource(disk); err != nil {
		return err
	}
	if l.guard, err = rt.keeper.JoinGuarded(ctx, spec); err != nil {
		return err
	}
	if err := l.guard.Check(0); err != nil {
		return fmt.Errorf("the host id was lost as soon as it was taken: %w", err)
	}
	rt.log.Info("joined lockspace", "domain", l.id, "host_id", spec.HostID, "generation", l.guard.Epoch())
	return nil
}

// roleConfig wires the SPM role to lease, disk and mirror.
func (rt *runtime) roleConfig() spm.Config {
	return spm.Config{
		Host: rt.self.Name, HostID: rt.self.HostID, Pool: rt.poolID, PoolName: rt.pool().Name, Log: rt.log,
		Masters: masters{rt},
		Mirror:  &spm.RaftMirror{Cluster: rt.node, Host: rt.self.Name, HostID: rt.self.HostID, Now: time.Now, Log: rt.log},
		Others:  others{rt}, Leases: rt.writableLeases, Report: rt.report, Mailbox: rt.mailboxVolumes, Settings: rt.settings, Refused: rt.refused,
		Pending: rt.pending, PendingOn: rt.pendingOn, ReleaseTimeout: 3 * rt.profile.IOTimeout,
		Holder: func() (string, uint64) {
			p, _ := rt.node.View().Pool()
			return p.SPM.Host, p.SPM.Epoch
		},
	}
}

func (rt *runtime) domain(id string) (*luns, bool) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	l, ok := rt.domains[id]
	return l, ok
}

// pending counts device calls of this host that have not come back.
func (rt *runtime) pending() int {
	if plant.On(plant.LateWrite) {
		return 0 // planted
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	n := 0
	for _, l := range rt.domains {
		n += l.allPending()
	}
	return n
}

// run follows the mirror's domains until ctx ends, or the keeper or the master's lockspace is gone.
func (rt *runtime) run(ctx context.Context, changed func() <-chan struct{}) error {
	ctx, stop := context.WithCancel(ctx)
	defer rt.openers.Wait()
	defer stop()
	rt.openers.Go(func() { rt.probe(ctx) })
	rt.serveAsking(ctx, rt.present.Load())
	for {
		ch := changed()
		rt.mu.Lock()
		news := rt.news
		rt.mu.Unlock()
		t := time.NewTimer(rt.follow(ctx))
		select {
		case <-ctx.Done():
			return nil
		case <-rt.keeper.Done():
			return errors.New("the lease keeper ended")
		case <-rt.lost:
			return errors.New("the lockspace of the master domain was lost; it must be joined again")
		case <-ch:
		case <-news:
		case <-t.C:
		}
		t.Stop()
	}
}

// close stops in order: role, keeper, devices.
func (rt *runtime) close(ctx context.Context) error {
	var err error
	if p := rt.present.Load(); p != nil {
		p.asking.extender.Close()
	}
	if rt.role != nil {
		err = errors.Join(err, rt.role.Close(ctx))
	}
	rt.awaitPending(ctx)
	if rt.volumes != nil && rt.pending() == 0 {
		rt.volumes.left.Wait() // each waits for pending calls only, and for its release
	}
	err = errors.Join(err, rt.closeKeeper(ctx))
	close(rt.closing)
	rt.losses.Wait()
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, l := range rt.domains {
		err = errors.Join(err, l.close())
	}
	return err
}

// closeKeeper lets the keeper release everything. While writes of ours may still land nothing may be released: then the
// keeper is left alone, and it frees the leases when this process is gone and with it its writes. Killing it would let the
// watchdog reset the machine.
func (rt *runtime) closeKeeper(ctx context.Context) error {
	if rt.keeper == nil {
		return nil
	}
	if n := rt.pending(); n > 0 && !rt.stoppedForGood() {
		// The next runtime needs a keeper of its own, and this one stays until the calls are back.
		rt.log.Error("storage cannot start again before the device calls have come back", "pending", n)
		back, cancel := untilClosed(rt.stopped)
		rt.awaitPending(back)
		cancel()
		fresh, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		ctx = fresh
	}
	if n := rt.pending(); n > 0 {
		rt.log.Error("leases are kept until this process has ended: device calls have not come back", "pending", n)
		return rt.keeper.Abandon()
	}
	if rt.expired() { // nothing is left that it could release, and it may hang
		ctx, cancel := context.WithTimeout(ctx, 2*rt.profile.IOTimeout)
		defer cancel()
		return rt.keeper.Close(ctx)
	}
	stay, err := rt.keeper.HandOver(ctx)
	if stay > 0 {
		rt.log.Info("the keeper goes on without this agent", "leases", stay)
	}
	return err
}

// awaitPending waits until no write of ours can land any more, or ctx ends. A new keeper takes our host id again on our
// word that this is so.
func (rt *runtime) awaitPending(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for rt.pending() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// hostName names a member by its host id.
func (rt *runtime) hostName(hostID int) string {
	h, _ := rt.node.View().HostByID(hostID)
	return h.Name
}
