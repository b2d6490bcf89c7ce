package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// leaseOp is one operation on a lease.
type leaseOp struct {
	op     history.Op
	input  history.LeaseInput
	answer history.LeaseAnswer
}

// leaseTable is what a record says about leases, each in the order of the calls.
type leaseTable struct {
	ids    []string
	byID   map[string][]leaseOp
	faults []history.Fault
	bad    []string
}

func leasesOf(r Record) *leaseTable {
	t := &leaseTable{byID: map[string][]leaseOp{}, faults: prolonged(r)}
	for _, op := range r.Ops {
		switch op.Kind {
		case history.LeaseAcquire, history.LeaseRelease, history.LeaseShow:
		default:
			continue
		}
		l := leaseOp{op: op}
		if err := decode(op, &l.input, &l.answer); err != nil {
			t.bad = append(t.bad, err.Error())
			continue
		}
		if t.byID[op.Key] == nil {
			t.ids = append(t.ids, op.Key)
		}
		t.byID[op.Key] = append(t.byID[op.Key], l)
	}
	for _, ops := range t.byID {
		slices.SortStableFunc(ops, func(a, b leaseOp) int { return cmp.Compare(a.op.Call, b.op.Call) })
	}
	return t
}

// prolonged are the faults, each until all leases that it may have cost are dead: 8N and W after it was healed.
func prolonged(r Record) []history.Fault {
	all := slices.Clone(r.Faults)
	for i := range all {
		if all[i].End > 0 {
			all[i].End += 8*r.Run.Bounds.IOTimeout + r.Run.Bounds.Watchdog
		}
	}
	return all
}

// aftermath is how long after its healing a fault may still cost a host its leases.
const aftermath = 30 * time.Second

// mayLose tells whether a fault may have cost a host what it held from a moment on, up to another. A fault that names no
// target may have hit everybody.
func mayLose(faults []history.Fault, host string, from, until time.Duration) bool {
	return slices.ContainsFunc(faults, func(f history.Fault) bool {
		hit := len(f.Targets) == 0 || slices.Contains(f.Targets, host)
		return hit && f.Begin <= until && (f.End == 0 || f.End+aftermath >= from)
	})
}

// Tokens looks at leases one pair of answers at a time, which says more than a search that fails: a token never goes back,
// belongs to one holder, and nobody gets the lease while another one surely has it.
func Tokens(r Record) history.Verdict {
	t := leasesOf(r)
	var found []string
	got := 0
	for _, id := range t.ids {
		acquired := okAcquires(t.byID[id])
		got += len(acquired)
		for i, a := range acquired {
			for _, b := range acquired[i+1:] {
				if why := t.clash(id, a, b); why != "" {
					found = append(found, fmt.Sprintf("lease %s: %s", short(id), why))
				}
			}
		}
	}
	return withBad(judged("lease tokens", found, "%d acquisitions of %d leases", got, len(t.ids)), t.bad)
}

func okAcquires(ops []leaseOp) []leaseOp {
	return slices.DeleteFunc(slices.Clone(ops), func(l leaseOp) bool {
		return l.op.Kind != history.LeaseAcquire || l.op.Outcome != history.OK
	})
}

// who is the holder as an acquisition names it.
func (l leaseOp) who() string { return l.input.VM + " on " + l.op.Host }

// clash says why two acquisitions, a called first, cannot both be right.
func (t *leaseTable) clash(id string, a, b leaseOp) string {
	va, vb := a.answer.Version, b.answer.Version
	after := a.op.Return < b.op.Call
	switch {
	case va == vb && a.who() != b.who():
		return fmt.Sprintf("token %d was given to %s at %s and to %s at %s", va, a.who(), at(a.op.Return), b.who(), at(b.op.Return))
	case after && vb < va:
		return fmt.Sprintf("token %d to %s at %s came after token %d to %s at %s", vb, b.who(), at(b.op.Return), va, a.who(), at(a.op.Return))
	case after && va < vb && a.who() != b.who() && t.held(id, a, b):
		return fmt.Sprintf("%s got it at %s with token %d while %s had it since %s with token %d", b.who(), at(b.op.Return), vb, a.who(), at(a.op.Return), va)
	}
	return ""
}

// held tells whether a surely had the lease until b got it: nobody released it for a, and no fault hit a's host.
func (t *leaseTable) held(id string, a, b leaseOp) bool {
	if mayLose(t.faults, a.op.Host, a.op.Call, b.op.Return) {
		return false
	}
	return !slices.ContainsFunc(t.byID[id], func(l leaseOp) bool {
		return l.op.Kind == history.LeaseRelease && l.who() == a.who() && l.op.Outcome != history.Failed &&
			l.op.Return >= a.op.Call && l.op.Call <= b.op.Return
	})
}
