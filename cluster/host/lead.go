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

func (h *Host) managerConfig(node *cluster.Node, pool fsm.Pool) manager.Config {
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
	cfg := manager.Config{Host: h.cfg.Cluster.Name, Cluster: node, Policy: policy, Gossip: gossip{node}, Log: h.cfg.Log,
		Limits: spaceLimits}
	if h.cfg.Fencing != nil {
		cfg.Agent = h.cfg.Fencing
		cfg.Fenceable = func(string) bool { return true }
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
