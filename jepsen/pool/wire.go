package pool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Interfaces in a host's namespace, and the addresses of the storage network, which are the same for every host.
const (
	poolLink    = "pool0"
	storageLink = "stor0"
	lunAddr     = "10.78.0.1"
	ownAddr     = "10.78.0.2"
)

// A gateway that nobody is: what is routed there leaves the host and is received by none, like packets that a network loses. A
// blackhole route would tell the sender at once.
const (
	nobody    = "10.77.0.254"
	nobodyMAC = "02:00:00:00:00:fe"
	lostTable = "66" // of routes, and the preference of the rules that lead there
)

func (p *Pool) switchNS() string { return p.cfg.Tag + "-sw" }

// wire makes the namespaces and the cables. The cable of a host ends in the switch under the host's name.
func (p *Pool) wire() error {
	sw := p.switchNS()
	steps := [][]string{{"netns", "add", sw}, {"-n", sw, "link", "add", "br0", "type", "bridge"}, {"-n", sw, "link", "set", "br0", "up"}}
	for _, h := range p.hosts {
		steps = append(steps, h.wiring(sw)...)
	}
	for _, args := range steps {
		if err := ip(args...); err != nil {
			return fmt.Errorf("%w: %w", ErrCannot, err)
		}
	}
	p.wired = true
	return nil
}

// wiring is what makes one host's network.
func (h *host) wiring(sw string) [][]string {
	return [][]string{
		{"netns", "add", h.ns}, {"-n", h.ns, "link", "set", "lo", "up"},
		{"-n", h.ns, "link", "add", poolLink, "type", "veth", "peer", "name", h.name, "netns", sw},
		{"-n", sw, "link", "set", "dev", h.name, "master", "br0", "up"},
		{"-n", h.ns, "addr", "add", h.addr + "/24", "dev", poolLink}, {"-n", h.ns, "link", "set", poolLink, "up"},
		{"-n", h.ns, "neigh", "replace", nobody, "lladdr", nobodyMAC, "dev", poolLink, "nud", "permanent"},
		{"-n", h.ns, "route", "add", "default", "via", nobody, "dev", poolLink, "src", h.addr, "table", lostTable},
		{"netns", "add", h.storageNS}, {"-n", h.storageNS, "link", "set", "lo", "up"},
		{"-n", h.ns, "link", "add", storageLink, "type", "veth", "peer", "name", storageLink, "netns", h.storageNS},
		{"-n", h.storageNS, "addr", "add", lunAddr + "/30", "dev", storageLink}, {"-n", h.storageNS, "link", "set", storageLink, "up"},
		{"-n", h.ns, "addr", "add", ownAddr + "/30", "dev", storageLink}, {"-n", h.ns, "link", "set", storageLink, "up"},
	}
}

// unwire deletes the namespaces, and with them cables and routes.
func (p *Pool) unwire() error {
	if !p.can[Network] {
		return nil
	}
	return deleteNamespaces(p.cfg.Tag)
}

// deleteNamespaces deletes those of a tag.
func deleteNamespaces(tag string) error {
	names, err := namespaces()
	for _, ns := range names {
		if strings.HasPrefix(ns, tag+"-") {
			err = errors.Join(err, ip("netns", "del", ns))
		}
	}
	return err
}

// namespaces lists all there are.
func namespaces() ([]string, error) {
	out, err := tool("ip", "netns", "list")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 0 { // "name" or "name (id: 3)"
			names = append(names, f[0])
		}
	}
	slices.Sort(names)
	return names, nil
}
