package attach

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Attachment is a volume that is attached on this host, with its chain.
type Attachment struct {
	Record
	// Chain is the volume and what it is based on, the top first.
	Chain []Record
	// Problem says why it cannot be used now; empty: it can.
	Problem string
	Status  Status   // of the top, as last heard; zero for one that does not grow
	Waiting *Waiting // nil: it has the space it needs
	// Watched says that QEMU is being asked through QMP, and QMPProblem why it cannot be now.
	Watched    bool
	QMPProblem string
}

// List is what is attached on this host.
func (m *Manager) List() []Attachment {
	var out []Attachment
	for _, r := range m.records() {
		if !r.top() {
			continue
		}
		if a, ok := m.attachment(r.Domain, r.Volume); ok {
			out = append(out, a)
		}
	}
	return out
}

// lookTimeout is how long a list waits for a mapping's word.
const lookTimeout = time.Second

// ListNow is List with every mapping that grows asked how far it is written now. One that does not answer is shown as it was last heard.
func (m *Manager) ListNow(ctx context.Context) []Attachment {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	list := m.List()
	var asking sync.WaitGroup
	for i := range list {
		a := &list[i]
		asking.Go(func() {
			if st, err := m.statusOf(ctx, a.Domain, a.Volume); err == nil {
				a.Status = st
			}
		})
	}
	asking.Wait()
	return list
}

// statusOf asks the mapping of a volume that grows.
func (m *Manager) statusOf(ctx context.Context, domainID, volume string) (Status, error) {
	n := m.node(domainID, volume)
	if n == nil {
		return Status{}, ErrNotAttached
	}
	m.mu.Lock()
	g := n.grower
	m.mu.Unlock()
	if g == nil {
		return Status{}, ErrNotMapped
	}
	return g.mapping.Status(ctx)
}

// attachment describes one volume.
func (m *Manager) attachment(domainID, volume string) (Attachment, bool) {
	n := m.node(domainID, volume)
	if n == nil {
		return Attachment{}, false
	}
	a := Attachment{Record: m.record(n), Chain: m.chainRecords(domainID, volume)}
	for _, r := range a.Chain {
		if a.Problem == "" {
			a.Problem = m.problem(r)
		}
	}
	m.mu.Lock()
	g, q := n.grower, n.guest
	m.mu.Unlock()
	if g != nil {
		a.Status, a.Waiting = g.state()
	}
	if q != nil {
		st := q.vol.Status()
		if a.Watched = st.Connected; !a.Watched {
			a.QMPProblem = cmp.Or(st.LastError, "not connected yet")
		}
	}
	return a, true
}

// problem says why one volume is not usable now.
func (m *Manager) problem(r Record) string {
	n := m.node(r.Domain, r.Volume)
	if n == nil {
		return "not mapped"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case n.rec.Reason != "":
		return n.rec.Reason
	case n.mapping != nil && n.rec.State == StateAttached:
		return ""
	case n.problem != "":
		return n.problem
	case n.rec.State != StateAttached:
		return n.rec.State
	}
	return "its mapping is being looked for"
}

// Counts is what is attached, in numbers.
type Counts struct {
	Attached int           // volumes that were attached
	Mapped   int           // mappings, with those below
	Waiting  int           // volumes that wait for space
	Oldest   time.Duration // the longest of these waits
}

// Counts counts.
func (m *Manager) Counts() Counts {
	var c Counts
	m.mu.Lock()
	var growers []*grower
	for _, n := range m.nodes {
		if slices.Contains(n.rec.Users, n.rec.Volume) {
			c.Attached++
		}
		if n.mapping != nil {
			c.Mapped++
		}
		if n.grower != nil {
			growers = append(growers, n.grower)
		}
	}
	m.mu.Unlock()
	for _, g := range growers {
		if _, w := g.state(); w != nil {
			c.Waiting++
			c.Oldest = max(c.Oldest, time.Since(w.Since))
		}
	}
	return c
}
