package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

var (
	// ErrNoPool says that there is nothing to be SPM of.
	ErrNoPool = errors.New("the cluster has no pool yet: create its first domain")
	// ErrHostNotUp says that a host cannot be given the role.
	ErrHostNotUp = errors.New("the host cannot take the SPM role now")
	// ErrNotReached says that the wish was committed and was not fulfilled in the time given.
	ErrNotReached = errors.New("the SPM role did not get there in time; see spm status for what is awaited")
	// ErrSuperseded says that another wish about the role came before this one was fulfilled.
	ErrSuperseded = errors.New("another wish about the SPM role came in between; see spm status and ask again if need be")
)

// Operator carries out an operator's wishes about the role: it commits them and waits until the mirror shows them
// fulfilled. It works on any host; the leader does the work.
type Operator struct {
	Cluster Cluster
	Now     func() time.Time
	// By and Reason are for the pool's history; without By it does not hear of the wish.
	By, Reason string
	// Status is what the manager says, on the leader; nil elsewhere.
	Status func() (Status, bool)
}

// Move moves the role to a host, or to the best other one when to is empty. A wish that is not fulfilled before ctx
// ends, or that waits for something without a countdown for patienceFor, is taken back.
func (o Operator) Move(ctx context.Context, to string) (fsm.SPM, error) {
	view := o.Cluster.View()
	pool, ok := view.Pool()
	if !ok {
		return fsm.SPM{}, ErrNoPool
	}
	if to == "" {
		to = o.heir(view, pool.SPM.Host)
	}
	h, ok := view.Hosts.Get(to)
	if !ok || !mayLead(h) {
		return pool.SPM, fmt.Errorf("host %q is %s: %w", to, stateWord(h, ok), ErrHostNotUp)
	}
	if pool.SPM.Host == to && pool.SPM.State == fsm.SPMServing && (pool.SPM.Desired == fsm.DesireAny || pool.SPM.Desired == fsm.DesireHost+to) {
		return pool.SPM, nil
	}
	index, err := o.desire(ctx, pool.ID, fsm.DesireHost+to)
	if err != nil {
		return pool.SPM, err
	}
	wish := fsm.DesireHost + to
	ctx, cancel := o.patience(ctx, wish)
	defer cancel()
	s, err := o.wait(ctx, wish, index, func(s fsm.SPM) bool { return s.Host == to && s.State == fsm.SPMServing })
	if err != nil {
		o.takeBack(pool.ID, fsm.DesireHost+to)
	}
	return s, err
}

// mayLead says whether a host can be wished for. One that has not answered for a moment is waited for, as long as the caller waits: it may
// only be busy, and nothing is known against it before its grace is over.
func mayLead(h fsm.Host) bool {
	return h.Priority >= 0 && (h.State == fsm.HostUp || h.State == fsm.HostConnecting)
}

// Stop takes the role from everybody until Start.
func (o Operator) Stop(ctx context.Context) (fsm.SPM, error) {
	pool, ok := o.Cluster.View().Pool()
	if !ok {
		return fsm.SPM{}, ErrNoPool
	}
	index, err := o.desire(ctx, pool.ID, fsm.DesireStopped)
	if err != nil {
		return pool.SPM, err
	}
	return o.wait(ctx, fsm.DesireStopped, index, func(s fsm.SPM) bool { return s.State == fsm.SPMNone })
}

// Start takes a Stop back; to may name the host that should have the role.
func (o Operator) Start(ctx context.Context, to string) (fsm.SPM, error) {
	if to != "" {
		return o.Move(ctx, to)
	}
	pool, ok := o.Cluster.View().Pool()
	if !ok {
		return fsm.SPM{}, ErrNoPool
	}
	index, err := o.desire(ctx, pool.ID, fsm.DesireAny)
	if err != nil {
		return pool.SPM, err
	}
	return o.wait(ctx, fsm.DesireAny, index, func(s fsm.SPM) bool { return s.State == fsm.SPMServing })
}

// desire commits a wish and returns its place in the log.
func (o Operator) desire(ctx context.Context, pool, wish string) (uint64, error) {
	out, err := o.Cluster.Apply(ctx, &fsm.SPMDesire{Pool: pool, Desired: wish, Time: o.Now().UnixNano()})
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("committing the wish %q: %w", wish, err)
	}
	o.tell(ctx, wish)
	return out.Index, nil
}

// tell records who wished what and why. The wish is committed: that it is not in the history does not undo it.
func (o Operator) tell(ctx context.Context, wish string) {
	if o.By == "" {
		return
	}
	what := map[string]string{fsm.DesireAny: "wants a host to be SPM", fsm.DesireStopped: "wants nobody to be SPM"}[wish]
	if what == "" {
		what = "wants " + strings.TrimPrefix(wish, fsm.DesireHost) + " to be SPM"
	}
	message := o.By + " " + what
	if o.Reason != "" {
		message += ": " + o.Reason
	}
	_, _ = o.Cluster.Apply(ctx, &fsm.EventAdd{Events: []fsm.Event{{Time: o.Now().UnixNano(), Kind: "spm.wish", Severity: fsm.Info, Subject: "spm",
		Message: message, Reason: o.Reason}}})
}

// takeBack withdraws a wish that nobody waits for any more, unless it was replaced by another one.
func (o Operator) takeBack(pool, wish string) {
	if p, ok := o.Cluster.View().Pool(); !ok || p.SPM.Desired != wish {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = o.Cluster.Apply(ctx, &fsm.SPMDesire{Pool: pool, Desired: fsm.DesireAny, Expect: wish, Time: o.Now().UnixNano()}) // the leader goes on with the wish otherwise, which is harmless
}

// wait waits until the mirror shows what was wished at index, or another wish.
func (o Operator) wait(ctx context.Context, wish string, index uint64, done func(fsm.SPM) bool) (fsm.SPM, error) {
	for {
		changed := o.Cluster.Changed()
		view := o.Cluster.View()
		pool, _ := view.Pool()
		switch applied := view.Index >= index; {
		case applied && done(pool.SPM):
			return pool.SPM, nil
		case applied && pool.SPM.Desired != wish && pool.SPM.Desired != fsm.DesireAny: // any: fulfilled, the mirror follows
			return pool.SPM, ErrSuperseded
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return pool.SPM, fmt.Errorf("%w%s (%w)", ErrNotReached, o.awaits(), context.Cause(ctx))
		}
	}
}

// patienceFor is how long a move may stand still, waiting for something that nobody knows the end of.
const patienceFor = 5 * time.Second

// errStandsStill ends the wait for a move that nothing but a repair would finish.
var errStandsStill = errors.New("nothing says how long that takes; the wish is taken back, so ask again when it is so, or name another host")

// patience ends the context when the manager has for a while waited for something about the wish that has no countdown: a host that cannot
// reach a domain may be repaired in a minute or never, and whoever asked should hear of it now.
func (o Operator) patience(ctx context.Context, wish string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if o.Status == nil {
		return ctx, func() { cancel(nil) }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(patienceFor / 10)
		defer tick.Stop()
		for since := o.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if st, ok := o.Status(); !ok || st.Desired != wish || st.Awaits == "" || st.In > 0 || st.Action != ActNone {
				since = o.Now()
			}
			if o.Now().Sub(since) >= patienceFor {
				cancel(errStandsStill)
				return
			}
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// heir is the host to move to when the operator names none: the one that the manager would take next.
func (o Operator) heir(view *fsm.State, not string) string {
	if o.Status != nil {
		if st, ok := o.Status(); ok && st.Host == not && len(st.Next) > 0 && st.Next[0].Able {
			return st.Next[0].Host
		}
	}
	return best(view, not)
}

// awaits is what the manager waits for, to be told to whoever waited in vain.
func (o Operator) awaits() string {
	if o.Status == nil {
		return ""
	}
	if st, ok := o.Status(); ok && st.Awaits != "" {
		return ": it awaits " + st.Awaits
	}
	return ""
}

// best is the same by the mirror alone.
func best(view *fsm.State, not string) string {
	name, priority := "", -1
	for _, h := range view.Hosts.All() {
		if h.Name != not && h.State == fsm.HostUp && h.Priority > priority {
			name, priority = h.Name, h.Priority
		}
	}
	return name
}

// stateWord says what a host is.
func stateWord(h fsm.Host, known bool) string {
	switch {
	case !known:
		return "not a member"
	case h.Priority < 0:
		return "never SPM by its priority"
	}
	return h.State
}
