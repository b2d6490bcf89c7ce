package safe

import (
	"context"
	"sync"
	"time"
)

// probe does something again and again, and remembers when it worked.
type probe struct {
	mu   sync.Mutex // guards what follows
	done []time.Time
	bad  int
}

// run calls f until ctx ends, with a pause between two calls.
func (p *probe) run(ctx context.Context, every time.Duration, f func(context.Context) error) {
	for ctx.Err() == nil {
		err := f(ctx)
		p.mu.Lock()
		if err == nil {
			p.done = append(p.done, time.Now())
		} else if ctx.Err() == nil {
			p.bad++
		}
		p.mu.Unlock()
		pause(ctx, every)
	}
}

// gap is the longest time without success that touches the time between two moments: the last one before counts, and the first after.
func (p *probe) gap(from, to time.Time) (longest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := from
	for _, at := range p.done {
		if !at.Before(from) {
			longest = max(longest, at.Sub(last))
		}
		last = at
		if at.After(to) {
			return longest
		}
	}
	return max(longest, to.Sub(last))
}

// count is how often it worked, and how often not.
func (p *probe) count() (good, bad int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.done), p.bad
}

// after reports whether it has worked since a moment.
func (p *probe) after(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.done) > 0 && p.done[len(p.done)-1].After(t)
}
