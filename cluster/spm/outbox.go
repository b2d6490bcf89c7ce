package spm

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// maxBatch bounds the entries of one Raft command; maxBacklog is where a queue without quorum becomes one reconcile.
const (
	maxBatch   = 256
	maxBacklog = 4096
)

// applyTimeout bounds one try; retryMin and retryMax pace tries without a quorum.
const (
	applyTimeout = 5 * time.Second
	retryMin     = 20 * time.Millisecond
	retryMax     = time.Second
)

// kind says what an entry does to the mirror.
type kind int

const (
	kindPut kind = iota
	kindRemove
	kindReplace
	kindServing
	kindDescribe
)

// entry is one queued change of the mirror.
type entry struct {
	kind  kind
	vols  []domain.Volume
	gone  domain.VolumeRemoved
	info  domain.Info // of serving
	desc  Description
	epoch uint64
	seq   uint64
	truth truth
	done  chan uint64 // gets the Raft index; buffered
}

// truth is the whole content of a domain at one moment.
type truth struct {
	epoch, seq uint64
	vols       []domain.Volume
}

// outbox carries changes to the mirror, in order, at least once, as long as the session lives.
type outbox struct {
	mirror   Mirror
	domainID string
	snapshot func() truth
	log      *slog.Logger
	wake     chan struct{}

	// mu guards queue, sending and empty. The head of the queue stays in it until it is applied.
	mu      sync.Mutex
	queue   []entry
	sending int           // entries at the head that are being applied
	empty   chan struct{} // not nil while somebody flushes; closed when the queue is empty
}

func newOutbox(m Mirror, domainID string, snapshot func() truth, log *slog.Logger) *outbox {
	return &outbox{mirror: m, domainID: domainID, snapshot: snapshot, log: log, wake: make(chan struct{}, 1)}
}

// put queues new or changed volumes. The channel gets the index when the mirror has them all.
func (o *outbox) put(vols ...domain.Volume) <-chan uint64 {
	return o.add(entry{kind: kindPut, vols: vols})
}

// remove queues a deletion.
func (o *outbox) remove(g domain.VolumeRemoved) <-chan uint64 {
	return o.add(entry{kind: kindRemove, gone: g})
}

// serving queues the record of who serves.
func (o *outbox) serving(epoch uint64, info domain.Info) {
	o.add(entry{kind: kindServing, epoch: epoch, info: info})
}

// describe queues the domain's sizes.
func (o *outbox) describe(epoch, seq uint64, d Description) <-chan uint64 {
	return o.add(entry{kind: kindDescribe, epoch: epoch, seq: seq, desc: d})
}

// replace queues a reconcile with what is on disk now. The caller keeps changes away while it runs.
func (o *outbox) replace() <-chan uint64 { return o.add(entry{kind: kindReplace, truth: o.snapshot()}) }

// add queues e.
func (o *outbox) add(e entry) <-chan uint64 {
	e.done = make(chan uint64, 1)
	o.mu.Lock()
	if len(o.queue) >= maxBacklog {
		o.collapse()
	}
	o.queue = append(o.queue, e)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return e.done
}

// collapse makes one reconcile of a long queue; e follows it. Entries that are being applied stay. Those who wait for
// the others have given up long ago. Caller holds mu.
func (o *outbox) collapse() {
	t := o.snapshot()
	o.queue = append(o.queue[:o.sending:o.sending], entry{kind: kindReplace, truth: t, done: make(chan uint64, 1)})
}

// backlog is the number of entries that Raft has not taken.
func (o *outbox) backlog() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}

// run sends until ctx ends.
func (o *outbox) run(ctx context.Context) {
	pause := retryMin
	for {
		batch := o.head()
		if len(batch) == 0 {
			select {
			case <-o.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		index, err := o.send(ctx, batch)
		if err == nil {
			o.drop(batch, index)
			pause = retryMin
			continue
		}
		o.log.Debug("mirror entry not taken yet", "entries", len(batch), "err", err)
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, retryMax)
	}
}

// head returns the longest run of entries that fit one command.
func (o *outbox) head() []entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for n < len(o.queue) && n < maxBatch && o.queue[n].kind == o.queue[0].kind {
		n++
		if k := o.queue[0].kind; k != kindPut && k != kindRemove {
			break
		}
	}
	o.sending = n
	return slices.Clone(o.queue[:n])
}

// drop takes an applied batch off the queue and tells those who wait.
func (o *outbox) drop(batch []entry, index uint64) {
	o.mu.Lock()
	o.queue = slices.Delete(o.queue, 0, len(batch))
	o.sending = 0
	if len(o.queue) == 0 {
		o.queue = nil
		if o.empty != nil {
			close(o.empty)
			o.empty = nil
		}
	}
	o.mu.Unlock()
	for _, e := range batch {
		e.done <- index
	}
}

// send applies one batch.
func (o *outbox) send(ctx context.Context, batch []entry) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	switch e := batch[0]; e.kind {
	case kindServing:
		return o.mirror.Serving(ctx, e.epoch, e.info)
	case kindDescribe:
		return o.mirror.Describe(ctx, e.epoch, e.seq, e.desc)
	case kindReplace:
		diff, err := o.mirror.Replace(ctx, o.domainID, e.truth.epoch, e.truth.seq, e.truth.vols)
		return diff.Index, err
	case kindRemove:
		gone := make([]domain.VolumeRemoved, len(batch))
		for i := range batch {
			gone[i] = batch[i].gone
		}
		return o.mirror.Remove(ctx, o.domainID, gone)
	default:
		vols := make([]domain.Volume, 0, len(batch))
		for i := range batch {
			vols = append(vols, batch[i].vols...)
		}
		return o.mirror.Put(ctx, o.domainID, vols)
	}
}

// flush waits until the queue is empty, for no longer than d, and returns what is left.
func (o *outbox) flush(d time.Duration) int {
	o.mu.Lock()
	if len(o.queue) == 0 {
		o.mu.Unlock()
		return 0
	}
	if o.empty == nil {
		o.empty = make(chan struct{})
	}
	empty := o.empty
	o.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-empty:
		return 0
	case <-t.C:
		return o.backlog()
	}
}

// sleep waits d, or returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
