package spm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
)

// run tries the requests when space may have appeared, and now and then, until ctx ends.
func (q *shortage) run(ctx context.Context) {
	defer q.end()
	tick := time.NewTicker(waitingPass)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-tick.C:
		}
		before := q.count()
		q.pass(ctx)
		q.tell(before, q.count())
	}
}

// end answers everybody and refuses who comes later.
func (q *shortage) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	for _, w := range q.list {
		q.answer(w, extended{err: q.d.gone()})
	}
	clear(q.list)
}

// pass tries each request once, in order.
func (q *shortage) pass(ctx context.Context) {
	for _, w := range q.inOrder() {
		if ctx.Err() != nil {
			return
		}
		q.try(ctx, w)
	}
}

// inOrder lists the requests, the most urgent first: guests that stand still, then those that will soonest, then by age. Those
// that nobody has repeated for long are dropped.
func (q *shortage) inOrder() []*want {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.d.s.r.cfg.Now()
	list := make([]*want, 0, len(q.list))
	for id, w := range q.list {
		if now.Sub(w.asked) > waitingFor && len(w.callers) == 0 {
			delete(q.list, id)
			continue
		}
		list = append(list, w)
	}
	slices.SortFunc(list, urgency)
	return list
}

// urgency compares two requests.
func urgency(a, b *want) int {
	if a.req.Paused != b.req.Paused {
		if a.req.Paused {
			return -1
		}
		return 1
	}
	if a.full.IsZero() != b.full.IsZero() {
		if b.full.IsZero() {
			return -1
		}
		return 1
	}
	return cmp.Or(a.full.Compare(b.full), a.since.Compare(b.since), cmp.Compare(a.req.Volume, b.req.Volume))
}

// try carries out one request if there is room for it, and answers those who wait for that. Where the largest size does not fit,
// the last one that was asked for may.
func (q *shortage) try(ctx context.Context, w *want) {
	q.mu.Lock()
	req, last := w.req, w.last
	q.mu.Unlock()
	rep, queued, err := q.d.extend(ctx, req)
	if errors.Is(err, domain.ErrNoSpace) && last < req.Size {
		less := req
		less.Size = last
		if rep, queued, err := q.d.extend(ctx, less); err == nil {
			q.mu.Lock()
			q.answerSome(w, func(c *caller) bool { return c.size <= last }, extended{rep, queued, nil})
			q.mu.Unlock()
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case errors.Is(err, domain.ErrNoSpace):
		w.cause = err
		q.answerSome(w, func(c *caller) bool { return !c.patient }, extended{err: q.stillLocked(w)})
	case err == nil && w.req.Size > req.Size: // somebody asked for more meanwhile
		q.kickLocked()
	case err == nil, !passing(err):
		delete(q.list, req.Volume)
		q.answer(w, extended{rep, queued, err})
	case errors.Is(err, blockdev.ErrOutcomeUnknown): // which everybody must hear who would else hear that nothing was done
		q.answer(w, extended{err: err})
	default:
		q.answerSome(w, func(c *caller) bool { return !c.patient }, extended{err: err})
	}
}

// passing tells whether a request that failed may work later by itself.
func passing(err error) bool {
	return !errors.Is(err, domain.ErrNotFound) && !errors.Is(err, domain.ErrInvalid) && !errors.Is(err, domain.ErrBusy) &&
		!errors.Is(err, domain.ErrConflict)
}

// kickLocked is kick; caller holds mu.
func (q *shortage) kickLocked() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// answer tells all who wait for a request. Caller holds mu.
func (q *shortage) answer(w *want, a extended) {
	q.answerSome(w, func(*caller) bool { return true }, a)
}

// answerSome tells some of them. Only one of several gets the channel of the mirror: an index is told once. Caller holds mu.
func (q *shortage) answerSome(w *want, which func(*caller) bool, a extended) {
	w.callers = slices.DeleteFunc(w.callers, func(c *caller) bool {
		if !which(c) {
			return false
		}
		c.answer <- a
		a.queued = nil
		return true
	})
}

// count is how many wait.
func (q *shortage) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list)
}

// tell records the begin and the end of a shortage, and has its size mirrored.
func (q *shortage) tell(before, after int) {
	if before != after || after > 0 {
		q.d.resized()
	}
	q.mu.Lock()
	was := q.told
	q.told = after > 0
	q.mu.Unlock()
	switch {
	case after > 0 && !was:
		w := q.waiting()
		if len(w) == 0 {
			return
		}
		q.d.s.tell(fsm.Warning, "domain.out_of_space", q.d.id, w[0].Reason,
			fmt.Sprintf("domain %s: %s; it waits for space, add a LUN or delete volumes", q.d.name, w[0].Reason))
	case after == 0 && was:
		q.d.s.tell(fsm.Info, "domain.space", q.d.id, "every extension that waited has its space, or was given up", "domain "+q.d.name+": no extension waits for space any more")
	}
}
