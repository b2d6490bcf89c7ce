package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A heartbeat says that a leader lives, not that this host has what was committed: after a stop, a start or a partition it
// comes before the entries do. So the age of the mirror counts from a question to the leader: what was committed when
// the question was put is applied here once the index of the answer is.
const (
	freshEvery   = 500 * time.Millisecond // between two questions
	freshAtFirst = 20 * time.Millisecond  // the same until the first answer, when readers may be waiting
	freshTimeout = 2 * time.Second        // a leader that is stopped does not answer; the next one is asked as soon as it is known
)

// freshness is what a host knows about the age of its mirror.
type freshness struct {
	mu    sync.Mutex // guards the fields below
	known bool
	asOf  time.Duration // on the boot clock: everything that was committed then is applied
}

// note takes in that everything that was committed at a time is applied.
func (f *freshness) note(asOf time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.known || asOf > f.asOf {
		f.known, f.asOf = true, asOf
	}
}

func (f *freshness) get() (asOf time.Duration, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asOf, f.known
}

// Age is how old the mirror may be: View, taken after it, shows everything that was committed before then. A host that no leader has
// told anything since its start knows only that nothing is older than the cluster, and a new member that has nothing yet not even that;
// caughtUp is false then.
func (n *Node) Age() (age time.Duration, caughtUp bool) {
	asOf, known := n.fresh.get()
	if !known {
		return max(time.Since(time.Unix(0, n.View().Created)), 0), false
	}
	return max(n.cfg.Clock.Boot()-asOf, 0), true
}

// Opened is when this node was opened.
func (n *Node) Opened() time.Time { return n.opened }

// freshLoop keeps the age of the mirror small while there is a leader.
func (n *Node) freshLoop(ctx context.Context) {
	for ctx.Err() == nil {
		if err := n.refresh(ctx); err != nil && ctx.Err() == nil {
			n.log.Debug("the age of the mirror grows", "error", err)
		}
		pause := freshEvery
		if _, known := n.fresh.get(); !known {
			pause = freshAtFirst
		}
		wait(ctx, pause)
	}
}

// refresh asks the leader once. It does not look for one: whoever knows of none has no entries from it either.
func (n *Node) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	leader, ok := n.Leader()
	if !ok {
		return ErrNoLeader
	}
	ctx, stop := n.whileLeads(ctx, leader)
	defer stop()
	asked := n.cfg.Clock.Boot()
	var index uint64
	if err := n.Call(ctx, leader, methodCommitted, struct{}{}, &index); err != nil {
		return err
	}
	if _, err := n.WaitIndex(ctx, index); err != nil {
		return err
	}
	n.fresh.note(asked)
	return nil
}

// serveCommitted answers with an index: whoever has applied that has applied everything that was committed before the call. This host
// must have led all the while, which a majority confirms, and must have committed an entry of its own term, before which it may not
// know of the last ones of the term before. It writes nothing unless raft's servers changed a moment ago.
func (n *Node) serveCommitted(ctx context.Context, _ struct{}) (uint64, error) {
	if err := n.up(ctx); err != nil {
		return 0, err
	}
	term := n.raft.CurrentTerm()
	if !n.IsLeader() || n.leader.establishedIn() != term {
		return 0, ErrNotLeader
	}
	committed := n.raft.CommitIndex()
	if err := n.await(ctx, n.raft.VerifyLeader().Error); err != nil {
		return 0, fromRaft(err)
	}
	if n.raft.CurrentTerm() != term {
		return 0, ErrNotLeader
	}
	if n.View().Index < committed && n.leader.appliedTo() < committed {
		if err := n.barrier(ctx); err != nil {
			return 0, err
		}
	}
	return n.View().Index, nil
}

// barrier returns when this host, which must lead, has applied everything that was committed before the call.
func (n *Node) barrier(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	future := n.raft.Barrier(max(time.Until(deadline), time.Millisecond))
	if err := n.await(ctx, future.Error); err != nil {
		return fromRaft(err)
	}
	if f, ok := future.(raft.IndexFuture); ok {
		n.leader.noteApplied(f.Index())
	}
	return nil
}
