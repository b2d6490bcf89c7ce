package manager

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// The witnesses of a host are kept apart: what one of them says is never taken for what another one would say. Gossip is what the
// members tell each other, a hint from which nothing follows; RPC the leader's own questions; a lease the host's record in the lockspace
// of a domain.

// What gossip and RPC witnesses say. A lease witness says the states of package leases in lower case, or WitnessUnread.
const (
	WitnessAlive   = "alive"
	WitnessFailed  = "failed"
	WitnessUnknown = "unknown"
	WitnessAnswers = "answers"
	WitnessSilent  = "silent"
	WitnessUnread  = "unread"
)

// Gossip is what the members of the cluster tell each other about a host: WitnessAlive, WitnessFailed or WitnessUnknown.
type Gossip interface {
	Says(host string) string
}

// seenSpace is a host's record in one lockspace as the liveliest keeper remembers it.
type seenSpace struct {
	state   leases.HostState
	gen     uint64
	changed time.Time // when the record was last seen to change
	looked  time.Time // when it was last read
}

// spaceFacts are the records of all hosts in all lockspaces, by lockspace and host id.
type spaceFacts map[string]map[int]seenSpace

// take adds what one keeper remembers, in a look that began then.
func (f spaceFacts) take(seen []SpaceSight, begun time.Time) {
	for _, s := range seen {
		f.add(s.Lockspace, s.Record.HostID, seenSpace{state: s.State, gen: s.Record.Generation, changed: begun.Add(-s.Silent),
			looked: begun.Add(-s.Looked)})
	}
}

// merge adds what another keeper remembers.
func (f spaceFacts) merge(o spaceFacts) {
	for ls, hosts := range o {
		for id, s := range hosts {
			f.add(ls, id, s)
		}
	}
}

// add takes one more word about a record: the newest generation counts, and of it the liveliest word.
func (f spaceFacts) add(lockspace string, hostID int, n seenSpace) {
	hosts := f[lockspace]
	if hosts == nil {
		hosts = map[int]seenSpace{}
		f[lockspace] = hosts
	}
	o, ok := hosts[hostID]
	switch {
	case ok && o.gen > n.gen:
		return
	case ok && o.gen == n.gen:
		if rank[o.state] > rank[n.state] {
			n.state = o.state
		}
		n.changed, n.looked = later(o.changed, n.changed), later(o.looked, n.looked)
	}
	hosts[hostID] = n
}

// latest is when the host's record was last seen to change in any lockspace.
func (f spaceFacts) latest(hostID int) time.Time {
	var at time.Time
	for _, hosts := range f {
		if s, ok := hosts[hostID]; ok && s.state != leases.HostFree {
			at = later(at, s.changed)
		}
	}
	return at
}

// leaseWitnesses are what the lockspaces of the pool's domains say of a host.
func (f spaceFacts) leaseWitnesses(domains []string, hostID int) []fsm.Witness {
	out := make([]fsm.Witness, 0, len(domains))
	for _, d := range domains {
		w := fsm.Witness{Kind: fsm.WitnessLease, Subject: d, State: WitnessUnread}
		if s, ok := f[d][hostID]; ok {
			w.State = strings.ToLower(string(s.state))
		}
		out = append(out, w)
	}
	return out
}

// edges takes the times of what has not changed over from what is committed, and reports whether anything has.
func edges(committed, seen []fsm.Witness, now time.Time) (next []fsm.Witness, changed bool) {
	next = slices.Clone(seen)
	slices.SortFunc(next, func(a, b fsm.Witness) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject))
	})
	for i := range next {
		w := &next[i]
		w.Since = now.UnixNano()
		old := slices.IndexFunc(committed, func(o fsm.Witness) bool { return o.Kind == w.Kind && o.Subject == w.Subject })
		if old >= 0 && committed[old].State == w.State {
			*w = committed[old]
			continue
		}
		changed = true
	}
	return next, changed || len(committed) != len(next)
}
