package manager

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// DomainPolicy holds the times by which domains are judged.
type DomainPolicy struct {
	// Failure is how long hosts must fail to reach a domain before anything follows from it.
	Failure time.Duration
	// Join is how much longer a host may fail that reads a domain and has not joined its lockspace: it may have to wait until a former
	// holder of its id is dead.
	Join time.Duration
	// Notice is how long a host must fail to reach a domain before it is named: joining a lockspace takes a moment.
	Notice time.Duration
	// ReportAge is how old the last look of a host may be; an older one counts as failed.
	ReportAge time.Duration
	// ValidHosts or ValidLooks bring a domain back: so many hosts that see it, or so many looks in a row of one.
	ValidHosts, ValidLooks int
	// RetryMin and RetryMax bound the time from one attempt to reach a domain again to the next.
	RetryMin, RetryMax time.Duration
	// SlowRead is how long a read of 4 KiB may take without a warning.
	SlowRead time.Duration
}

// DefaultDomainPolicy is the policy of a pool with these lease times.
func DefaultDomainPolicy(p leases.Profile) DomainPolicy {
	d := DomainPolicy{Failure: 5 * time.Minute, Join: 2*p.HostDead() + 10*p.IOTimeout, Notice: max(2*p.IOTimeout, 3*time.Second),
		ReportAge: min(9*p.IOTimeout, 30*time.Second), ValidHosts: 2, ValidLooks: 3,
		RetryMin: 10 * time.Second, RetryMax: 5 * time.Minute, SlowRead: 5 * time.Second}
	switch p.Name {
	case leases.Fast.Name:
		d.Failure = 15 * time.Second
	case leases.Dev.Name:
		d.Failure = 6 * time.Second
	}
	return d
}

// DomainView is what the leader knows of one host and one domain at one moment.
type DomainView struct {
	Host string
	// Counts: the host is up and answers, so that what it fails to reach counts. Sees: it answers, and what it reaches counts.
	Counts, Sees bool
	Known        bool          // it has looked at least once in this term
	Bad          time.Duration // how long it has failed to reach the domain; 0: it reaches it
	Looks        int           // valid looks in a row
	Code, Detail string        // of a failure
}

// DomainInput is everything that JudgeDomain looks at. It holds no clock.
type DomainInput struct {
	ID, Name, Status string
	Views            []DomainView // of all hosts, in the order of their names
	Up               int          // hosts that are recorded as up
	TermAge          time.Duration
	Policy           DomainPolicy
}

// DomainVerdict is what a domain is, by what hosts report.
type DomainVerdict struct {
	Status  string
	Reason  string
	Failing []string      // hosts that fail to reach it, and not just for a moment
	In      time.Duration // until the verdict changes by itself if nothing else does; 0: it does not
}

// JudgeDomain decides what a domain is. Pure. What an operator wants of a domain (preparing, maintenance) is not judged here.
func JudgeDomain(in DomainInput) DomainVerdict {
	v := DomainVerdict{Status: in.Status, Failing: in.failing()}
	switch in.Status {
	case fsm.DomainPreparing, fsm.DomainMaintenance:
		return DomainVerdict{Status: in.Status}
	case fsm.DomainActive:
		in.judgeActive(&v)
	default:
		in.judgeAway(&v)
	}
	return v
}

// judgeActive decides about a domain that is in use. What would bring it back keeps it as well, or the verdict would go back and forth:
// a host that is not up for another reason, and reaches it.
func (in *DomainInput) judgeActive(v *DomainVerdict) {
	left, total := in.patience()
	there := in.back()
	switch {
	case !there && in.nobody():
		v.Status, v.Reason, v.Failing = fsm.DomainUnknown, "no host that is up reports on it", nil
	case total == 0 || len(v.Failing) == 0:
	case !there && len(left) == total && slices.Max(left) <= 0:
		v.Status, v.Reason = fsm.DomainInactive, "no host that is up can reach it: "+in.why()
	case !there && len(left) == total:
		v.Reason, v.In = "no host that is up reaches it now: "+in.why(), slices.Max(left)
	default:
		v.Reason = "some hosts cannot reach it: " + in.why()
		if len(left) > 0 {
			v.In = max(slices.Min(left), 0)
		}
	}
}

// judgeAway decides about a domain that is inactive, unknown, or being activated. Hosts that are not up count as witnesses here: a
// domain that one of them reaches is there.
func (in *DomainInput) judgeAway(v *DomainVerdict) {
	left, total := in.patience()
	switch {
	case in.back():
		v.Status, v.Reason = fsm.DomainActive, "hosts reach it"
		if len(v.Failing) > 0 {
			v.Reason += "; some cannot: " + in.why()
		}
	case in.nobody():
		v.Status, v.Reason, v.Failing = fsm.DomainUnknown, "no host that is up reports on it", nil
	case total > 0 && len(left) == total && slices.Max(left) <= 0:
		v.Status, v.Reason = fsm.DomainInactive, "no host that is up can reach it: "+in.why()
	case in.Status == fsm.DomainActivating:
		v.Reason = "waits for hosts to reach it"
		if len(v.Failing) > 0 {
			v.Reason += ": " + in.why()
		}
	case in.Status == fsm.DomainInactive && len(v.Failing) > 0:
		v.Reason = "no host that is up can reach it: " + in.why()
	}
}

// back says that enough was seen of a domain to call it active.
func (in *DomainInput) back() bool {
	hosts, looks := 0, 0
	for _, w := range in.Views {
		if w.Sees && w.Known && w.Bad == 0 && w.Looks > 0 {
			hosts, looks = hosts+1, max(looks, w.Looks)
		}
	}
	return hosts >= in.Policy.ValidHosts || looks >= in.Policy.ValidLooks
}

// nobody says that there is no host whose reports count. A leader that has just begun to lead has not heard everybody.
func (in *DomainInput) nobody() bool {
	if in.Up == 0 {
		return true
	}
	for _, w := range in.Views {
		if w.Counts && w.Known {
			return false
		}
	}
	return in.TermAge > in.Policy.ReportAge
}

// left is for how much longer a host that fails may do so before anything follows from it; 0 or less: no longer.
func (w DomainView) left(p DomainPolicy) time.Duration {
	if w.Code == DomainUnjoined {
		return p.Failure + p.Join - w.Bad
	}
	return p.Failure - w.Bad
}

// patience lists what is left to hosts that count and fail, of how many that count.
func (in *DomainInput) patience() (left []time.Duration, total int) {
	for _, w := range in.Views {
		if !w.Counts || !w.Known {
			continue
		}
		total++
		if w.Bad > 0 {
			left = append(left, w.left(in.Policy))
		}
	}
	return left, total
}

// noticed says that a host has failed for long enough to be named.
func (in *DomainInput) noticed(w DomainView) bool {
	return w.Sees && w.Known && w.Bad > 0 && w.Bad >= min(in.Policy.Notice, in.Policy.Failure)
}

// failing names the hosts that answer and cannot reach the domain.
func (in *DomainInput) failing() []string {
	var out []string
	for _, w := range in.Views {
		if in.noticed(w) {
			out = append(out, w.Host)
		}
	}
	slices.Sort(out)
	return out
}

// maxWhy bounds how many hosts a reason quotes.
const maxWhy = 3

// why quotes hosts that fail.
func (in *DomainInput) why() string {
	var out []string
	for _, w := range in.Views {
		if in.noticed(w) {
			out = append(out, fmt.Sprintf("%s: %s", w.Host, w.problem()))
		}
	}
	if n := len(out); n > maxWhy {
		out = append(out[:maxWhy], fmt.Sprintf("and %d more hosts", n-maxWhy))
	}
	return strings.Join(out, "; ")
}

// problem is what is wrong, without what changes with every look: it is recorded.
func (w DomainView) problem() string {
	switch w.Code {
	case DomainHung:
		return "a LUN does not answer"
	case DomainUnjoined:
		return "its host id is not held in the lockspace"
	case DomainOK:
		return "its last look is too old"
	case DomainDamaged:
		return "what lies on the LUNs cannot be used"
	}
	return "a LUN cannot be opened or read"
}
