package spm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/internal/plant"
)

// served is one domain under a session: its writer, its way to the mirror, its gate and its doubt. Nothing in it waits
// for another domain.
type served struct {
	s     *session
	id    string
	name  string
	guard blockdev.Guard
	dom   Domain
	w     Writer
	box   *outbox
	base  uint64 // what this epoch's earlier writers of the domain had counted to

	// ctx ends with the session, or when this domain cannot be served any more.
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	sizes  chan struct{} // told that sizes have changed
	told   Description   // what the mirror was told last: by the reconcile, then by the goroutine that describes
	short  *shortage     // extensions that wait for space

	leaseTurn chan struct{} // held by the one change of the external leases that is under way

	// disk is read-held from before a change on disk until its mirror entry is queued, and held by whoever needs
	// the list of volumes and the queue to agree.
	disk sync.RWMutex

	// mu guards the gate and the doubt.
	mu       sync.Mutex
	shut     bool          // no new requests
	inFlight int           // requests let in
	idle     chan struct{} // closed when shut and inFlight is 0
	doubt    chan struct{} // not nil while the disk must be read again; closed when it was
}

// newServed makes a served domain, notes its names and starts its outbox.
func newServed(s *session, info domain.Info, dom Domain, w Writer, g blockdev.Guard, base uint64) *served {
	d := &served{s: s, id: info.UUID, name: info.Name, guard: g, dom: dom, w: w, base: base,
		sizes: make(chan struct{}, 1), idle: make(chan struct{}), leaseTurn: make(chan struct{}, 1)}
	d.ctx, d.cancel = context.WithCancelCause(s.ctx)
	d.short = newShortage(d)
	s.names.load(d.id, dom.Volumes())
	d.box = newOutbox(s.r.cfg.Mirror, d.id, d.snapshot, s.r.cfg.Log)
	d.wg.Go(func() { d.box.run(d.ctx) })
	return d
}

// run starts what goes on beside the requests.
func (d *served) run() {
	d.wg.Go(d.describe)
	d.wg.Go(func() { d.short.run(d.ctx) })
	d.wg.Go(d.finishDeletes)
}

// seq is the number of the last change in this epoch, over all its writers of the domain.
func (d *served) seq() uint64 { return d.base + d.w.Seq() }

// stamped gives a volume that the writer changed its place among all changes of the epoch.
func (d *served) stamped(v domain.Volume) domain.Volume {
	if v.Epoch == d.s.epoch {
		v.Seq += d.base
	}
	return v
}

// snapshot is the truth about the domain, for a reconcile.
func (d *served) snapshot() truth {
	return truth{epoch: d.s.epoch, seq: d.seq(), vols: d.dom.Volumes()}
}

// reconcile queues description and content of the domain.
func (d *served) reconcile() <-chan uint64 {
	d.disk.Lock()
	defer d.disk.Unlock()
	d.told = d.description()
	d.box.describe(d.s.epoch, d.seq(), d.told)
	return d.box.replace()
}

// touch says that something was committed: sizes may have changed, and space may have appeared for those who wait for it.
// Whatever frees extents or adds a physical volume calls it.
func (d *served) touch() {
	d.resized()
	d.short.kick()
}

// resized says that sizes may have changed.
func (d *served) resized() {
	select {
	case d.sizes <- struct{}{}:
	default:
	}
}

// describe keeps the sizes in the mirror up to date: soon after a change, with one entry for all changes of that time.
func (d *served) describe() {
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.sizes:
		}
		if !sleep(d.ctx, d.s.r.cfg.DescribeAfter) {
			return
		}
		if now := d.description(); !now.same(d.told) {
			d.told = now
			d.box.describe(d.s.epoch, d.seq(), now)
		}
	}
}

// description is what the mirror is told of the domain besides its volumes.
func (d *served) description() Description {
	out := Description{Info: d.dom.Info()}
	for _, w := range d.short.waiting() {
		out.Waiting++
		out.Needed += max(w.Needed, 0)
	}
	return out
}

// finishDeletes wipes and removes, beside the requests, what deletes with wipe have left.
func (d *served) finishDeletes() {
	for {
		rep, err := d.w.FinishDeletes(d.ctx)
		for _, a := range rep.Actions {
			d.s.r.cfg.Log.Info("a delete was finished", "domain", d.id, "volume", a.Volume, "what", a.Kind, "detail", a.Detail)
			d.touch()
		}
		if err == nil || d.ctx.Err() != nil {
			return
		}
		d.s.r.cfg.Log.Warn("a delete could not be finished; trying again", "domain", d.id, "err", err)
		d.doubtful(err)
		if !sleep(d.ctx, d.s.r.cfg.RetryDomain) {
			return
		}
	}
}

// enter lets a request in, or says why not. It waits while the disk is being read again.
func (d *served) enter(ctx context.Context) error {
	for {
		d.mu.Lock()
		switch {
		case d.shut:
			d.mu.Unlock()
			return d.gone()
		case d.doubt == nil:
			d.inFlight++
			d.mu.Unlock()
			return nil
		}
		doubt := d.doubt
		d.mu.Unlock()
		select {
		case <-doubt:
		case <-d.ctx.Done():
		case <-ctx.Done():
			return fmt.Errorf("a write had no known outcome and the disk is being read again: %w", ErrBusy)
		}
	}
}

// gone says why a shut domain takes no requests.
func (d *served) gone() error {
	if d.s.ctx.Err() == nil && !d.s.isShut() {
		return fmt.Errorf("domain %s is being opened again: %w", d.name, ErrDomainDown)
	}
	return d.s.r.notSPM("the role is being given up")
}

func (s *session) isShut() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.shut }

// leave lets a request out.
func (d *served) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inFlight--
	d.checkIdle()
}

// close refuses new requests; idle is closed when the last one is out.
func (d *served) close() (first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return false
	}
	d.shut = true
	d.checkIdle()
	return true
}

// checkIdle closes idle once. Caller holds mu.
func (d *served) checkIdle() {
	if !d.shut || d.inFlight > 0 {
		return
	}
	select {
	case <-d.idle:
	default:
		close(d.idle)
	}
}

// end closes the writer and waits for every goroutine. The gate is shut and no request is in flight.
func (d *served) end(cause error) error {
	d.cancel(cause)
	err := d.w.Close()
	d.wg.Wait()
	return err
}

// settled waits until every call to the domain's devices has come back.
func (d *served) settled(ctx context.Context) error {
	return settle(ctx, func() int { return d.s.r.cfg.PendingOn(d.id) })
}

// settle waits until pending is 0.
func settle(ctx context.Context, pending func() int) error {
	if plant.On(plant.LateWrite) {
		return nil // planted
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := pending(); n > 0; n = pending() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d calls: %w", n, ErrPending)
		}
	}
	return nil
}
