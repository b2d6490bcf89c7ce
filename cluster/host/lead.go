package host

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
)

// lead is the manager's work for one term of leadership.
func (h *Host) lead(ctx context.Context, node *cluster.Node) error {
	pool, err := awaitAnyPool(ctx, node)
	if err != nil {
		return nil // the term ended first
	}
	mgr, err := manager.New(h.managerConfig(node, pool))
	if err != nil {
		return fmt.Errorf("starting the manager: %w", err)
	}
	h.set(func() { h.mgr = mgr })
	defer h.set(func() { h.mgr = nil })
	return mgr.Lead(ctx)
}

// policy is the manager's, as the profile and this host's configuration file have it.
func (h *Host) policy(pool fsm.Pool) manager.Policy {
	policy := manager.DefaultPolicy(pool.Profile)
	if h.cfg.Grace > 0 {
		policy.Grace = h.cfg.Grace
	}
	if h.cfg.DomainFailure > 0 {
		policy.Domains.Failure = h.cfg.DomainFailure
	}
	if h.cfg.UnprotectedTakeover != "" {
		policy.UnprotectedTakeover = h.cfg.UnprotectedTakeover == "allow"
	}
	return policy
}

// termOf is the term in which this host leads; 0 when it does not, or not any more.
func termOf(node *cluster.Node) uint64 {
	if !node.IsLeader() {
		return 0
	}
	return node.Term()
}

// voters are the names of Raft's voters; none when that is not known.
func voters(node *cluster.Node) []string {
	peers, err := node.RaftPeers()
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range peers {
		if p.Voter {
			names = append(names, p.Name)
		}
	}
	return names
}

func (h *Host) managerConfig(node *cluster.Node, pool fsm.Pool) manager.Config {
	policy := h.policy(pool)
	cfg := manager.Config{Host: h.cfg.Cluster.Name, Cluster: node, Policy: policy, Gossip: gossip{node}, Log: h.cfg.Log,
		Limits: spaceLimits}
	cfg.Power, cfg.Term = h.powers(node), func() uint64 { return termOf(node) }
	cfg.Voters, cfg.HandOver = func() []string { return voters(node) }, node.TransferLeadership
	if len(h.cfg.Soft.Argv) > 0 {
		cfg.Soft = softRestart(h.cfg.Soft)
	}
	if h.cfg.Kdump != nil {
		cfg.Kdump = crashes{h.cfg.Kdump}
	}
	return cfg
}

// spaceLimits are those of a domain, as its settings say.
func spaceLimits(view *fsm.State, d fsm.Domain) manager.SpaceLimits {
	s := DomainSettings(view, d.ID)
	return manager.SpaceLimits{Warn: s.WarnBelow(d.Size), Critical: s.CriticalBelow(d.Size)}
}

// awaitAnyPool waits for the pool; before that there is nothing to manage.
func awaitAnyPool(ctx context.Context, node *cluster.Node) (fsm.Pool, error) {
	for {
		ch := node.Changed()
		if pool, ok := node.View().Pool(); ok {
			return pool, nil
		}
		select {
		case <-ctx.Done():
			return fsm.Pool{}, ctx.Err()
		case <-ch:
		}
	}
}

// gossip is what the members tell each other, for the manager.
type gossip struct{ node *cluster.Node }

// Says is what gossip says of a host. A host that it never heard of is not known, rather than gone.
func (g gossip) Says(host string) string {
	if host == g.node.Name() {
		return manager.WitnessAlive
	}
	for _, m := range g.node.Members() {
		switch {
		case m.Name != host:
		case m.Alive:
			return manager.WitnessAlive
		default:
			return manager.WitnessFailed
		}
	}
	return manager.WitnessUnknown
}
