package blockdev

import (
	"context"
	"sync/atomic"
	"time"
)

// inflight bounds the calls that are with the kernel or the server, and counts those that were abandoned there.
type inflight struct {
	slots      chan struct{}
	pending    atomic.Int64
	maxPending int64
}

func newInflight(o Options) *inflight {
	return &inflight{slots: make(chan struct{}, o.MaxInFlight), maxPending: int64(o.MaxPending)}
}

// enter takes a slot, waiting for one as long as ctx allows.
func (f *inflight) enter(ctx context.Context) error {
	if f.pending.Load() >= f.maxPending {
		return ErrPending
	}
	select {
	case f.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case f.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return notSubmitted(ctx)
	}
}

// leave gives the slot back.
func (f *inflight) leave() { <-f.slots }

// The life of a call that a worker carries out. Exactly one of worker and caller wins each step, and with it the
// duty to clean up.
const (
	stateQueued    = iota // the worker has not looked at it
	stateSubmitted        // the worker is about to make, or in, the system call
	stateDone             // the worker has the result; the caller cleans up
	stateWithdrawn        // the caller left before submission; the worker cleans up and does nothing
	stateAbandoned        // the caller left after submission; the worker cleans up when it comes back
)

// submit is the last look before a system call: has the time run out, does the guard still agree?
func submit(ctx context.Context, op string) error {
	if deadline, _ := ctx.Deadline(); !time.Now().Before(deadline) {
		return notSubmitted(ctx)
	}
	if changes(op) {
		return SubmitCheck(ctx)
	}
	return nil
}
