package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// leaseState is a lease: its version, and who has it since when at the earliest. The empty host is nobody.
type leaseState struct {
	version  uint64
	host, vm string
	since    time.Duration
}

// LinearLeases holds every lease against a mutex whose token grows by one at each change of hands. A host may lose what it
// has without a word only where a fault hit it.
func LinearLeases(r Record) history.Verdict {
	t := leasesOf(r)
	var parts []*part[leaseState]
	for _, id := range t.ids {
		parts = append(parts, leasePart(id, t))
	}
	v := linear("linear leases", parts)
	return withBad(v, t.bad)
}

// leaseUnreadable is the status of a lease whose record cannot be read.
const leaseUnreadable = "UNREADABLE"

// leasePart makes the history of one lease.
func leasePart(id string, t *leaseTable) *part[leaseState] {
	p := &part[leaseState]{name: "lease " + short(id)}
	for _, l := range t.byID[id] {
		what := fmt.Sprintf("%s by client %d on %s for %s: %s, token %d %s %s", l.op.Kind, l.op.Client, l.op.Host, l.input.VM, l.op.Outcome,
			l.answer.Version, l.answer.Status, l.answer.Host)
		apply := l.apply(t.faults)
		switch l.op.Outcome {
		case history.OK:
			if l.op.Kind == history.LeaseShow && l.answer.Status == leaseUnreadable {
				continue // it says that it could not be read, and no more
			}
			p.add(l.op, false, what, apply)
		case history.Unknown:
			p.add(l.op, true, what, maybe(apply))
		}
	}
	return p
}

// apply is what the operation does to a lease.
func (l leaseOp) apply(faults []history.Fault) func(leaseState) []leaseState {
	one := map[string]func(leaseState) []leaseState{
		history.LeaseAcquire: l.acquire, history.LeaseRelease: l.release, history.LeaseShow: l.show}[l.op.Kind]
	return func(s leaseState) []leaseState {
		next := one(s)
		if s.host == "" || !mayLose(faults, s.host, s.since, l.op.Return) {
			return next
		}
		for _, n := range one(leaseState{version: s.version}) { // its holder had lost it
			if !slices.Contains(next, n) {
				next = append(next, n)
			}
		}
		return next
	}
}

func (l leaseOp) acquire(s leaseState) []leaseState {
	got := leaseState{version: s.version + 1, host: l.op.Host, vm: l.input.VM, since: l.op.Call}
	switch {
	case s.host == l.op.Host && s.vm == l.input.VM:
		got = s // asked again: the same token
	case s.host != "":
		return nil
	}
	if l.op.Outcome == history.OK && l.answer.Version != got.version {
		return nil
	}
	return []leaseState{got}
}

func (l leaseOp) release(s leaseState) []leaseState {
	if s.host != l.op.Host || s.vm != l.input.VM {
		return nil
	}
	return []leaseState{{version: s.version}}
}

func (l leaseOp) show(s leaseState) []leaseState {
	if l.answer.Version != s.version || l.answer.Host != s.host {
		return nil
	}
	return []leaseState{s}
}
