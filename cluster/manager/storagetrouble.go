package manager

import (
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// Trouble is what a host misses of the storage that others reach. A host is in the map of storageTrouble as long as it misses
// anything: one that was up becomes non-operational when Over, one that was not stays so until it is not in the map any more.
type Trouble struct {
	Domains []string      // names of the domains that it misses
	For     time.Duration // how long it has missed the one it has missed longest
	Over    bool          // for longer than it may
	Reason  string
}

// StorageInput is everything that storageTrouble looks at.
type StorageInput struct {
	Domains []DomainInput
	// Down names the hosts that are recorded as non-operational: they get better slower than they got worse.
	Down   map[string]bool
	Policy DomainPolicy
}

// storageTrouble says which hosts cannot reach active domains that another host does reach. Pure. A domain that nobody reaches is no
// host's fault, and one that is not active is nobody's.
func storageTrouble(in StorageInput) map[string]Trouble {
	out := map[string]Trouble{}
	for _, d := range in.Domains {
		if d.Status != fsm.DomainActive {
			continue
		}
		for _, w := range d.Views {
			if why := missing(d, w, in); why != "" {
				out[w.Host] = out[w.Host].with(d.Name, w, in.Policy, why)
			}
		}
	}
	return out
}

// missing says why a host counts as missing a domain; empty: it does not.
func missing(d DomainInput, w DomainView, in StorageInput) string {
	switch {
	case !w.Sees || !w.Known:
		return ""
	case w.Bad == 0 && in.Down[w.Host] && w.Looks < in.Policy.ValidLooks:
		return "reaches it again, but not for long enough"
	case w.Bad == 0:
		return ""
	case in.Down[w.Host], d.reachedBesides(w.Host):
		return w.problem()
	}
	return ""
}

// reachedBesides says that another host, whose word counts, reaches the domain now.
func (in *DomainInput) reachedBesides(host string) bool {
	for _, w := range in.Views {
		if w.Host != host && w.Counts && w.Known && w.Bad == 0 && w.Looks > 0 {
			return true
		}
	}
	return false
}

// with adds a domain. What is recorded must not change with every look, so the reason carries no times.
func (tr Trouble) with(domain string, w DomainView, p DomainPolicy, why string) Trouble {
	tr.Domains = append(tr.Domains, domain)
	tr.For = max(tr.For, w.Bad)
	tr.Over = tr.Over || w.Bad > 0 && w.left(p) <= 0
	part := "domain " + domain + ": " + why
	if tr.Reason == "" {
		tr.Reason = "it cannot reach storage that other hosts reach: " + part
	} else if strings.Count(tr.Reason, "; ") < maxWhy {
		tr.Reason += "; " + part
	}
	return tr
}
