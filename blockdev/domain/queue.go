package domain

import (
	"context"
	"fmt"
	"runtime"
	"sync"
)

// maxBatch bounds how many requests one commit carries.
const maxBatch = 256

// request is a change that a caller waits for.
type request struct {
	create *VolumeSpec // one of create, edit, size, remove, reap and alone is set
	edit   *VolumeEdit
	size   int64  // bytes that the LV is to have
	target string // the volume to edit or extend
	remove string
	held   HeldVolume // lease of the volume to edit, remove or reap; the batch ends it with the volume
	reap   string     // a wiped volume
	alone  func(ctx context.Context) error

	wake chan struct{} // closed when the request is answered or its caller has to lead
	done bool          // guarded by queue.mu until wake is closed
	vol  Volume
	gone VolumeRemoved
	err  error
}

// queue groups concurrent callers: the first one in leads, takes all that waits and carries it out in one go, while
// those who come meanwhile wait for the next batch, which one of them leads. No goroutine lives longer than a call.
type queue struct {
	run func(ctx context.Context, batch []*request)

	mu      sync.Mutex
	waiting []*request
	leading bool
	closed  bool
	idle    *sync.Cond
}

func newQueue(run func(context.Context, []*request)) *queue {
	q := &queue{run: run}
	q.idle = sync.NewCond(&q.mu)
	return q
}

// submit returns when r was answered. A caller whose ctx ends before its request was taken gets ctx's error and
// nothing has happened; afterwards it waits for the answer, which the deadlines of the I/O bound.
func (q *queue) submit(ctx context.Context, r *request) error {
	r.wake = make(chan struct{})
	lead, err := q.enter(r)
	if err != nil {
		return err
	}
	if !lead {
		lead, err = q.await(ctx, r)
		if err != nil {
			return err
		}
	}
	if lead {
		q.lead(ctx, r)
	}
	return r.err
}

func (q *queue) enter(r *request) (lead bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, ErrClosed
	}
	q.waiting = append(q.waiting, r)
	if q.leading {
		return false, nil
	}
	q.leading = true
	return true, nil
}

// await waits until r is answered or its caller has to lead.
func (q *queue) await(ctx context.Context, r *request) (lead bool, err error) {
	select {
	case <-r.wake:
		return !r.done, nil
	case <-ctx.Done():
	}
	if q.withdraw(r) {
		return false, fmt.Errorf("gave up before the request was started, nothing was done: %w", context.Cause(ctx))
	}
	<-r.wake
	return !r.done, nil
}

// withdraw takes r back if no leader has it, and its caller was not asked to lead.
func (q *queue) withdraw(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-r.wake:
		return false
	default:
	}
	for i, other := range q.waiting {
		if other == r {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// lead carries out one batch, mine being in it, and hands the lead on.
func (q *queue) lead(ctx context.Context, mine *request) {
	runtime.Gosched() // let callers that were just answered come in again, for larger batches
	batch := q.take(mine)
	q.run(context.WithoutCancel(ctx), batch)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range batch {
		r.done = true
		if r != mine {
			close(r.wake)
		}
	}
	if len(q.waiting) > 0 {
		close(q.waiting[0].wake) // not done: it leads
		return
	}
	q.leading = false
	q.idle.Broadcast()
}

// take removes a batch from the queue. A request that must be alone is a batch of its own.
func (q *queue) take(mine *request) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	if mine.alone != nil {
		for i, r := range q.waiting {
			if r == mine {
				q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
				break
			}
		}
		return []*request{mine}
	}
	var batch, rest []*request
	for _, r := range q.waiting {
		if r.alone == nil && (len(batch) < maxBatch || r == mine) {
			batch = append(batch, r)
		} else {
			rest = append(rest, r)
		}
	}
	q.waiting = rest
	return batch
}

// close refuses further requests and waits for those that are in.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for q.leading {
		q.idle.Wait()
	}
}
