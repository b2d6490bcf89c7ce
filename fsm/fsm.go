package fsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// FSM is the replicated state machine. Apply, ApplyBatch and Restore must not be called at the same time by two
// goroutines, which raft guarantees; everything else is safe for concurrent use.
type FSM struct {
	mu     sync.Mutex // guards the fields below against Apply meeting Snapshot
	tables *tables
	index  uint64
	tooOld string

	view atomic.Pointer[view]
}

// view is a State and the channel that is closed when a newer one is published.
type view struct {
	state   *State
	changed chan struct{}
}

// Entry is one command of the log.
type Entry struct {
	Index uint64
	Data  []byte
}

// New returns an empty state machine.
func New() *FSM {
	f := &FSM{tables: newTables()}
	f.publish()
	return f
}

// Apply applies one entry and returns its Outcome.
func (f *FSM) Apply(index uint64, cmd []byte) any {
	return f.ApplyBatch([]Entry{{Index: index, Data: cmd}})[0]
}

// ApplyBatch applies entries in order and publishes one new State for all of them.
func (f *FSM) ApplyBatch(entries []Entry) []Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Outcome, len(entries))
	for i, e := range entries {
		out[i] = f.applyOne(e)
	}
	f.publish()
	return out
}

// applyOne applies e; the caller holds mu. Once an unknown command was met the state does not change any more: it is
// better to answer from an old but consistent state than to miss a change silently.
func (f *FSM) applyOne(e Entry) Outcome {
	if f.tooOld != "" {
		return refuse(CodeTooOld, f.tooOld)
	}
	cmd, id, err := Decode(e.Data)
	if errors.Is(err, errUnknown) && e.Data[0]&skippableBit == 0 {
		f.tooOld = fmt.Sprintf("log entry %d holds a command of a newer release (%v); upgrade this host", e.Index, err)
		return refuse(CodeTooOld, f.tooOld)
	}
	f.index = e.Index
	if errors.Is(err, errUnknown) {
		return Outcome{Index: e.Index, Skipped: true}
	}
	if err != nil {
		return refuse(CodeBadCommand, err.Error())
	}
	if out, done := f.tables.recall(id); done {
		return out
	}
	out := cmd.apply(f.tables, e.Index)
	out.Index = e.Index
	f.tables.remember(id, e.Index, out)
	return out
}

// publish makes what was applied visible and wakes those who wait; the caller holds mu or is New.
func (f *FSM) publish() {
	next := &view{state: f.tables.publish(f.index, f.tooOld), changed: make(chan struct{})}
	if last := f.view.Swap(next); last != nil {
		close(last.changed)
	}
}

// View is the newest State. It costs one atomic load.
func (f *FSM) View() *State { return f.view.Load().state }

// Changed returns a channel that is closed when a State newer than the one View returned before the call, or later, is
// published. Take the channel first and look at View second to miss nothing.
func (f *FSM) Changed() <-chan struct{} { return f.view.Load().changed }

// WaitIndex waits until the State holds everything up to index and returns it.
func (f *FSM) WaitIndex(ctx context.Context, index uint64) (*State, error) {
	for {
		v := f.view.Load()
		switch {
		case v.state.Index >= index:
			return v.state, nil
		case v.state.TooOld != "":
			return v.state, &RefusedError{Code: CodeTooOld, Message: v.state.TooOld}
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return v.state, fmt.Errorf("waiting for index %d, have %d: %w", index, v.state.Index, ctx.Err())
		}
	}
}
