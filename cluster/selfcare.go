package cluster

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"time"

	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/fsm"
)

// self is this host as its configuration describes it. The priority is that which it joins with; afterwards it is an operator's.
func (n *Node) self() fsm.Host {
	return fsm.Host{
		Name: n.cfg.Name, Address: n.cfg.ClusterAdvertise, Gossip: n.cfg.GossipAdvertise, HTTP: n.cfg.HTTPAddr,
		Priority: n.cfg.Priority, Protocol: fsm.ProtocolRange{Min: fsm.MinVersion, Max: fsm.MaxVersion},
	}
}

// selfLoop keeps the replicated record of this host equal to its configuration: addresses may change over a restart, and
// so may the program.
func (n *Node) selfLoop(ctx context.Context) {
	wait(ctx, time.Second) // a leader that finds this host by itself is the normal case
	for ctx.Err() == nil {
		changed := n.Changed()
		recorded, known := n.View().Hosts.Get(n.cfg.Name)
		_, led := n.Leader()
		// Without a record and without a leader, the others may not find this host at its new address: tell them all.
		if update := n.selfUpdate(recorded); update != nil && (known || !led) {
			if _, err := n.Apply(ctx, update); err != nil && ctx.Err() == nil {
				n.log.Warn("cannot record this host's addresses yet", "error", err)
			}
			wait(ctx, time.Second)
			continue
		}
		select {
		case <-changed:
		case <-time.After(selfCheck):
		case <-ctx.Done():
		}
	}
}

const selfCheck = 5 * time.Second

// selfUpdate is what must change in the record, nil for nothing.
func (n *Node) selfUpdate(recorded fsm.Host) *fsm.HostUpdate {
	want := n.self()
	u := &fsm.HostUpdate{Name: want.Name, Time: time.Now().UnixNano()}
	differs := false
	for _, f := range []struct {
		dst       **string
		have, now string
	}{{&u.Address, recorded.Address, want.Address}, {&u.Gossip, recorded.Gossip, want.Gossip}, {&u.HTTP, recorded.HTTP, want.HTTP}} {
		if f.have != f.now {
			*f.dst, differs = new(f.now), true
		}
	}
	if recorded.Protocol != want.Protocol {
		u.Protocol, differs = &want.Protocol, true
	}
	if !differs {
		return nil
	}
	return u
}

const certCheck = 6 * time.Hour

// certLoop renews this host's certificate when two thirds of its life are over. Every member can sign for itself.
func (n *Node) certLoop(ctx context.Context) {
	for ctx.Err() == nil {
		if err := n.renewCert(time.Now()); err != nil {
			n.log.Error("cannot renew this host's certificate", "error", err, "expires", n.certs.Leaf().NotAfter)
		}
		wait(ctx, certCheck)
	}
}

func (n *Node) renewCert(now time.Time) error {
	leaf := n.certs.Leaf()
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if now.Before(leaf.NotAfter.Add(-life / 3)) {
		return nil
	}
	pub, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return errors.New("the host's key is not ECDSA")
	}
	cert, err := n.ca.HostCert(pub, n.cfg.Name, []string{n.cfg.ClusterAdvertise, n.cfg.HTTPAddr}, now)
	if err != nil {
		return err
	}
	if err := n.dir.write(transport.HostCertFile, cert, 0o644); err != nil {
		return err
	}
	n.log.Info("renewed this host's certificate")
	return n.certs.Reload()
}
