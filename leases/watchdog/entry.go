package watchdog

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Use arms the entry before somebody gets a lease under it. expiry is the boot time at which the last renewal runs out.
// Without a watchdog it does nothing.
func (e *Entry) Use(ctx context.Context, expiry time.Duration) error {
	e.used.Store(true)
	w := e.dog
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.backend == nil || e.armed {
		return nil
	}
	e.moved(expiry)
	e.dirty.Store(false)
	if !e.good(w.cfg.Clock.Boot()) {
		return fmt.Errorf("arming the watchdog for %s: %w", e.Name, ErrExpired)
	}
	if err := w.backend.arm(ctx, e); err != nil {
		e.used.Store(false)
		return fmt.Errorf("arming the watchdog for %s: %w", e.Name, err)
	}
	e.armed = true
	return nil
}

// Renewed moves the expiry. It is called in the renewal loop: it neither blocks nor allocates.
func (e *Entry) Renewed(expiry time.Duration) {
	e.moved(expiry)
	e.dirty.Store(true)
	select {
	case e.dog.news <- struct{}{}:
	default:
	}
}

// moved never moves the expiry back.
func (e *Entry) moved(expiry time.Duration) {
	for {
		old := e.expiry.Load()
		if int64(expiry) <= old || e.expiry.CompareAndSwap(old, int64(expiry)) {
			return
		}
	}
}

// Idle says that nobody holds leases any more. The entry is disarmed a little later, unless it is used again before.
func (e *Entry) Idle() { e.used.Store(false) }

// Expire says that the lockspace has failed and has users: no renewal counts any more.
func (e *Entry) Expire() { e.expired.Store(true) }

// Done disarms the entry at once and forgets it: the lockspace has no users and ends.
func (e *Entry) Done() {
	e.used.Store(false)
	w := e.dog
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.armed {
		w.disarmLocked(e)
	}
	w.entries = slices.DeleteFunc(w.entries, func(x *Entry) bool { return x == e })
}

// good says whether the machine may live on for the sake of this entry.
func (e *Entry) good(now time.Duration) bool {
	return !e.expired.Load() && int64(now) < e.expiry.Load()
}
