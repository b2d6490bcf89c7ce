package spm

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// Bounds of the requests that wait for space.
const (
	// maxWaiting is how many volumes of a domain may wait. It is more than a domain can have thin volumes in use.
	maxWaiting = 2048
	// waitingFor is how long a request is kept that nobody repeats. Hosts repeat what their guests still need.
	waitingFor = time.Hour
	// waitingPass is how often the requests are tried although nothing says that space has appeared.
	waitingPass = 30 * time.Second
)

// shortage holds the extensions of one domain that wait for space: one for each volume. Its goroutine tries them, the most
// urgent first, whenever a change of the domain may have freed extents. One that does not fit is passed over, so that a request
// which can never be met holds nobody up.
type shortage struct {
	d    *served
	wake chan struct{} // told that space may have appeared, or that somebody wants to know

	mu    sync.Mutex // guards what follows
	list  map[string]*want
	told  bool // the event says that requests wait
	ended bool // nobody tries any more
}

// want is the extension that a volume waits for. shortage.mu guards it.
type want struct {
	req     ExtendRequest // with the largest size that was asked for
	last    int64         // the size that was asked for last
	full    time.Time     // when the volume will be full; zero: nobody knows
	since   time.Time
	asked   time.Time
	cause   error // why it was not met the last time; nil: not tried yet
	callers []*caller
}

// caller is somebody who waits for an answer.
type caller struct {
	size    int64
	patient bool // waits for space; else for the next try only
	answer  chan extended
}

// extended is the answer to an extension.
type extended struct {
	rep    VolumeReply
	queued <-chan uint64
	err    error
}

func newShortage(d *served) *shortage {
	return &shortage{d: d, wake: make(chan struct{}, 1), list: map[string]*want{}}
}

// empty tells whether nobody waits, so that nobody can be overtaken.
func (q *shortage) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list) == 0
}

// kick has the requests tried soon, if there are any.
func (q *shortage) kick() {
	if q.empty() {
		return
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// wait keeps a request and returns its answer: when there was space, when the caller's time is up, or when it was tried and did
// not fit. The goroutine that tries answers everybody before it ends.
func (q *shortage) wait(ctx context.Context, req ExtendRequest) (VolumeReply, <-chan uint64, error) {
	c := &caller{size: req.Size, patient: req.Wait > 0, answer: make(chan extended, 1)}
	w, err := q.add(req, c)
	if err != nil {
		return VolumeReply{}, nil, err
	}
	q.kick()
	limit := req.Wait
	if !c.patient {
		limit = q.d.s.r.cfg.StepTimeout
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case a := <-c.answer:
		return a.rep, a.queued, a.err
	case <-t.C:
		err = q.still(w)
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", q.still(w), context.Cause(ctx))
	}
	q.forget(w, c)
	return VolumeReply{}, nil, err
}

// add keeps a request. Of two for one volume the larger size counts, and the last word about how urgent it is; the mailbox says none.
func (q *shortage) add(req ExtendRequest, c *caller) (*want, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.d.s.r.cfg.Now()
	w := q.list[req.Volume]
	switch {
	case q.ended:
		return nil, q.d.gone()
	case w == nil && len(q.list) >= maxWaiting:
		return nil, &OutOfSpaceError{Domain: q.d.name, Cause: fmt.Errorf("%d volumes wait: %w", len(q.list), domain.ErrNoSpace)}
	case w == nil:
		w = &want{req: req, since: now}
		w.req.Wait, w.req.Unmirrored = 0, false
		q.list[req.Volume] = w
	case req.Size > w.req.Size:
		w.req.Size, w.cause = req.Size, nil
	}
	w.asked, w.last = now, req.Size
	w.urge(req, now)
	w.callers = append(w.callers, c)
	return w, nil
}

// urge takes in how urgent a request is.
func (w *want) urge(req ExtendRequest, now time.Time) {
	if !req.Paused && req.SecondsToFull == 0 {
		return
	}
	w.req.Paused, w.req.SecondsToFull, w.full = req.Paused, req.SecondsToFull, time.Time{}
	if req.SecondsToFull > 0 {
		w.full = now.Add(time.Duration(min(req.SecondsToFull, waitingFor.Seconds()*24) * float64(time.Second)))
	}
}

// still says that a request goes on waiting.
func (q *shortage) still(w *want) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stillLocked(w)
}

func (q *shortage) stillLocked(w *want) error {
	cause := w.cause
	if cause == nil {
		cause = fmt.Errorf("volume %s: others go first: %w", w.req.Volume, domain.ErrNoSpace)
	}
	return &OutOfSpaceError{Domain: q.d.name, Queued: true, Cause: cause}
}

// forget takes a caller away. The request stays: the volume still needs the space.
func (q *shortage) forget(w *want, c *caller) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.callers = slices.DeleteFunc(w.callers, func(o *caller) bool { return o == c })
}
