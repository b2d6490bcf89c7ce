package nemesis

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// claim is one resource of one host.
type claim struct {
	of   Resource
	host string
}

// ledger knows which fault has taken what. Two faults that contradict each other are never under way together, and never is
// there damage, or silence, on a majority.
type ledger struct {
	hosts []string

	mu      sync.Mutex // guards what follows
	held    map[claim]bool
	changed chan struct{} // closed and renewed when something is given back
}

func newLedger(hosts []string) *ledger {
	return &ledger{hosts: hosts, held: map[claim]bool{}, changed: make(chan struct{})}
}

// limit is on how many hosts a resource may be taken by faults of single hosts: never on a majority, but of two hosts, which are one
// only together, one may be down.
func limit(r Resource, hosts int) int {
	switch {
	case r == OfProcesses && hosts == minHosts:
		return 1
	case r == OfProcesses || r == OfData:
		return (hosts - 1) / 2
	}
	return hosts
}

// take waits until a fault may be injected, and returns the order with the host to hit in front.
func (l *ledger) take(ctx context.Context, n Nemesis, order []string) ([]string, []claim, error) {
	for {
		l.mu.Lock()
		got, claims := l.try(n, order)
		changed := l.changed
		l.mu.Unlock()
		if got != nil {
			return got, claims, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("waiting until no other fault contradicts %s: %w", n.Name, ctx.Err())
		}
	}
}

// try takes what a fault needs, on the first host that has it to give. Caller holds mu.
func (l *ledger) try(n Nemesis, order []string) ([]string, []claim) {
	if n.Reach == All {
		if claims := claimsOf(n, order); l.free(n, claims) {
			l.hold(claims)
			return order, claims
		}
		return nil, nil
	}
	for i, h := range order {
		if claims := claimsOf(n, []string{h}); l.free(n, claims) {
			l.hold(claims)
			return slices.Concat(order[i:i+1], order[:i], order[i+1:]), claims
		}
	}
	return nil, nil
}

func claimsOf(n Nemesis, hosts []string) (claims []claim) {
	for _, r := range n.Takes {
		for _, h := range hosts {
			claims = append(claims, claim{r, h})
		}
	}
	return claims
}

// free reports whether all claims can be had. Caller holds mu.
func (l *ledger) free(n Nemesis, claims []claim) bool {
	for _, c := range claims {
		if l.held[c] || n.Reach == One && l.count(c.of) >= limit(c.of, len(l.hosts)) {
			return false
		}
	}
	return true
}

// count is on how many hosts a resource is taken. Caller holds mu.
func (l *ledger) count(r Resource) (n int) {
	for c := range l.held {
		if c.of == r {
			n++
		}
	}
	return n
}

// hold notes claims. Caller holds mu.
func (l *ledger) hold(claims []claim) {
	for _, c := range claims {
		l.held[c] = true
	}
}

// give takes claims back.
func (l *ledger) give(claims []claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range claims {
		delete(l.held, c)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}
