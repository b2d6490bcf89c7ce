package mailbox

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// ask is a request of this host on its way to a slot and back.
type ask struct {
	msg  Message
	done chan error  // has room for the one answer
	gone atomic.Bool // the caller does not wait any more
}

// askQueue is where requests wait for the loop.
type askQueue struct {
	limit int
	wake  chan struct{} // has room for one

	mu     sync.Mutex // guards the rest
	asks   []*ask
	closed bool
}

func newAskQueue(limit int) *askQueue { return &askQueue{limit: limit, wake: make(chan struct{}, 1)} }

// put adds a request and wakes the loop.
func (q *askQueue) put(m Message) (*ask, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, fmt.Errorf("asking for %s: %w", m, ErrStopped)
	}
	if len(q.asks) >= q.limit {
		return nil, fmt.Errorf("asking for %s: %w: %d", m, ErrQueueFull, len(q.asks))
	}
	a := &ask{msg: m, done: make(chan error, 1)}
	q.asks = append(q.asks, a)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return a, nil
}

// take hands all requests that wait to fn, in order; those that fn has no room for stay.
func (q *askQueue) take(fn func(*ask) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rest := q.asks[:0]
	for _, a := range q.asks {
		if !a.gone.Load() && !fn(a) {
			rest = append(rest, a)
		}
	}
	clear(q.asks[len(rest):])
	q.asks = rest
}

// empty says that nothing waits.
func (q *askQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.asks) == 0
}

// close fails what waits and refuses what comes later.
func (q *askQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, a := range q.asks {
		a.done <- ErrStopped
	}
	q.asks = nil
}

// Extend asks the SPM to make a volume at least m.SizeMiB large and waits for the answer. Run must be running. A request
// equal to one that is under way joins it and gets its answer.
//
// nil means that the SPM says it is done: refresh the mapping and measure it. ErrRefused and ErrWithdrawn say the rest.
// When ctx ends the wait is over, but a request that is in its slot already stays there until it is answered or
// withdrawn: what needed the space still does.
func (h *Host) Extend(ctx context.Context, m Message) error {
	if m.SizeMiB == 0 {
		return fmt.Errorf("%w: size 0", ErrRequest)
	}
	a, err := h.queue.put(m)
	if err != nil {
		return err
	}
	select {
	case err := <-a.done:
		if err != nil {
			return fmt.Errorf("extending %s: %w", m, err)
		}
		return nil
	case <-ctx.Done():
		a.gone.Store(true)
		return fmt.Errorf("extending %s: no answer yet, it may still be done: %w", m, context.Cause(ctx))
	}
}
