package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Running is a fault on its way: what it may use, whom it is on, and how it is healed.
type Running struct {
	Cluster
	admin  admin
	bounds history.Bounds
	lasts  time.Duration // as planned
	order  []string      // all hosts; the first is the one to hit
	rand   *rand.Rand

	mu       sync.Mutex // guards all below
	targets  []string
	detail   string
	undo     []func(context.Context) error
	injected bool // inject has returned: nothing can follow
}

// Inject does what the nemesis does to the first host of order, or to whom it chooses among them. What is returned is never nil,
// and must be healed even after an error.
func (n Nemesis) Inject(ctx context.Context, c Cluster, b history.Bounds, lasts time.Duration, order []string, rng *rand.Rand) (*Running, error) {
	r := &Running{Cluster: c, admin: viaClients{c}, bounds: b, lasts: lasts, order: order, rand: rng}
	return r, r.inject(ctx, n)
}

func (r *Running) inject(ctx context.Context, n Nemesis) error {
	err := n.inject(ctx, r)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.injected = true
	return err
}

// Heal undoes the fault, the last step first. It may be called again after an error, and while inject still runs.
func (r *Running) Heal(ctx context.Context) error {
	r.mu.Lock()
	undo, final := r.undo, r.injected
	r.mu.Unlock()
	var errs []error
	for i := len(undo) - 1; i >= 0; i-- {
		errs = append(errs, undo[i](ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("healing: %w", err)
	}
	if final {
		r.mu.Lock()
		r.undo = nil
		r.mu.Unlock()
	}
	return nil
}

// healed reports whether nothing is left to undo.
func (r *Running) healed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.injected && len(r.undo) == 0
}

// onHeal says how the next step is undone. Doing it twice, or without the step, must do no harm.
func (r *Running) onHeal(f func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.undo = append(r.undo, f)
}

// hits says whom it is on, and how.
func (r *Running) hits(detail string, hosts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.targets, r.detail = hosts, detail
}

func (r *Running) told() (targets []string, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.targets, r.detail
}

// host is the one to hit.
func (r *Running) host() string { return r.order[0] }

// one of some things, as the seed has it.
func one[T any](r *Running, of ...T) T { return of[r.rand.IntN(len(of))] }

// between two times, as the seed has it.
func (r *Running) between(least, most time.Duration) time.Duration {
	return spread(r.rand, least, most)
}

func spread(rng *rand.Rand, least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(rng.Int64N(int64(most-least)))
}

// expiry is when a lease that is not renewed is lost to its holder; dead is when others may take it.
func expiry(b history.Bounds) time.Duration { return 8 * b.IOTimeout }
func dead(b history.Bounds) time.Duration   { return expiry(b) + b.Watchdog }

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
