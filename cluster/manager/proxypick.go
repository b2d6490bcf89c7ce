package manager

import (
	"cmp"
	"slices"
)

// pickProxies orders the hosts that could use a group of power devices of target: those that the devices prefer, then the others by
// the time that their answers take, the leader last. A local group is different: each host would ask its own machine, so the leader
// begins. Pure.
func pickProxies(hosts []Host, g Group, target, leader string) []string {
	var fit []Host
	for _, h := range hosts {
		if h.Name != target && (h.Reachable || h.Name == leader) {
			fit = append(fit, h)
		}
	}
	rank := func(h Host) int {
		if i := slices.Index(g.Prefer, h.Name); i >= 0 {
			return i - len(g.Prefer)
		}
		switch {
		case h.Name == leader && g.Local:
			return 0
		case h.Name == leader:
			return 2
		}
		return 1
	}
	slices.SortStableFunc(fit, func(a, b Host) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), boolCmp(!a.Maintenance, !b.Maintenance), cmp.Compare(a.RTT, b.RTT), cmp.Compare(a.Name, b.Name))
	})
	names := make([]string, len(fit))
	for i, h := range fit {
		names[i] = h.Name
	}
	return names
}

// maxCheckers bounds how many others are asked for one status: each may take its time.
const maxCheckers = 2

// checkers orders the proxies for the status after an off: those that did not do it come first, for their word is another one.
func checkers(proxies []string, did string) []string {
	out := slices.DeleteFunc(slices.Clone(proxies), func(p string) bool { return p == did })
	return append(out[:min(len(out), maxCheckers)], did)
}
