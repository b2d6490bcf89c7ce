package manager

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// ReopenRequest has a host look at a domain again at once, by paths that are opened anew.
type ReopenRequest struct {
	Domain string `json:"domain"`
}

// retry is when hosts are next asked to try a domain again.
type retry struct {
	n    int // attempts so far
	at   time.Time
	sees int // hosts that reached the domain at the last step
}

// next is the time to the next attempt: twice as long each time, with a quarter of it spread.
func (p DomainPolicy) next(n int) time.Duration {
	wait := min(p.RetryMin<<min(n, 16), p.RetryMax)
	return wait - time.Duration(rand.Int64N(int64(wait/4)+1))
}

// retryDomains has hosts that cannot reach a domain open their paths to it again: with growing pauses, and at once when another host
// reaches it. Nothing is disconnected.
func (t *term) retryDomains(inputs []DomainInput) {
	forced := t.forced()
	for _, in := range inputs {
		hosts, sees := in.missedBy()
		if len(hosts) == 0 {
			delete(t.domains.retries, in.ID)
			continue
		}
		r := t.domains.retries[in.ID]
		now := t.m.cfg.Now()
		if r == nil {
			r = &retry{at: now.Add(in.Policy.next(0)), sees: sees}
			t.domains.retries[in.ID] = r
		}
		if forced[in.ID] || sees > r.sees {
			r.n, r.at = 0, now
		}
		r.sees = sees
		if now.Before(r.at) {
			continue
		}
		r.n++
		r.at = now.Add(in.Policy.next(r.n))
		t.reopen(in.ID, hosts)
	}
}

// forced are the domains that somebody wants to be tried at once.
func (t *term) forced() map[string]bool {
	out := map[string]bool{}
	for {
		select {
		case id := <-t.domains.force:
			out[id] = true
		default:
			return out
		}
	}
}

// missedBy lists hosts that answer and do not reach a domain that they should, and counts those that do.
func (in *DomainInput) missedBy() (hosts []string, sees int) {
	if in.Status == fsm.DomainPreparing || in.Status == fsm.DomainMaintenance {
		return nil, 0
	}
	for _, w := range in.Views {
		switch {
		case !w.Sees || !w.Known:
		case w.Bad > 0:
			hosts = append(hosts, w.Host)
		case w.Looks > 0:
			sees++
		}
	}
	return hosts, sees
}

// reopen asks hosts, each in its own goroutine.
func (t *term) reopen(domain string, hosts []string) {
	for _, host := range hosts {
		t.once("reopen "+domain+" "+host, func(ctx context.Context) {
			err := t.call(ctx, t.m.cfg.InspectTimeout, host, MethodReopen, ReopenRequest{Domain: domain}, nil)
			t.report(err, "having "+host+" look at a domain again")
		})
	}
}

// AskHost pings a host at once: it says that something changed.
func (m *Manager) AskHost(host string) {
	select {
	case m.edges <- host:
	default: // it is pinged soon in any case
	}
}
