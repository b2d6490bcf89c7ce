package host

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
)

// opening is what becomes of a domain that is not open on this host, or lacks a LUN here. runtime.mu guards it.
type opening struct {
	busy     bool // a goroutine is at it
	master   bool // it is, or is to become, the pool's master as this host uses it
	err      error
	failures int // in a row
	retryAt  time.Time
}

// others are the pool's domains, for the SPM role; which of them is the master it knows itself.
type others struct{ rt *runtime }

// List names them as the mirror has them, whether this host has opened them or not.
func (o others) List() []string { return o.rt.listed() }

// Changed is closed when the mirror names others, or one was opened here.
func (o others) Changed() <-chan struct{} {
	o.rt.mu.Lock()
	defer o.rt.mu.Unlock()
	return o.rt.news
}

// Open reads a domain anew, after this host has opened its LUNs and joined its lockspace.
func (o others) Open(ctx context.Context, id string) (spm.Domain, blockdev.Guard, error) {
	l, err := o.rt.await(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if err := l.guard.Check(0); err != nil {
		return nil, nil, fmt.Errorf("the host id is not held there; it is taken again: %w", err)
	}
	disk, err := l.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	return spm.Disk{Domain: disk}, l.guard, nil
}

// Held is the generation of our host id in a domain's lockspace.
func (o others) Held(id string) uint64 {
	l, ok := o.rt.domain(id)
	if !ok || l.guard.Check(0) != nil {
		return 0
	}
	return l.guard.Epoch()
}

// await waits until a domain is open on this host, or cannot be opened for now.
func (rt *runtime) await(ctx context.Context, id string) (*luns, error) {
	for {
		rt.mu.Lock()
		l, news := rt.domains[id], rt.news
		var failed error
		if st := rt.opening[id]; st != nil && !st.busy {
			failed = st.err
		}
		rt.mu.Unlock()
		switch {
		case l != nil:
			return l, nil
		case failed != nil:
			return nil, fmt.Errorf("this host cannot use it: %w", failed)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, fmt.Errorf("this host has not opened it yet: %w", ctx.Err())
		}
	}
}

// listed are the domains of the mirror that are to be used, the master among them.
func (rt *runtime) listed() []string {
	var ids []string
	master := rt.pool().Master
	for id, d := range rt.node.View().Domains.All() {
		if id == master || wanted(d) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// announce wakes those that wait for a change of the domains. Caller holds mu.
func (rt *runtime) announce() {
	close(rt.news)
	rt.news = make(chan struct{})
}

// follow opens what the mirror names and this host has not open, each in its own goroutine so that a hung LUN holds up
// no other domain, and takes lost host ids again. It returns when to look again at the latest.
func (rt *runtime) follow(ctx context.Context) time.Duration {
	ids, serving := rt.listed(), rt.role.Status().Domains
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if !slices.Equal(ids, rt.lastIDs) {
		rt.lastIDs = ids
		rt.announce()
	}
	next := min(rt.completeLUNs(ctx), rt.letGoOfOthers(ctx, ids, serving))
	for _, id := range ids {
		st := rt.openingOf(id)
		st.master = id == rt.pool().Master
		l := rt.domains[id]
		switch wait := time.Until(st.retryAt); {
		case st.busy || ctx.Err() != nil:
		case l != nil && l.lost() && !slices.Contains(serving, id) && !rt.isPresent(id): // the master's loss ends the runtime
			rt.begin(st, func() error { return rt.dropDomain(ctx, l) })
		case l != nil && st.master && !rt.isPresent(id) && wait <= 0:
			rt.begin(st, func() error { return rt.adoptMaster(ctx, l) })
		case l != nil:
		case wait > 0:
			next = min(next, wait)
		default:
			rt.begin(st, func() error { return rt.openListed(ctx, id) })
		}
	}
	return next
}

// letGoOfOthers gives up the domains that are not wanted any more. The SPM's writer goes first. It returns when to look again.
// Caller holds mu.
func (rt *runtime) letGoOfOthers(ctx context.Context, ids, serving []string) time.Duration {
	next := domainRetry
	for id, l := range rt.domains {
		if id == rt.pool().Master || rt.isPresent(id) || slices.Contains(ids, id) {
			continue
		}
		switch st := rt.openingOf(id); {
		case st.busy || ctx.Err() != nil:
		case slices.Contains(serving, id):
			next = min(next, letGoPoll)
		case time.Until(st.retryAt) > 0:
			next = min(next, time.Until(st.retryAt))
		default:
			rt.beginEvery(st, letGoEvery, func() error { return rt.letGo(ctx, l) })
		}
	}
	return next
}

// openingOf is what becomes of a domain. Caller holds mu.
func (rt *runtime) openingOf(id string) *opening {
	st := rt.opening[id]
	if st == nil {
		st = &opening{}
		rt.opening[id] = st
	}
	return st
}

// completeLUNs opens LUNs that the mirror names and this host has not opened yet: a domain was extended. It is no hurry, since whoever
// reads the domain finds them by itself. It returns when to look again. Caller holds mu.
func (rt *runtime) completeLUNs(ctx context.Context) time.Duration {
	next := domainRetry
	for id, l := range rt.domains {
		d, ok := rt.node.View().Domains.Get(id)
		if !ok || len(d.LUNs) <= len(l.list()) {
			continue
		}
		switch st := rt.openingOf(id); {
		case st.busy || ctx.Err() != nil:
		case time.Until(st.retryAt) > 0:
			next = min(next, time.Until(st.retryAt))
		default:
			rt.begin(st, func() error { return l.follow(ctx, d.LUNs, rt.log) })
		}
	}
	return next
}

// begin runs fn for a domain, and when it fails again after a while, longer each time. Caller holds mu.
func (rt *runtime) begin(st *opening, fn func() error) { rt.beginEvery(st, 0, fn) }

// beginEvery is begin with a pause of its own after a failure. Caller holds mu.
func (rt *runtime) beginEvery(st *opening, pause time.Duration, fn func() error) {
	st.busy = true
	rt.openers.Go(func() {
		err := fn()
		rt.mu.Lock()
		defer rt.mu.Unlock()
		st.busy, st.err, st.retryAt = false, err, time.Time{}
		if st.failures++; err == nil {
			st.failures = 0
		} else {
			st.retryAt = time.Now().Add(cmp.Or(pause, retryIn(rt.profile, st.failures)))
			if st.master {
				st.retryAt = time.Now().Add(storageRetry)
			}
		}
		rt.announce()
	})
}

// openListed opens a domain that the mirror names.
func (rt *runtime) openListed(ctx context.Context, id string) error {
	d, ok := rt.node.View().Domains.Get(id)
	if !ok || !wanted(d) {
		return nil
	}
	err := rt.addDomain(ctx, d)
	if err != nil && ctx.Err() == nil {
		rt.log.Error("domain cannot be used on this host; trying again", "domain", id, "err", err)
	}
	return err
}

// lost reports whether our host id in the domain's lockspace went, and no call of ours can land any more.
func (l *luns) lost() bool { return l.guard.Check(0) != nil && l.allPending() == 0 && !l.growing() }

// dropDomain closes a domain whose lockspace was lost, so that it is opened and joined anew.
func (rt *runtime) dropDomain(ctx context.Context, l *luns) error {
	ctx, cancel := context.WithTimeout(ctx, 2*rt.profile.IOTimeout)
	defer cancel()
	rt.log.Warn("the host id in a lockspace was lost; it is taken again", "domain", l.id)
	if err := rt.keeper.Leave(ctx, l.id); err != nil {
		rt.log.Warn("leaving a lost lockspace", "domain", l.id, "err", err)
	}
	rt.mu.Lock()
	delete(rt.domains, l.id)
	rt.mu.Unlock()
	return l.close()
}

// pendingOn counts device calls on one domain that have not come back.
func (rt *runtime) pendingOn(id string) int {
	if l, ok := rt.domain(id); ok {
		return l.pending()
	}
	return 0
}

// report records an event of the role, as soon as the cluster can be reached.
func (rt *runtime) report(_ context.Context, e fsm.Event) error { return rt.cfg.later.add(e) }
