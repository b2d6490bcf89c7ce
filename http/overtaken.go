package httpapi

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A host that loses its network in the middle of a request never answers, and the caller would wait for all his time although the role has
// long been somebody else's.
const (
	// unwatched is how long a request is under way before anybody looks: nearly all are answered by then.
	unwatched = 250 * time.Millisecond
	// overtakenGrace is left to answers that are on their way: the next holder begins when the one before has answered everybody.
	overtakenGrace = time.Second
)

// errOvertaken ends a request whose host does not have the role any more.
var errOvertaken = errors.New("another host has the role by now")

// whileHolds is a context that ends some time after the role has gone to somebody else than t.
func (j *journey) whileHolds(ctx context.Context, t Target) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if !after(ctx, unwatched) {
			return
		}
		for {
			changed := j.fw.Changed()
			if now := j.role(); now.Host != "" && now.Host != t.Host { // one that has it again answers by itself
				if after(ctx, overtakenGrace) {
					cancel(errOvertaken)
				}
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, func() { cancel(nil); wg.Wait() }
}

// after waits. False: ctx ended first.
func after(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
