package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/fsm"
)

// registerOwn serves what nodes ask of each other.
func (n *Node) registerOwn() {
	n.Handle(methodApply, decode(n.serveApply))
	n.Handle(methodBarrier, decode(n.serveBarrier))
	n.Handle(methodCommitted, decode(n.serveCommitted))
	n.Handle(methodStatus, decode(n.serveStatus))
	n.Handle(methodTransfer, decode(n.serveTransfer))
	n.Handle(methodRemove, decode(n.serveRemove))
	n.server.HandleJoin("POST "+join.Path, &join.Member{CA: n.ca, Cluster: (*admitter)(n), Now: time.Now, Log: n.log})
}

func decode[In, Out any](h func(context.Context, In) (Out, error)) func(context.Context, string, []byte) (any, error) {
	return func(ctx context.Context, _ string, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, fmt.Errorf("request: %w: %w", fsm.ErrInvalid, err)
		}
		return h(ctx, in)
	}
}

func (n *Node) serveApply(ctx context.Context, in applyRequest) (fsm.Outcome, error) {
	if err := n.up(ctx); err != nil {
		return fsm.Outcome{}, err
	}
	return n.applyInitialised(ctx, in.Command)
}

func (n *Node) serveBarrier(ctx context.Context, _ struct{}) (uint64, error) {
	if !n.IsLeader() {
		return 0, ErrNotLeader
	}
	if err := n.barrier(ctx); err != nil {
		return 0, err
	}
	return n.View().Index, nil
}

// Status is how far a host's raft is.
type Status struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Leader  string `json:"leader"`
	Term    uint64 `json:"term"`
	Last    uint64 `json:"last"`    // index of the last entry in the log
	Commit  uint64 `json:"commit"`  // index up to which entries are known to be committed
	Applied uint64 `json:"applied"` // index up to which entries are applied
	Hung    bool   `json:"hung"`    // the log's disk does not answer
	TooOld  string `json:"too_old"`
}

// Status tells how far this host's raft is.
func (n *Node) Status() (Status, error) {
	if err := n.up(context.Background()); err != nil {
		return Status{}, err
	}
	leader, _ := n.Leader()
	return Status{
		Name: n.cfg.Name, State: n.raft.State().String(), Leader: leader, Term: n.raft.CurrentTerm(),
		Last: n.raft.LastIndex(), Commit: n.raft.CommitIndex(), Applied: n.raft.AppliedIndex(),
		Hung: n.leader.isHung(), TooOld: n.View().TooOld,
	}, nil
}

func (n *Node) serveStatus(ctx context.Context, _ struct{}) (Status, error) {
	if err := n.up(ctx); err != nil {
		return Status{}, err
	}
	return n.Status()
}

// TransferLeadership makes another host lead: the named one, or any when to is empty. It returns when it was told to
// start its election; to a host that leads already it is done at once.
func (n *Node) TransferLeadership(ctx context.Context, to string) error {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	if leader, ok := n.Leader(); ok && leader == to {
		return nil
	}
	if err := n.atLeader(ctx, methodTransfer, to, nil); err != nil {
		return fmt.Errorf("transferring leadership: %w", err)
	}
	return nil
}

func (n *Node) serveTransfer(ctx context.Context, to string) (struct{}, error) {
	if !n.IsLeader() {
		return struct{}{}, ErrNotLeader
	}
	if to == n.cfg.Name {
		return struct{}{}, nil
	}
	return struct{}{}, n.handOver(ctx, to)
}

// RemovePeer takes a server out of raft by hand. A host that is still a member is added again by the leader; remove the
// host to be rid of it.
func (n *Node) RemovePeer(ctx context.Context, name string) error {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	if err := n.atLeader(ctx, methodRemove, name, nil); err != nil {
		return fmt.Errorf("removing raft peer %s: %w", name, err)
	}
	return nil
}

func (n *Node) serveRemove(ctx context.Context, name string) (struct{}, error) {
	if !n.IsLeader() {
		return struct{}{}, ErrNotLeader
	}
	return struct{}{}, fromRaft(n.await(ctx, n.raft.RemoveServer(raft.ServerID(name), 0, n.cfg.ApplyTimeout).Error))
}

// admitter is the node as join.Member needs it.
type admitter Node

// Token finds a token. One that this host does not know may have been made a moment ago.
func (a *admitter) Token(ctx context.Context, id string) (fsm.Token, bool, error) {
	n := (*Node)(a)
	if t, ok := n.View().Tokens.Get(id); ok {
		return t, true, nil
	}
	if err := n.Barrier(ctx); err != nil {
		return fsm.Token{}, false, err
	}
	t, ok := n.View().Tokens.Get(id)
	return t, ok, nil
}

// Admit commits the new host.
func (a *admitter) Admit(ctx context.Context, c *fsm.HostJoin) (fsm.Outcome, error) {
	out, err := (*Node)(a).Apply(ctx, c)
	if err == nil {
		err = out.Err()
	}
	return out, err
}

// Welcome is what every new host gets.
func (a *admitter) Welcome() (join.Grant, error) {
	n := (*Node)(a)
	ring, err := readKeyring(n.dir)
	if err != nil {
		return join.Grant{}, err
	}
	g := join.Grant{ClusterID: n.member.ClusterID, ClusterName: n.member.ClusterName, GossipKey: ring.GetPrimaryKey()}
	for _, h := range n.View().Hosts.All() {
		g.Peers = append(g.Peers, join.Peer{Name: h.Name, Address: h.Address, Gossip: h.Gossip})
	}
	return g, nil
}
