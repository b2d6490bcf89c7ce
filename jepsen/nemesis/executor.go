package nemesis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Limits bound what the Executor waits for.
type Limits struct {
	Inject time.Duration // one injection
	Heal   time.Duration // one healing, with its repetitions
	Claim  time.Duration // until other faults have left a host free
	Final  time.Duration // making all well at the end
}

// DefaultLimits are for real processes on a busy machine.
func DefaultLimits() Limits {
	return Limits{Inject: 30 * time.Second, Heal: time.Minute, Claim: 20 * time.Second, Final: 2 * time.Minute}
}

// Executor carries a Schedule out.
type Executor struct {
	Cluster  Cluster
	Bounds   history.Bounds
	Kinds    []Nemesis // those that the Schedule was made with
	Schedule Schedule
	Limits   Limits
	Now      func() time.Duration // since the run began
	Record   func(history.Fault)  // called once for each fault, when it is over, from several goroutines
	Log      *slog.Logger

	admin  admin // nil: by Cluster's clients
	ledger *ledger
	late   sync.WaitGroup // injections and healings that nobody waits for any more

	mu       sync.Mutex // guards what follows
	result   Result
	unhealed []*Running
}

// errStuck says that something did not come back.
var errStuck = errors.New("it did not return in time")

// stuckGrace is how much longer than its context lives something may take to see that it is over.
const stuckGrace = time.Second

// healPause is the time between two tries of a healing.
const healPause = 200 * time.Millisecond

// Run injects and heals until the Schedule is through or ctx ends, and then makes all well. What could not be injected is told
// in the Result; an error means that faults could not be prepared, or that the pool could not be healed.
func (e *Executor) Run(ctx context.Context) (Result, error) {
	if e.admin == nil {
		e.admin = viaClients{e.Cluster}
	}
	e.ledger = newLedger(e.Cluster.Hosts())
	e.result.Planned = len(e.Schedule.Faults)
	if err := e.bounded(ctx, e.Limits.Final, e.calmAll); err != nil {
		return e.result, fmt.Errorf("preparing the faults: %w", err)
	}
	var lives sync.WaitGroup
	for _, p := range e.Schedule.Faults {
		if pause(ctx, p.At-e.Now()) != nil {
			break // what is under way heals itself now
		}
		lives.Go(func() { e.live(ctx, p) })
	}
	lives.Wait()
	err := e.finish(context.WithoutCancel(ctx))
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.result, err
}

// live is one fault from its beginning to its end.
func (e *Executor) live(ctx context.Context, p Planned) {
	f := history.Fault{Kind: p.Kind, Begin: e.Now()}
	err := e.inject(ctx, p, &f)
	f.End = e.Now()
	if err != nil {
		f.Error = err.Error()
		e.Log.Warn("a fault failed", "kind", p.Kind, "targets", f.Targets, "error", err)
	}
	e.Record(f)
}

// inject waits for its turn, injects, waits and heals. An error before the healing counts as a fault that did not come.
func (e *Executor) inject(ctx context.Context, p Planned, f *history.Fault) error {
	n, err := e.kind(p.Kind)
	if err != nil {
		return e.missed(p, err)
	}
	wait, cancel := context.WithTimeout(ctx, e.Limits.Claim)
	defer cancel()
	hosts := order(e.Cluster.Hosts(), p.Aim, p.Turn, e.admin.look(ctx))
	hosts, claims, err := e.ledger.take(wait, n, hosts)
	if err != nil {
		return e.missed(p, err)
	}
	r := &Running{Cluster: e.Cluster, admin: e.admin, bounds: e.Bounds, lasts: p.For, order: hosts, rand: rand.New(rand.NewPCG(p.Seed, scheduleStream))}
	f.Begin = e.Now()
	e.Log.Info("injecting a fault", "kind", p.Kind, "aim", p.Aim, "host", hosts[0], "for", p.For)
	err = e.bounded(ctx, e.Limits.Inject, func(ctx context.Context) error { return r.inject(ctx, n) })
	if f.Targets, f.Detail = r.told(); err != nil {
		err = e.missed(p, err)
	} else {
		e.injected(p)
		_ = pause(ctx, p.For) // the end of ctx only means that it is healed earlier
	}
	return errors.Join(err, e.heal(ctx, p, r, claims))
}

// heal tries until it succeeds or its time is over. What is not healed keeps its claims, and is tried again at the end.
func (e *Executor) heal(ctx context.Context, p Planned, r *Running, claims []claim) error {
	err := e.bounded(context.WithoutCancel(ctx), e.Limits.Heal, func(ctx context.Context) error {
		for {
			err := r.Heal(ctx)
			if err == nil || pause(ctx, healPause) != nil {
				return err
			}
		}
	})
	if err == nil && r.healed() {
		e.ledger.give(claims)
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unhealed = append(e.unhealed, r)
	e.result.Late = append(e.result.Late, fmt.Sprintf("%s at %.1fs: %v", p.Kind, p.At.Seconds(), errors.Join(err, errLate)))
	return err
}

// errLate is said of what is healed at the end of the run only.
var errLate = errors.New("left for the end of the run")

// finish heals what was left behind and brings the whole pool to its good state. A call that was stuck may come back only then,
// and do its harm late: so it is all done once more.
func (e *Executor) finish(ctx context.Context) error {
	err := e.bounded(ctx, e.Limits.Final, e.makeWell)
	if !e.allBack(e.Limits.Heal) {
		err = errors.Join(err, fmt.Errorf("a call into the pool, of a fault that is over: %w", errStuck))
	} else if e.left() {
		err = e.bounded(ctx, e.Limits.Final, e.makeWell)
	}
	if err != nil {
		return fmt.Errorf("making the pool well after the faults: %w", err)
	}
	return nil
}

// makeWell tries until it succeeds or ctx ends.
func (e *Executor) makeWell(ctx context.Context) error {
	for {
		err := errors.Join(e.healLeft(ctx), e.calmAll(ctx))
		if err == nil || pause(ctx, healPause) != nil {
			return err
		}
	}
}

// left reports whether a fault was not healed in its time.
func (e *Executor) left() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.unhealed) > 0
}

func (e *Executor) healLeft(ctx context.Context) error {
	e.mu.Lock()
	left := slices.Clone(e.unhealed)
	e.mu.Unlock()
	var errs []error
	for _, r := range left {
		errs = append(errs, r.Heal(ctx))
	}
	return errors.Join(errs...)
}

// calmAll brings everything to its good state that the faults of this run touch.
func (e *Executor) calmAll(ctx context.Context) error {
	var errs []error
	for r := range Resource(resources) {
		used := func(n Nemesis) bool { return slices.Contains(n.Takes, r) && touches(n, r) }
		if slices.ContainsFunc(e.Kinds, used) {
			errs = append(errs, calm(ctx, e.Cluster, e.admin, r))
		}
	}
	return errors.Join(errs...)
}

// bounded calls f and does not wait for it for ever. What does not return is waited for at the end of the run.
func (e *Executor) bounded(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	done := make(chan error, 1)
	e.late.Go(func() {
		defer cancel()
		done <- f(ctx)
	})
	t := time.NewTimer(d + stuckGrace)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return errStuck
	}
}

// allBack waits for every call that was left behind.
func (e *Executor) allBack(d time.Duration) bool {
	back := make(chan struct{})
	go func() { // ends with the last of them; who is told that one is stuck knows that this waits for it
		e.late.Wait()
		close(back)
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-back:
		return true
	case <-t.C:
		return false
	}
}

func (e *Executor) kind(name string) (Nemesis, error) {
	i := slices.IndexFunc(e.Kinds, func(n Nemesis) bool { return n.Name == name })
	if i < 0 {
		return Nemesis{}, fmt.Errorf("the schedule wants %s, which the executor was not given", name)
	}
	return e.Kinds[i], nil
}

func (e *Executor) injected(p Planned) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.result.Injected == nil {
		e.result.Injected = map[string]int{}
	}
	e.result.Injected[p.Kind]++
}

func (e *Executor) missed(p Planned, err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.result.Missed = append(e.result.Missed, fmt.Sprintf("%s at %.1fs: %v", p.Kind, p.At.Seconds(), err))
	return fmt.Errorf("injecting: %w", err)
}
