package host

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/fsm"
)

// ErrNoStorage refuses what needs the host's storage while that is not up, here and on the host that asks.
var ErrNoStorage error = noStorage{}

type noStorage struct{}

// Error says it to people.
func (noStorage) Error() string { return "this host's storage is not up" }

// ErrorCode says it to other hosts.
func (noStorage) ErrorCode() string { return "no_storage" }

// methods are the RPC methods that other hosts, and the manager here, call.
var methods = []string{
	manager.MethodPing, manager.MethodInspect, manager.MethodFree, manager.MethodSight, manager.MethodYield,
	spm.MethodStart, spm.MethodStop, spm.MethodWatch, spm.MethodExtend, spm.MethodSnapshot, spm.MethodRetire,
}

// register answers RPC with whatever runtime there is at the time.
func (h *Host) register(node *cluster.Node) {
	node.Handle(MethodSeeLUN, h.cfg.seeLUN)
	for m, handler := range h.powerProxy(node).Handlers() { // a host without storage can be a proxy all the same
		node.Handle(m, transport.Handler(handler))
	}
	node.Handle(manager.MethodExplain, h.explain)
	node.Handle(manager.MethodEdge, h.answerEdge)
	node.Handle(manager.MethodReopen, h.answerReopen)
	for _, m := range methods {
		node.Handle(m, func(ctx context.Context, from string, body []byte) (any, error) {
			if rt := h.runtime(); rt != nil {
				return h.withUsage(rt.handlers[m](ctx, from, body))
			}
			if m == manager.MethodPing {
				return h.pingWithoutStorage(node, body)
			}
			return nil, ErrNoStorage
		})
	}
}

// explain answers what this host's manager says about the SPM role, while it leads.
func (h *Host) explain(context.Context, string, []byte) (any, error) {
	if m := h.Manager(); m != nil {
		if st, ok := m.Status(); ok {
			return st, nil
		}
	}
	return nil, manager.ErrNotLeading
}

// withUsage adds to the answer to a ping how much this host uses.
func (h *Host) withUsage(rep any, err error) (any, error) {
	if p, ok := rep.(manager.PingReply); ok {
		p.Busy = h.usage.count(h.mirrored())
		return p, err
	}
	return rep, err
}

// pingWithoutStorage tells the manager that the host lives but can do nothing.
func (h *Host) pingWithoutStorage(node *cluster.Node, body []byte) (manager.PingReply, error) {
	var req manager.PingRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return manager.PingReply{}, fmt.Errorf("decoding the request: %w: %w", fsm.ErrInvalid, err)
	}
	name := h.cfg.Cluster.Name
	rep := manager.PingReply{
		Host: name, HostID: node.HostID(), Started: h.started,
		Role: spm.Status{Host: name, HostID: node.HostID(), State: spm.StateNone, Reason: ErrNoStorage.Error()},
		Use:  h.heed(req),
	}
	rep.Domains, rep.DomainsSeq = h.monitors.reports(req.Domains)
	return rep, nil
}

// witness answers the manager from this runtime.
func (rt *runtime) witness() *manager.Witness {
	return &manager.Witness{
		Host: rt.self.Name, HostID: rt.self.HostID, Role: rt.role.Status, Self: rt, Present: rt.presentID, Spaces: lockspaces{rt},
		Lease: presentLease{rt}, Proofs: proofs{rt}, Asker: rt, Started: rt.cfg.started, Watchdog: rt.watchdog,
		Domains: rt.reports,
	}
}

// proofs are those of this host's mirror.
type proofs struct{ rt *runtime }

// ProofOf finds one about exactly this generation of a host id in a lockspace.
func (p proofs) ProofOf(hostID int, lockspace string, generation uint64) (fsm.Proof, bool) {
	return p.rt.node.View().ProofOf(hostID, lockspace, generation)
}
