package safe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
)

// Run is one run against a pool.
type Run struct {
	Clients []*client.Client // of several hosts, best of all; the first is not the one whose agent dies, if there are more
	Agent   Agent            // of this machine; nil: none
	Kinds   []Kind
	Time    time.Duration
	Seed    uint64
	Say     func(format string, args ...any) // told what happens

	pool *pool
	rng  *rand.Rand
}

// Report is what a run has measured.
type Report struct {
	Pool    string   `json:"pool"`
	Seed    uint64   `json:"seed"`
	Created int      `json:"created"` // volumes, all deleted again
	Read    int      `json:"read"`
	Bounds  []Bounds `json:"bounds"`
}

const (
	// wellTime bounds the wait after a fault. A pool that is not well by then is left alone.
	wellTime = 3 * time.Minute
	// sweepTime bounds the cleaning up.
	sweepTime = time.Minute
	lookPause = 50 * time.Millisecond
	quiet     = time.Second
)

// ErrNotWell says that the pool did not recover, and the run was ended for that.
var ErrNotWell = errors.New("the pool did not become well again")

// Do looks once more whether the pool may be hurt, injects one fault after another until the time is over, and cleans up. No fault
// begins before the last one is over and the pool is well.
func (r *Run) Do(ctx context.Context) (rep Report, err error) {
	if err := errors.Join(CheckTime(r.Time), r.ready()); err != nil {
		return rep, err
	}
	s, err := r.pool.status(ctx)
	if err == nil {
		err = Check(s)
	}
	if err != nil {
		return rep, err
	}
	rep = Report{Pool: s.Pool.Name, Seed: r.Seed}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, r.Time)
	defer cancel()
	var creates, reads probe
	stop := r.probes(context.WithoutCancel(whole), &creates, &reads) // a fault that is broken off is awaited too
	rep.Bounds, err = r.faults(ctx, &creates, &reads)
	stop()
	rep.Created, _ = creates.count()
	rep.Read, _ = reads.count()
	clean, done := context.WithTimeout(context.WithoutCancel(whole), sweepTime)
	defer done()
	return rep, errors.Join(err, r.pool.sweep(clean))
}

// ready makes what a run needs.
func (r *Run) ready() error {
	if len(r.Clients) == 0 || len(r.Kinds) == 0 {
		return errors.New("a run needs a host to ask and a kind of fault")
	}
	for _, k := range r.Kinds {
		if k.Local && r.Agent == nil {
			return fmt.Errorf("%s needs the agent of this machine", k.Name)
		}
	}
	r.rng = rand.New(rand.NewPCG(r.Seed, 0))
	r.pool = &pool{clients: r.Clients, prefix: fmt.Sprintf("nemesis-%d-%d-", r.Seed, time.Now().UnixNano())}
	return nil
}

// probes make volumes and read, each in a goroutine, until the returned function is called, which waits for them.
func (r *Run) probes(ctx context.Context, creates, reads *probe) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		creates.run(ctx, 10*time.Millisecond, func(ctx context.Context) error {
			n++
			id, err := r.pool.create(ctx, n)
			if err == nil {
				_ = r.pool.remove(ctx, id) // what is left is swept at the end
			}
			return err
		})
	})
	wg.Go(func() { reads.run(ctx, 10*time.Millisecond, r.pool.read) })
	return func() { cancel(); wg.Wait() }
}

// faults injects until ctx ends. Each kind comes once before one comes twice.
func (r *Run) faults(ctx context.Context, creates, reads *probe) ([]Bounds, error) {
	bounds := make([]Bounds, len(r.Kinds))
	for i, k := range r.Kinds {
		bounds[i].Kind = k.Name
	}
	for {
		for _, i := range r.rng.Perm(len(r.Kinds)) {
			if !pause(ctx, quiet) {
				return bounds, nil
			}
			if err := r.one(ctx, r.Kinds[i], &bounds[i], creates, reads); err != nil {
				return bounds, err
			}
		}
	}
}

// one injects a fault, waits until the pool is well, and measures. The wait goes on when the time of the run is over: a fault is
// left to nobody else.
func (r *Run) one(ctx context.Context, k Kind, b *Bounds, creates, reads *probe) error {
	s, err := r.pool.status(ctx)
	if err == nil {
		err = Check(s)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	r.Say("%s", k.Name)
	begun := time.Now()
	err = k.inject(ctx, r, s)
	if ctx.Err() != nil && err != nil {
		return r.awaitWell(ctx, begun, creates, reads) // broken off
	}
	if werr := r.awaitWell(ctx, time.Now(), creates, reads); werr != nil {
		return fmt.Errorf("after %s: %w", k.Name, errors.Join(werr, err))
	}
	if err != nil {
		r.Say("%s: %v", k.Name, err)
		b.fail(err)
		return nil
	}
	over := time.Now()
	c, d := creates.gap(begun, over), reads.gap(begun, over)
	r.Say("%s: no volume was made for %s, nothing read for %s", k.Name, c.Round(time.Millisecond), d.Round(time.Millisecond))
	b.add(c, d)
	return nil
}

// awaitWell waits until everybody is up, and volumes were made and read since a moment.
func (r *Run) awaitWell(ctx context.Context, since time.Time, creates, reads *probe) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wellTime)
	defer cancel()
	for {
		s, err := r.pool.status(ctx)
		if err == nil {
			err = well(s)
		}
		if err == nil && (!creates.after(since) || !reads.after(since)) {
			err = errors.New("no volume was made since, or nothing read")
		}
		if err == nil {
			return nil
		}
		if !pause(ctx, lookPause) {
			return fmt.Errorf("%w within %s: %w; see 'holdfast status'", ErrNotWell, wellTime, err)
		}
	}
}
