package workload

import (
	"context"
	"sync"
	"time"
)

// pace gives out moments at a rate. Time in which nobody asked is lost: after a pool that hung there is no flood.
type pace struct {
	every time.Duration
	mu    sync.Mutex // guards next
	next  time.Time
}

func newPace(rate float64) *pace { return &pace{every: time.Duration(float64(time.Second) / rate)} }

// take reserves the next moment.
func (p *pace) take(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(p.every)
	return wait
}

// wait waits for the next moment, or returns false when ctx ends first.
func (p *pace) wait(ctx context.Context) bool {
	t := time.NewTimer(p.take(time.Now()))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
