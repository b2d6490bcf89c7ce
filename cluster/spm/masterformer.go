package spm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
)

// formerLease is the lease of the last master, which is held until the cluster knows of the new one: who has not heard of it could take
// the old one otherwise.
type formerLease struct {
	lease    Lease
	guard    *movingGuard
	change   MasterChange
	recorded chan struct{} // closed when the cluster knows
	index    uint64        // of the record
	released atomic.Bool
}

// movingGuard is the right to write under a new master. As long as the cluster does not know of it the old lease must be held too.
type movingGuard struct {
	blockdev.Guard
	old   blockdev.Guard
	known atomic.Bool
}

func newMovingGuard(next, old blockdev.Guard) *movingGuard {
	return &movingGuard{Guard: next, old: old}
}

// Check asks both leases, or the new one alone.
func (g *movingGuard) Check(need time.Duration) error {
	if err := g.Guard.Check(need); err != nil || g.known.Load() {
		return err
	}
	return g.old.Check(need)
}

// leases are those that a session holds, the present master's first.
func (s *session) leases() []Lease {
	if s.former == nil || s.former.released.Load() {
		return []Lease{s.lease}
	}
	return []Lease{s.lease, s.former.lease}
}

// awaitRecord waits a little until the cluster knows of the new master.
func (s *session) awaitRecord(ctx context.Context) (uint64, bool) {
	t := time.NewTimer(s.r.cfg.MirrorWait)
	defer t.Stop()
	select {
	case <-s.former.recorded:
		return s.former.index, true
	case <-t.C:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return 0, false
}

// letFormerGo tells the cluster of the new master, and then releases the lease of the old one. Nothing that was written under that
// alone is on its way: the session began when all of it had come back.
func (s *session) letFormerGo() {
	f := s.former
	if !s.insist(func(ctx context.Context) (err error) {
		f.index, err = s.r.cfg.Masters.Record(ctx, f.change)
		return err
	}) {
		return
	}
	f.guard.known.Store(true)
	close(f.recorded)
	s.insist(func(ctx context.Context) error {
		err := f.lease.Release(ctx)
		f.released.Store(err == nil)
		return err
	})
}

// insist tries until fn succeeds; false when the session ended first, also because fn never can.
func (s *session) insist(fn func(ctx context.Context) error) bool {
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		ctx, cancel := context.WithTimeout(s.ctx, applyTimeout)
		err := fn(ctx)
		cancel()
		switch {
		case err == nil:
			return true
		case errors.Is(err, ErrChanged):
			s.fail("the cluster has another master: " + err.Error())
			return false
		}
		s.r.cfg.Log.Warn("a change of the master is not finished yet", "err", err)
		if !sleep(s.ctx, pause) {
			return false
		}
	}
}

// throne is a domain besides the master whose keys say that it is the master: it was, and was given up for lost when it could not be
// read. It is readable again now.
type throne struct {
	s       *session
	id      string
	version int
	lease   Lease
}

// rival refuses a domain whose keys say that it is the master, and that ours is an older one.
func (s *session) rival(id string, dom Domain) error {
	if s.r.cfg.Masters == nil {
		return nil
	}
	st, mine := dom.Master(), s.master.dom.Master()
	if !st.Master || !st.InForce(s.poolOf()) || st.Version < mine.Version {
		return nil
	}
	if s.servedBefore(id) { // it was a plain domain under this very lease: we are the one who was given up
		s.fail(fmt.Sprintf("domain %s has become the pool's master with version %d", id, st.Version))
	}
	return fmt.Errorf("it says that it is the pool's master with version %d, and the master %s has version %d: somebody else made it that; "+
		"find out who, and use domain set-master with the one that is right: %w", st.Version, s.master.id, mine.Version, ErrChanged)
}

// throneOf takes the SPM lease of such a domain, before anything is written to it: whoever was SPM under it may be alive and not know.
// nil: the domain is a plain one.
func (s *session) throneOf(ctx context.Context, id string, dom Domain) (*throne, error) {
	if s.r.cfg.Masters == nil {
		return nil, nil
	}
	st := dom.Master()
	switch {
	case !st.Master:
		return nil, nil
	case s.former != nil && s.former.change.From == id && !s.former.released.Load():
		return nil, fmt.Errorf("it says that it is the master, and its lease is held for a change that is not finished yet: %w", ErrBusy)
	}
	m, err := s.r.cfg.Masters.Master(ctx, id)
	if err != nil {
		return nil, err
	}
	if _, err := m.Lease.Acquire(ctx, 0); err != nil {
		return nil, fmt.Errorf("it was the master up to version %d, and its SPM lease cannot be had: %w", st.Version, errors.Join(err, m.Lease.Release(ctx)))
	}
	return &throne{s: s, id: id, version: st.Version, lease: m.Lease}, nil
}

// servedBefore says whether this session had a domain open that it does not serve now.
func (s *session) servedBefore(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.bases[id]
	return ok
}

// clear makes the domain a plain one.
func (t *throne) clear(ctx context.Context, w Writer) error {
	if t == nil {
		return nil
	}
	err := w.StepDown(ctx)
	if err == nil {
		err = w.AnnounceMaster(ctx, domain.NextMaster{})
	}
	if err != nil {
		return fmt.Errorf("making the former master a plain domain: %w", err)
	}
	t.s.tell(fsm.Warning, "master.rejoined", t.id, "it can be read again", fmt.Sprintf("domain %s was the pool's master up to version %d and could not be read when it was given up; it is a plain domain again", t.id, t.version))
	return nil
}

// leave releases the lease. A write that was given up may land as long as it likes: it was made under the master's lease too, which
// is kept until it is back.
func (t *throne) leave() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.s.ctx), t.s.r.cfg.ReleaseTimeout)
	defer cancel()
	if err := t.lease.Release(ctx); err != nil {
		t.s.r.cfg.Log.Warn("releasing the SPM lease of a former master", "domain", t.id, "err", err)
	}
}

// membersEvery is how often the list of domains on the master is looked at when nothing says that it changed.
const membersEvery = 30 * time.Second

// keepMembers keeps the list of the pool's domains on the master, and takes away marks of changes of the master that are finished.
func (s *session) keepMembers() {
	for {
		var changed <-chan struct{}
		if s.r.cfg.Others != nil {
			changed = s.r.cfg.Others.Changed()
		}
		s.mu.Lock()
		news := s.news
		s.mu.Unlock()
		s.listMembers()
		s.tidyMarks()
		t := time.NewTimer(membersEvery)
		select {
		case <-s.ctx.Done():
		case <-s.recordedSoon():
		case <-changed:
		case <-news:
		case <-t.C:
		}
		t.Stop()
		if s.ctx.Err() != nil {
			return
		}
	}
}

// recordedSoon is closed when a change of the master that is under way gets known; nil when none is.
func (s *session) recordedSoon() <-chan struct{} {
	if f := s.former; f != nil && !f.guard.known.Load() {
		return f.recorded
	}
	return nil
}

// listMembers writes the list, if it is another one.
func (s *session) listMembers() {
	want := s.r.cfg.Masters.Members()
	if len(want) == 0 {
		return
	}
	s.editKeys(s.master, func(ctx context.Context) error { return s.master.w.SetMembers(ctx, want) })
}

// tidyMarks takes marks away: off the master, where a change that failed left it, and off plain domains, once the cluster knows of
// the master that they name.
func (s *session) tidyMarks() {
	if s.recordedSoon() != nil || !s.moving.TryLock() {
		return // later
	}
	defer s.moving.Unlock()
	mine := s.master.dom.Master()
	if mine.Next.Domain != "" {
		s.editKeys(s.master, func(ctx context.Context) error { return s.master.w.AnnounceMaster(ctx, domain.NextMaster{}) })
	}
	for _, d := range s.domains()[1:] {
		if st := d.dom.Master(); !st.Master && st.Next.Domain != "" && st.Next.Version <= mine.Version {
			s.editKeys(d, func(ctx context.Context) error { return d.w.AnnounceMaster(ctx, domain.NextMaster{}) })
		}
	}
}

// editKeys is a change of a domain's keys as a request in flight. What fails is tried again later.
func (s *session) editKeys(d *served, fn func(ctx context.Context) error) {
	if d.enter(d.ctx) != nil {
		return
	}
	defer d.leave()
	ctx, cancel := context.WithTimeout(d.ctx, s.r.cfg.StepTimeout)
	defer cancel()
	if err := fn(ctx); err != nil && d.ctx.Err() == nil {
		d.doubtful(err)
		s.r.cfg.Log.Warn("changing the keys of a domain", "domain", d.id, "err", s.r.refine(d, err))
	}
}

// MembersOf makes of the mirror's domains what the keys of the master list. A domain that is not to be used is attached only.
func MembersOf(list []fsm.Domain) []domain.MemberStatus {
	out := make([]domain.MemberStatus, 0, len(list))
	for _, d := range list {
		status := domain.PoolActive
		if slices.Contains([]string{"maintenance", "preparing_maintenance", "activating"}, d.Status) {
			status = domain.PoolAttached
		}
		out = append(out, domain.MemberStatus{ID: d.ID, Status: status})
	}
	return out
}
