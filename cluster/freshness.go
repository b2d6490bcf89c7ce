package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/fsm"
)

// A heartbeat says that a leader lives, not that this host has what was committed: after a stop, a start or a partition it
// comes before the entries do. So the age of the mirror counts from a question to the leader: what was committed when
// the question was put is applied here once the index of the answer is.
const (
	freshEvery   = 500 * time.Millisecond // between two questions
	freshAtFirst = 20 * time.Millisecond  // the same until the first answer, when readers may be waiting
	freshTimeout = 2 * time.Second        // a leader that is stopped does not answer; the next one is asked as soon as it is known
)

// committed is a leader's answer: what is committed, and who had the SPM role by then. A host that can take no entries, because its
// disk is full, still learns from it where to send requests.
type committed struct {
	Index uint64  `json:"index"`
	SPM   fsm.SPM `json:"spm"`
}

// freshness is what a host knows about the age of its mirror.
type freshness struct {
	mu    sync.Mutex // guards the fields below
	known bool
	asOf  time.Duration // on the boot clock: everything that was committed then is applied
	told  committed     // the newest answer
}

// hear takes in a leader's answer.
func (f *freshness) hear(c committed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.Index >= f.told.Index {
		f.told = c
	}
}

// heard is the newest answer of a leader.
func (f *freshness) heard() committed {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told
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

// SPM is the last that this host knows about the SPM role, from its mirror or, when that is behind, from the leader. Like everything
// here it is a hint: the lease on the master domain is the truth.
func (n *Node) SPM() fsm.SPM {
	st, told := n.View(), n.fresh.heard()
	if pool, _ := st.Pool(); st.Index >= told.Index {
		return pool.SPM
	}
	return told.SPM
}

// refresh asks the leader, and waits until this host has what was committed then. While that takes long it asks again, for what is news
// by then. It does not look for a leader: whoever knows of none has no entries from it either.
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
	first, err := n.askCommitted(ctx, leader)
	for err == nil {
		if n.reaches(ctx, first.Index) {
			n.fresh.note(asked)
			return nil
		}
		_, err = n.askCommitted(ctx, leader)
	}
	return err
}

func (n *Node) askCommitted(ctx context.Context, leader string) (c committed, err error) {
	if err := n.Call(ctx, leader, methodCommitted, struct{}{}, &c); err != nil {
		return c, err
	}
	n.fresh.hear(c)
	return c, nil
}

// reaches waits a while for this host to have applied an index.
func (n *Node) reaches(ctx context.Context, index uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, freshEvery)
	defer cancel()
	_, err := n.WaitIndex(ctx, index)
	return err == nil
}

// serveCommitted answers with an index: whoever has applied that has applied everything that was committed before the call. This host
// must have led all the while, which a majority confirms, and must have committed an entry of its own term, before which it may not
// know of the last ones of the term before. It writes nothing unless raft's servers changed a moment ago.
func (n *Node) serveCommitted(ctx context.Context, _ struct{}) (committed, error) {
	if err := n.up(ctx); err != nil {
		return committed{}, err
	}
	term := n.raft.CurrentTerm()
	if !n.IsLeader() || n.leader.establishedIn() != term {
		return committed{}, ErrNotLeader
	}
	index := n.raft.CommitIndex()
	if err := n.await(ctx, n.raft.VerifyLeader().Error); err != nil {
		return committed{}, fromRaft(err)
	}
	if n.raft.CurrentTerm() != term {
		return committed{}, ErrNotLeader
	}
	if n.View().Index < index && n.leader.appliedTo() < index {
		if err := n.barrier(ctx); err != nil {
			return committed{}, err
		}
	}
	st := n.View()
	pool, _ := st.Pool()
	return committed{Index: st.Index, SPM: pool.SPM}, nil
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
