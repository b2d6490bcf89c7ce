package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/fsm"
)

// Methods of the node itself.
const (
	methodApply     = "cluster.apply"
	methodBarrier   = "cluster.barrier"
	methodCommitted = "cluster.committed"
	methodStatus    = "cluster.status"
	methodTransfer  = "cluster.transfer"
	methodRemove    = "cluster.remove-peer"
)

// Apply commits a command through the leader, wherever that is, and returns what applying it gave. A refusal is no
// error: it is in the Outcome. An error that wraps ErrOutcomeUnknown means that the command may have been, or may still
// be, committed; any other error means that it surely was not.
//
// There is at most one retry. The command carries an id, so it is applied once however often it is sent.
func (n *Node) Apply(ctx context.Context, cmd fsm.Command) (fsm.Outcome, error) {
	return n.ApplyID(ctx, cmd, uuid.NewString())
}

// ApplyID is Apply with a request id of the caller's: applying the same id again gives the first outcome.
func (n *Node) ApplyID(ctx context.Context, cmd fsm.Command, id string) (fsm.Outcome, error) {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	if err := n.up(ctx); err != nil {
		return fsm.Outcome{}, err
	}
	if st := n.View(); st.Initialised() && cmd.MinVersion() > st.Version {
		return fsm.Outcome{}, fmt.Errorf("cluster version %d, the command needs %d: %w", st.Version, cmd.MinVersion(), ErrVersion)
	}
	data, err := fsm.Encode(cmd, id)
	if err != nil {
		return fsm.Outcome{}, err
	}
	return n.propose(ctx, data)
}

// bounded gives a context a deadline when it has none.
func (n *Node) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, n.cfg.ApplyTimeout)
}

const attempts = 2

func (n *Node) propose(ctx context.Context, data []byte) (fsm.Outcome, error) {
	var undecided, last error
	failed := ""
	for range attempts {
		leader, err := n.waitLeader(ctx, failed)
		if err != nil {
			last = errors.Join(last, err)
			break
		}
		out, err := n.proposeAt(ctx, leader, data)
		if err == nil {
			return out, nil
		}
		if last = err; !surelyNot(err) {
			undecided = err
		}
		failed = leader
	}
	if undecided != nil {
		return fsm.Outcome{}, fmt.Errorf("applying %s: %w: %w", fsm.CommandName(data), ErrOutcomeUnknown, undecided)
	}
	return fsm.Outcome{}, fmt.Errorf("applying %s: %w", fsm.CommandName(data), last)
}

type applyRequest struct {
	Command []byte `json:"command"`
}

func (n *Node) proposeAt(ctx context.Context, leader string, data []byte) (fsm.Outcome, error) {
	if leader == n.cfg.Name {
		return n.applyInitialised(ctx, data)
	}
	ctx, stop := n.whileLeads(ctx, leader)
	defer stop()
	var out fsm.Outcome
	err := n.client.Call(ctx, leader, methodApply, applyRequest{data}, &out)
	return out, err
}

// whileLeads is a context that ends when this host hears of another leader: the old one may never answer, and the
// request id makes it safe to ask the new one.
func (n *Node) whileLeads(ctx context.Context, leader string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			changed := n.leader.changes()
			if now, ok := n.Leader(); ok && now != leader {
				cancel()
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, func() { cancel(); wg.Wait() }
}

// applyHere commits a command on this host, which must lead.
func (n *Node) applyHere(ctx context.Context, cmd fsm.Command) (fsm.Outcome, error) {
	data, err := fsm.Encode(cmd, uuid.NewString())
	if err != nil {
		return fsm.Outcome{}, err
	}
	return n.applyRaw(ctx, data)
}

// applyInitialised is applyRaw for all commands but the first one: a leader that has not written or read that one yet
// would have them refused.
func (n *Node) applyInitialised(ctx context.Context, data []byte) (fsm.Outcome, error) {
	for {
		changed, led := n.Changed(), n.leader.changes()
		switch {
		case !n.IsLeader():
			return fsm.Outcome{}, ErrNotLeader
		case n.View().Initialised():
			return n.applyRaw(ctx, data)
		}
		select {
		case <-changed:
		case <-led:
		case <-ctx.Done():
			return fsm.Outcome{}, fmt.Errorf("the leader has not begun its term: %w: %w", ErrNotLeader, ctx.Err())
		}
	}
}

func (n *Node) applyRaw(ctx context.Context, data []byte) (fsm.Outcome, error) {
	if !n.IsLeader() {
		return fsm.Outcome{}, ErrNotLeader
	}
	deadline, _ := ctx.Deadline()
	future := n.raft.Apply(data, max(time.Until(deadline), time.Millisecond))
	ended := n.leader.changes()
	done := make(chan error, 1)
	n.calls.Go(func() { done <- future.Error() })
	for {
		select {
		case err := <-done:
			if err != nil {
				return fsm.Outcome{}, fromRaft(err)
			}
			return decided(future.Response())
		case <-ended: // a hung disk answers no future
			if n.leader.isHung() {
				return fsm.Outcome{}, errors.Join(ErrOutcomeUnknown, ErrHung)
			}
			ended = n.leader.changes()
		case <-ctx.Done():
			return fsm.Outcome{}, errors.Join(ErrOutcomeUnknown, ctx.Err())
		}
	}
}

// decided is the outcome of a committed command. When this program is too old to apply it, others may not be.
func decided(response any) (fsm.Outcome, error) {
	out, ok := response.(fsm.Outcome)
	if !ok {
		return out, fmt.Errorf("the state machine answered %T: %w", response, ErrOutcomeUnknown)
	}
	if out.Code == fsm.CodeTooOld {
		return out, fmt.Errorf("%w: %w", ErrOutcomeUnknown, out.Err())
	}
	return out, nil
}

// Barrier returns when this host has applied everything that was committed before the call.
func (n *Node) Barrier(ctx context.Context) error {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	asked := n.cfg.Clock.Boot()
	var index uint64
	if err := n.atLeader(ctx, methodBarrier, struct{}{}, &index); err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	if _, err := n.WaitIndex(ctx, index); err != nil {
		return err
	}
	n.fresh.note(asked)
	return nil
}

// atLeader calls a method on the leader, at most twice. Only methods that may be carried out twice are called so.
func (n *Node) atLeader(ctx context.Context, method string, in, out any) error {
	if err := n.up(ctx); err != nil {
		return err
	}
	failed := ""
	var last error
	for range attempts {
		leader, err := n.waitLeader(ctx, failed)
		if err != nil {
			return errors.Join(last, err)
		}
		if last = n.Call(ctx, leader, method, in, out); last == nil {
			return nil
		}
		failed = leader
	}
	return last
}

// Call calls a method of a host, this one included. See transport.Client.Call for the errors.
func (n *Node) Call(ctx context.Context, host, method string, in, out any) error {
	if host != n.cfg.Name {
		return n.client.Call(ctx, host, method, in, out)
	}
	h, ok := n.handlers[method]
	if !ok {
		return fmt.Errorf("%s: no such method", method)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding call %s: %w", method, err)
	}
	result, err := h(ctx, n.cfg.Name, body)
	if err != nil || out == nil {
		return err
	}
	if body, err = json.Marshal(result); err == nil {
		err = json.Unmarshal(body, out)
	}
	if err != nil {
		return fmt.Errorf("answer of %s: %w", method, err)
	}
	return nil
}
