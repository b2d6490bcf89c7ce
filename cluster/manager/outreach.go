package manager

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// active tells whether the SPM has to reach a domain: one that no host reaches speaks against none of them.
func active(d fsm.Domain) bool {
	s := d.CurrentStatus()
	return s == fsm.DomainActive || s == fsm.DomainUnknown
}

// activeDomains counts them.
func activeDomains(view *fsm.State) int {
	n := 0
	for _, d := range view.Domains.All() {
		if active(d) {
			n++
		}
	}
	return n
}

// reach counts the active domains that a host says it can work with, and names the others.
func reach(view *fsm.State, reports []DomainReport) (n int, misses []string) {
	valid := map[string]bool{}
	for _, r := range reports {
		valid[r.Domain] = r.Valid()
	}
	for id, d := range view.Domains.All() {
		switch {
		case !active(d):
		case valid[id]:
			n++
		default:
			misses = append(misses, d.Name)
		}
	}
	return n, misses
}

// outreach finds the candidate that reaches more than a holder which misses domains.
func outreach(in *Inputs, x *Host) (Host, bool) {
	if x == nil || !x.Reports || len(x.Misses) == 0 {
		return Host{}, false
	}
	c, _ := candidates(in)
	if len(c) == 0 || c[0].Reach <= x.Reach {
		return Host{}, false
	}
	return c[0], true
}

// handOutreach moves the role to a host that reaches more, when that has been so for long enough.
func handOutreach(in *Inputs, x *Host, stop Decision) (Decision, bool) {
	y, ok := outreach(in, x)
	if !ok {
		return Decision{}, false
	}
	why := fmt.Sprintf("%s cannot reach %s; %s reaches %d of %d active domains", x.Name, strings.Join(x.Misses, ", "), y.Name, y.Reach, in.Active)
	if in.OutreachFor < in.OutreachAfter {
		d := keep(in, x)
		d.Reason, d.Awaits, d.In = why, "that to last", in.OutreachAfter-in.OutreachFor
		return d, true
	}
	stop.Row, stop.Reason, stop.Cause = RowOutreach, why, MovedDomains
	return stop, true
}

// handLate moves the role off a host whose lease is about to run out, while it can still give it back.
func handLate(in *Inputs, x *Host, stop Decision) (Decision, bool) {
	if x.Renewals != RenewalsFailing {
		return Decision{}, false
	}
	c, _ := candidates(in)
	fit := slices.ContainsFunc(c, func(y Host) bool { return y.Renewals == RenewalsOK })
	if !fit {
		return Decision{}, false
	}
	stop.Row, stop.Cause = RowLate, MovedRenewals
	stop.Reason = x.Name + " does not manage to renew its lease, and others do"
	return stop, true
}

// outreachSince is since when a holder has missed what a candidate reaches.
type outreachSince struct {
	host    string
	version uint64
	at      time.Time
}

// settleOutreach notes since when, in this term, another host reaches more than the holder.
func (t *term) settleOutreach(in *Inputs) {
	now, x := t.m.cfg.Now(), in.byID(in.Lease.Owner)
	if _, ok := outreach(in, x); !ok || !in.Lease.Held {
		t.outreach = outreachSince{}
		return
	}
	if t.outreach.host != x.Name || t.outreach.version != in.Lease.Version {
		t.outreach = outreachSince{x.Name, in.Lease.Version, now}
	}
	in.OutreachFor = now.Sub(t.outreach.at)
	in.OutreachAfter = in.Policy.OutreachAfter << min(t.movesLately(MovedDomains), maxOutreachShift)
}

// A move for the sake of other domains makes the next one wait twice as long, up to 2^maxOutreachShift times, until none was made for
// outreachMemory: the role does not follow a domain that comes and goes.
const (
	maxOutreachShift = 8
	outreachMemory   = 15 * time.Minute
)

// movesLately counts the moves for a reason that the history shows, whoever led then.
func (t *term) movesLately(reason string) int {
	from, n := t.m.cfg.Now().Add(-outreachMemory).UnixNano(), 0
	for _, e := range slices.Backward(t.m.cfg.Cluster.View().Events()) {
		if e.Time < from {
			break
		}
		if e.Kind == kindMoved && e.Reason == reason {
			n++
		}
	}
	return n
}
