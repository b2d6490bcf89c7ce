package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/fsm"
)

// A step brings raft's servers closer to the hosts.
type stepKind int

const (
	stepNone    stepKind = iota
	stepAdd              // as a follower without a vote, also when only its address is new
	stepPromote          // give it a vote
	stepAddress          // a voter moved
	stepRemove           // it is no member any more
)

type step struct {
	kind    stepKind
	name    string
	address string
}

// nextStep compares raft's servers with the hosts. It changes one server at a time, removals last, because a vote is
// only given to a host that has caught up, and each step changes what is next. self is never removed here.
func nextStep(hosts []fsm.Host, servers []raft.Server, self string, maxVoters int, caughtUp func(name string) bool) step {
	if len(hosts) == 0 {
		return step{} // not initialised: nothing is known
	}
	known := map[string]raft.Server{}
	voters := 0
	for _, s := range servers {
		known[string(s.ID)] = s
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	member := map[string]bool{}
	for _, h := range hosts {
		member[h.Name] = true
		if s := stepFor(h, known, voters < maxVoters, caughtUp); s.kind != stepNone {
			return s
		}
	}
	for _, s := range servers {
		if !member[string(s.ID)] && string(s.ID) != self {
			return step{kind: stepRemove, name: string(s.ID)}
		}
	}
	return step{}
}

func stepFor(h fsm.Host, known map[string]raft.Server, room bool, caughtUp func(string) bool) step {
	s, ok := known[h.Name]
	voter := s.Suffrage == raft.Voter
	switch {
	case h.Address == "":
		return step{}
	case !ok, !voter && string(s.Address) != h.Address:
		return step{stepAdd, h.Name, h.Address}
	case voter && string(s.Address) != h.Address:
		return step{stepAddress, h.Name, h.Address}
	case !voter && room && caughtUp(h.Name):
		return step{stepPromote, h.Name, h.Address}
	}
	return step{}
}

// reconcileServers is a duty of the leader. It does not depend on gossip at all.
func (n *Node) reconcileServers(ctx context.Context) error {
	tick := time.NewTicker(n.cfg.ReconcileInterval)
	defer tick.Stop()
	for {
		changed := n.Changed()
		again, err := n.reconcileOnce(ctx)
		if err != nil {
			return err
		}
		if again {
			wait(ctx, 20*time.Millisecond)
			continue
		}
		if !n.idle(ctx, tick.C, changed) {
			return nil
		}
	}
}

// idle waits for the timer, or for a change of the hosts; false when ctx ended. Other changes of the state, of which
// there may be a thousand a second, wait for the timer.
func (n *Node) idle(ctx context.Context, tick <-chan time.Time, changed <-chan struct{}) bool {
	before := n.View().Hosts
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			return true
		case <-changed:
			changed = n.Changed()
			if n.View().Hosts != before {
				return true
			}
		}
	}
}

func (n *Node) reconcileOnce(ctx context.Context) (again bool, err error) {
	st := n.View()
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return false, fmt.Errorf("reading raft's configuration: %w", err)
	}
	if st.Initialised() && !st.Hosts.Has(n.cfg.Name) {
		return false, n.giveWay(ctx)
	}
	s := nextStep(st.Hosts.Values(), future.Configuration().Servers, n.cfg.Name, n.cfg.MaxVoters,
		func(name string) bool { return n.caughtUp(ctx, name) })
	if s.kind == stepNone {
		return false, nil
	}
	if err := n.take(ctx, s); err != nil {
		return false, fmt.Errorf("raft server %s: %w", s.name, err)
	}
	return true, nil
}

func (n *Node) take(ctx context.Context, s step) error {
	id, address, limit := raft.ServerID(s.name), raft.ServerAddress(s.address), n.cfg.ApplyTimeout
	var future raft.IndexFuture
	switch s.kind {
	case stepAdd:
		n.log.Info("adding a raft server", "server", s.name, "address", s.address)
		future = n.raft.AddNonvoter(id, address, 0, limit)
	case stepPromote, stepAddress:
		n.log.Info("giving a raft server its vote", "server", s.name, "address", s.address)
		future = n.raft.AddVoter(id, address, 0, limit)
	case stepRemove:
		n.log.Info("removing a raft server", "server", s.name)
		if err := n.await(ctx, n.raft.RemoveServer(id, 0, limit).Error); err != nil {
			return err
		}
		n.gossip.forget(s.name, n.log)
		return nil
	default:
		return nil
	}
	return n.await(ctx, future.Error)
}

// giveWay is for a leader that is no member any more: the next leader removes it.
func (n *Node) giveWay(ctx context.Context) error {
	if err := n.handOver(ctx, ""); err != nil {
		return fmt.Errorf("this host was removed and cannot hand over: %w", err)
	}
	return nil
}

const (
	catchUpSlack   = 128 // entries a host may be behind and still get its vote
	catchUpTimeout = 500 * time.Millisecond
)

// caughtUp asks a host how far it is. A host that gets a vote before it runs would take the quorum away from two.
func (n *Node) caughtUp(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	commit := n.raft.CommitIndex()
	var st Status
	if err := n.Call(ctx, name, methodStatus, struct{}{}, &st); err != nil {
		if !errors.Is(err, ErrUnreachable) {
			n.log.Debug("a host without a vote does not answer", "name", name, "error", err)
		}
		return false
	}
	return st.TooOld == "" && !st.Hung && st.Applied+catchUpSlack >= commit && st.Last > 0
}
