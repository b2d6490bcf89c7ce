package manager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// A leader in maintenance hands the leadership over: whoever put it there is about to switch it off, and an election that nobody prepared
// takes longer. It is tried after leadAwayFirst, then twice as long each time up to leadAwayLast.
const (
	leadAwayFirst = 10 * time.Second
	leadAwayLast  = 10 * time.Minute
	leadAwayBound = 5 * time.Second
	keyLeadAway   = "lead away"
)

// leadAway is when the leadership was last offered. Only the loop uses it.
type leadAway struct {
	at    time.Time
	tries int
}

// due tells whether it may be offered now.
func (l *leadAway) due(now time.Time) bool {
	return l.tries == 0 || now.Sub(l.at) >= min(leadAwayFirst<<min(l.tries-1, 6), leadAwayLast)
}

// nextLeader chooses who leads instead of a host that is in maintenance: a voter that answers and is neither there nor on its way, the quickest
// one. Empty: nobody, or this host is in use. A leader that is chosen is in use, so it does not hand over again.
func nextLeader(in *Inputs, self string, voters []string) string {
	if h := in.byName(self); h == nil || !h.Maintenance {
		return ""
	}
	var fit []*Host
	for i := range in.Hosts {
		h := &in.Hosts[i]
		if h.Name != self && h.Reachable && !h.Maintenance && !h.Leaving && (voters == nil || slices.Contains(voters, h.Name)) {
			fit = append(fit, h)
		}
	}
	if len(fit) == 0 {
		return ""
	}
	return slices.MinFunc(fit, func(a, b *Host) int { return cmp.Or(cmp.Compare(a.RTT, b.RTT), cmp.Compare(a.Name, b.Name)) }).Name
}

// handLeadership hands the leadership over when this host is in maintenance and nothing is under way that the next leader would have to take
// over.
func (t *term) handLeadership(view *fsm.State, in Inputs) {
	now := t.m.cfg.Now()
	t.mu.Lock()
	calm := t.calm
	t.mu.Unlock()
	if t.m.cfg.HandOver == nil || !calm || len(view.OpenFences()) > 0 || !t.leadAway.due(now) || in.TermAge < in.Policy.Grace {
		return
	}
	if h := in.byName(t.m.cfg.Host); h == nil || !h.Maintenance {
		return
	}
	var voters []string
	if t.m.cfg.Voters != nil {
		voters = append([]string{}, t.m.cfg.Voters()...)
	}
	to := nextLeader(&in, t.m.cfg.Host, voters)
	if to == "" {
		return
	}
	t.leadAway = leadAway{at: now, tries: t.leadAway.tries + 1}
	t.once(keyLeadAway, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, leadAwayBound)
		defer cancel()
		message := fmt.Sprintf("%s is in maintenance and hands the leadership over to %s", t.m.cfg.Host, to)
		e := fsm.Event{Severity: fsm.Info, Kind: "host.hands_over", Host: t.m.cfg.Host, Message: message, Reason: "a host out of use should not lead the pool",
			Evidence: fmt.Sprintf("%s is in state maintenance, %s is a voter in use", t.m.cfg.Host, to)}
		t.report(t.record(ctx, e), "recording an event")
		t.report(t.m.cfg.HandOver(ctx, to), "handing the leadership over to "+to)
	})
}
