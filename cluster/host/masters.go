package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// errNoMaster says that the pool's master is not open on this host.
var errNoMaster = errors.New("the pool's master domain is not open on this host")

// presentMaster is the pool's master as this host uses it: it may be a moment behind the mirror.
type presentMaster struct {
	id         string
	spec       keeper.ResourceSpec // the SPM lease
	generation uint64              // of our host id in its lockspace
	asking     *asking             // for larger volumes
	retire     context.CancelFunc  // ends the asking
}

// pool is the pool as the mirror has it now.
func (rt *runtime) pool() fsm.Pool {
	p, _ := rt.node.View().Pool()
	return p
}

// presentID is the master that this host uses; empty: none.
func (rt *runtime) presentID() string {
	if p := rt.present.Load(); p != nil {
		return p.id
	}
	return ""
}

func (rt *runtime) isPresent(id string) bool { return rt.presentID() == id }

// generation is that of our host id in the master's lockspace; 0: it is not open here.
func (rt *runtime) generation() uint64 {
	if p := rt.present.Load(); p != nil {
		return p.generation
	}
	return 0
}

// masterWait is how long the start waits for the master. A master that hangs, or is gone, must not keep the other domains from
// being opened.
const masterWait = 5 * time.Second

// openMaster opens the master and waits a little for it. What comes to nothing here is tried again with the other domains.
func (rt *runtime) openMaster(ctx context.Context) {
	id := rt.pool().Master
	rt.mu.Lock()
	st := rt.openingOf(id)
	st.master = true
	rt.begin(st, func() error { return rt.openListed(ctx, id) })
	rt.mu.Unlock()
	wait, cancel := context.WithTimeout(ctx, masterWait)
	defer cancel()
	l, err := rt.await(wait, id)
	if err == nil {
		err = rt.makePresent(ctx, l)
	}
	if err != nil && ctx.Err() == nil {
		rt.log.Error("this host starts without the pool's master", "domain", id, "err", err)
	}
}

// adoptMaster goes over to a master that the mirror names: the first one that can be opened, or the next one.
func (rt *runtime) adoptMaster(ctx context.Context, l *luns) error {
	old := rt.present.Load()
	if err := rt.makePresent(ctx, l); err != nil {
		return fmt.Errorf("domain %s is the pool's master: %w", l.name, err)
	}
	rt.serveAsking(ctx, rt.present.Load())
	if old != nil {
		rt.log.Info("the pool has another master", "domain", l.id, "before", old.id)
		old.retire()
		old.asking.extender.Close() // who asks through it asks again, by the next one
	}
	return nil
}

// makePresent makes a domain the one that this host uses as master.
func (rt *runtime) makePresent(ctx context.Context, l *luns) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	disk, err := l.read(ctx)
	if err != nil {
		return err
	}
	p := &presentMaster{id: l.id, spec: l.spm, generation: l.guard.Epoch(), retire: func() {}}
	if p.asking, err = rt.newAsking(l, disk); err != nil {
		return err
	}
	rt.present.Store(p)
	return nil
}

// presentLease reads the SPM lease of the master that this host uses.
type presentLease struct{ rt *runtime }

// Inspect reads it from the disk.
func (l presentLease) Inspect(ctx context.Context) (spm.LeaseInfo, error) {
	p := l.rt.present.Load()
	if p == nil {
		return spm.LeaseInfo{}, errNoMaster
	}
	return spm.KeeperLease{Keeper: l.rt.keeper, Spec: p.spec}.Inspect(ctx)
}

// retired are masters that this host gave its word not to be SPM under. It outlives the storage, which is built anew when a master is lost.
type retired struct {
	mu    sync.Mutex // guards until
	until map[string]time.Time
}

func newRetired() *retired { return &retired{until: map[string]time.Time{}} }

// add gives the word for d from now.
func (r *retired) add(id string, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until[id] = time.Now().Add(d)
}

// has says whether it is given.
func (r *retired) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.until[id])
}
