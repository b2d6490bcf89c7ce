package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// leaderTracker turns raft's notices into terms: it remembers whether this host leads and how often it began to.
type leaderTracker struct {
	notify chan bool // raft's NotifyCh; leadershipLoop always drains it

	mu      sync.Mutex // guards the fields below
	leading bool
	term    uint64 // counts the times that leadership was gained
	hung    bool
	changed chan struct{} // closed at each change

	established atomic.Uint64 // raft's term in which this host last committed an entry as leader
	applied     atomic.Uint64 // everything in the log up to here is applied, as a barrier showed; only grows
}

func newLeaderTracker() *leaderTracker {
	return &leaderTracker{notify: make(chan bool, 16), changed: make(chan struct{})}
}

func (l *leaderTracker) update(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *leaderTracker) wake() { l.update(func() {}) }

func (l *leaderTracker) setLeading(leading bool) {
	l.update(func() {
		if l.leading = leading; leading {
			l.term++
		}
	})
}

// setHung ends the term while the disk hangs, and begins another one when it works again and raft still leads.
func (l *leaderTracker) setHung(hung bool) {
	l.update(func() {
		l.hung = hung
		l.term++
	})
}

func (l *leaderTracker) isHung() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hung
}

// current is the term now led, 0 when there is none, and a channel for the next change.
func (l *leaderTracker) current() (uint64, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leading || l.hung {
		return 0, l.changed
	}
	return l.term, l.changed
}

func (l *leaderTracker) changes() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// establishedIn is the last term of raft in which this host led and had applied everything of the terms before.
func (l *leaderTracker) establishedIn() uint64 { return l.established.Load() }

// appliedTo is an index up to which everything is applied, entries that are no commands included.
func (l *leaderTracker) appliedTo() uint64 { return l.applied.Load() }

func (l *leaderTracker) noteApplied(index uint64) {
	for {
		old := l.applied.Load()
		if index <= old || l.applied.CompareAndSwap(old, index) {
			return
		}
	}
}

// OnLeadership registers a duty of the leader. It is started after a barrier in each term, with a context that ends with
// the term, and the next term does not begin before it has returned. When it returns early it is started again.
func (n *Node) OnLeadership(duty func(ctx context.Context) error) { n.duties = append(n.duties, duty) }

// leadershipLoop runs one term after the other until ctx ends.
func (n *Node) leadershipLoop(ctx context.Context) {
	var drain sync.WaitGroup
	defer drain.Wait()
	drain.Go(func() { n.drainNotices(ctx) })
	for {
		term, changed := n.leader.current()
		if term == 0 {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				continue
			}
		}
		n.leadTerm(ctx, term)
		if ctx.Err() != nil {
			return
		}
	}
}

// drainNotices never leaves raft waiting for a reader: raft's own loop blocks on the channel.
func (n *Node) drainNotices(ctx context.Context) {
	for {
		select {
		case leading := <-n.leader.notify:
			n.leader.setLeading(leading)
		case <-ctx.Done():
			n.leader.setLeading(false)
			return
		}
	}
}

// leadTerm works as leader until the term is over and everything that it started has ended.
func (n *Node) leadTerm(ctx context.Context, term uint64) {
	termCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer cancel()
		n.untilTermEnds(termCtx, term)
	})
	if !n.establish(termCtx) {
		cancel()
		return
	}
	n.log.Info("leading the cluster", "term", n.raft.CurrentTerm())
	for _, duty := range append([]func(context.Context) error{n.reconcileServers, n.watchVersion}, n.duties...) {
		wg.Go(func() { n.keepDoing(termCtx, duty) })
	}
	<-termCtx.Done()
	n.log.Info("leading the cluster no more")
}

func (n *Node) untilTermEnds(ctx context.Context, term uint64) {
	for {
		now, changed := n.leader.current()
		if now != term {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

const dutyRetry = 500 * time.Millisecond

// establish makes sure that everything committed before this term is applied here, and that the cluster is initialised.
func (n *Node) establish(ctx context.Context) bool {
	for ctx.Err() == nil {
		term := n.raft.CurrentTerm()
		err := n.barrierWithin(ctx, n.cfg.ApplyTimeout)
		if err == nil {
			err = n.initialise(ctx)
		}
		if err == nil {
			n.leader.established.Store(term)
			return true
		}
		if ctx.Err() == nil {
			n.log.Warn("not ready to lead yet", "error", err)
		}
		wait(ctx, dutyRetry)
	}
	return false
}

func (n *Node) barrierWithin(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return n.barrier(ctx)
}

// initialise writes the first entry of a new cluster.
func (n *Node) initialise(ctx context.Context) error {
	if n.View().Initialised() || !n.member.First {
		return nil
	}
	out, err := n.applyHere(ctx, &fsm.ClusterInit{
		ClusterID: n.member.ClusterID, ClusterName: n.member.ClusterName, Version: fsm.MaxVersion,
		Host: n.self(), Time: n.member.Created,
	})
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		return fmt.Errorf("initialising the cluster: %w", err)
	}
	return nil
}

// keepDoing starts a duty again whenever it returns within the term.
func (n *Node) keepDoing(ctx context.Context, duty func(context.Context) error) {
	for ctx.Err() == nil {
		if err := duty(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("a duty of the leader failed, starting it again", "error", err)
		}
		wait(ctx, dutyRetry)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// watchVersion gives leadership away when this program is too old for the log.
func (n *Node) watchVersion(ctx context.Context) error {
	for {
		changed := n.Changed()
		if old := n.View().TooOld; old != "" {
			n.log.Error("this host is too old to lead", "reason", old)
			_ = n.handOver(ctx, "") // tried again by keepDoing
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Term is the term of raft in which this host leads, or led last; it is known once the host has applied everything of the terms
// before. A duty of the leader takes it at its start: the next term does not begin before the duty has returned.
func (n *Node) Term() uint64 { return n.leader.establishedIn() }
