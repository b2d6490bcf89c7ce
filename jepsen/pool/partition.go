package pool

import (
	"errors"
	"fmt"
)

// Traffic is what a Block stops.
type Traffic string

// The kinds of traffic.
const (
	All    Traffic = "all"
	Gossip Traffic = "gossip" // UDP and TCP
	Raft   Traffic = "raft"   // the cluster's port: Raft, calls between hosts and forwarded requests
)

// rule is one routing rule of one host, which loses what it matches.
type rule struct {
	ns, to       string
	proto, field string // empty: everything
	port         int
}

// args is the rule as ip takes it.
func (r rule) args(verb string) []string {
	args := []string{"-n", r.ns, "rule", verb, "pref", lostTable, "to", r.to + "/32"}
	if r.proto != "" {
		args = append(args, "ipproto", r.proto, r.field, fmt.Sprint(r.port))
	}
	return append(args, "lookup", lostTable)
}

// rules are those that stop traffic from one host to another: requests, and answers to the other's.
func rules(from, to *host, t Traffic) ([]rule, error) {
	var protos []string
	var port int
	switch t {
	case All:
		return []rule{{ns: from.ns, to: to.addr}}, nil
	case Gossip:
		protos, port = []string{"udp", "tcp"}, gossipPort
	case Raft:
		protos, port = []string{"tcp"}, raftPort
	default:
		return nil, fmt.Errorf("there is no traffic %q to block", t)
	}
	var all []rule
	for _, proto := range protos {
		for _, field := range []string{"dport", "sport"} {
			all = append(all, rule{from.ns, to.addr, proto, field, port})
		}
	}
	return all, nil
}

// Block loses everything of a kind that one host sends to another. The other way stays open, but for answers. A second Block of the same
// does nothing.
func (p *Pool) Block(from, to string, t Traffic) error {
	f, err := p.need(Network, from)
	if err != nil {
		return err
	}
	other, err := p.host(to)
	if err != nil {
		return err
	}
	if f == other {
		return fmt.Errorf("blocking traffic of %s to itself: it has none", from)
	}
	all, err := rules(f, other, t)
	if err != nil {
		return err
	}
	p.net.Lock()
	defer p.net.Unlock()
	for _, r := range all {
		if p.rules[r] {
			continue
		}
		if err := ip(r.args("add")...); err != nil {
			return fmt.Errorf("blocking %s from %s to %s: %w", t, from, to, err)
		}
		p.rules[r] = true
	}
	return nil
}

// Unplug pulls a host's cable out of the pool network. Storage stays.
func (p *Pool) Unplug(name string) error { return p.cable(name, "down") }

// Plug puts it back.
func (p *Pool) Plug(name string) error { return p.cable(name, "up") }

func (p *Pool) cable(name, state string) error {
	h, err := p.need(Network, name)
	if err != nil {
		return err
	}
	return ip("-n", p.switchNS(), "link", "set", "dev", h.name, state)
}

// MendNetwork takes back every Block and plugs in every host's cable to the pool network.
func (p *Pool) MendNetwork() error {
	if !p.can[Network] {
		return nil // nothing can have been broken
	}
	p.net.Lock()
	defer p.net.Unlock()
	var errs []error
	for r := range p.rules {
		err := ip(r.args("del")...)
		if err == nil {
			delete(p.rules, r)
		}
		errs = append(errs, err)
	}
	for _, h := range p.hosts {
		errs = append(errs, p.Plug(h.name))
	}
	return errors.Join(errs...)
}

// UnplugStorage pulls a host's cable to the LUN. The pool network stays.
func (p *Pool) UnplugStorage(name string) error { return p.storageCable(name, "down") }

// PlugStorage puts it back. What the host's kernel has not delivered yet goes on its way then, however late.
func (p *Pool) PlugStorage(name string) error { return p.storageCable(name, "up") }

func (p *Pool) storageCable(name, state string) error {
	h, err := p.need(Storage, name)
	if err != nil {
		return err
	}
	return ip("-n", h.storageNS, "link", "set", "dev", storageLink, state)
}

// mendAll puts every cable back, for an end in order. A network that was never whole is taken away anyway.
func (p *Pool) mendAll() error {
	if !p.can[Network] || !p.wired {
		return nil
	}
	errs := []error{p.MendNetwork()}
	for _, h := range p.hosts {
		errs = append(errs, p.PlugStorage(h.name))
	}
	return errors.Join(errs...)
}
