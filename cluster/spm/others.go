package spm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/fsm"
)

// Others are the pool's domains besides the master.
type Others interface {
	// List names the domains to serve, by id.
	List() []string
	// Changed is closed when List may have changed since the call.
	Changed() <-chan struct{}
	// Open reads a domain anew and tells whether our host id is held in its lockspace. It may wait for that until ctx
	// ends.
	Open(ctx context.Context, id string) (Domain, blockdev.Guard, error)
	// Held is the generation under which our host id is held in a domain's lockspace now, as the guard of Open has it as epoch; 0: it is
	// not. Losing the host id and taking it again makes another one.
	Held(id string) uint64
}

// standing is what a session knows of a domain besides the master. session.mu guards it.
type standing struct {
	id       string
	opening  bool
	domain   *served // nil while it is not served
	base     uint64  // what the epoch's last writer of it had counted to
	failures int     // in a row
	retryAt  time.Time
	err      error // the last failure
}

// maxOpening bounds how many domains are opened at the same time.
const maxOpening = 4

// follow opens the other domains, those that are added later, and again those that could not be served, until the
// session ends. A domain that hangs holds up nobody but those that wait for a place to be opened.
func (s *session) follow() {
	places := make(chan struct{}, maxOpening)
	for {
		changed := s.r.cfg.Others.Changed()
		s.mu.Lock()
		news := s.news
		s.mu.Unlock()
		list := s.r.cfg.Others.List()
		s.retire(list)
		t := time.NewTimer(s.openMissing(list, places))
		select {
		case <-s.ctx.Done():
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

// openMissing begins to open what is due and returns when the next one is.
func (s *session) openMissing(list []string, places chan struct{}) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, now := time.Hour, s.r.cfg.Now()
	for _, id := range list {
		if id == s.master.id || s.shut {
			continue
		}
		st := s.others[id]
		if st == nil {
			st = &standing{id: id, base: s.bases[id]}
			s.others[id] = st
		}
		switch wait := st.retryAt.Sub(now); {
		case st.opening || st.domain != nil:
		case wait > 0:
			next = min(next, wait)
		default:
			st.opening = true
			s.wg.Go(func() { s.open(st, places) })
		}
	}
	return next
}

// retire ends serving of domains that are not on the list any more.
func (s *session) retire(list []string) {
	for _, d := range s.domains()[1:] {
		if !slices.Contains(list, d.id) {
			d.leaveToOthers()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, st := range s.others {
		if !slices.Contains(list, id) && !st.opening && st.domain == nil {
			delete(s.others, id)
		}
	}
}

// open opens one domain and serves it.
func (s *session) open(st *standing, places chan struct{}) {
	select {
	case places <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	d, err := s.openServed(st)
	<-places
	failures, before := s.opened(st, d, err)
	waits := errors.Is(err, ErrMasterUnconfirmed) && !errors.Is(before, ErrMasterUnconfirmed)
	switch {
	case s.ctx.Err() != nil:
	case err != nil && !slices.Contains(s.r.cfg.Others.List(), st.id): // it is not to be served any more
	case err != nil && (failures == 1 || waits):
		s.tell(fsm.Error, "domain.unserved", st.id, err.Error(), fmt.Sprintf("the SPM cannot serve domain %s, other domains go on: %v", st.id, err))
	case err != nil:
		s.r.cfg.Log.Warn("domain cannot be served yet", "domain", st.id, "failures", failures, "err", err)
	case failures > 0:
		s.tell(fsm.Info, "domain.served", st.id, "what kept it from being served is gone", "the SPM serves domain "+st.id+" again")
	}
}

// openServed does the steps from the LUN to a domain that may be served.
func (s *session) openServed(st *standing) (*served, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.r.cfg.StepTimeout)
	defer cancel()
	// Writes of an earlier writer may still land; what is read before they have come back proves nothing.
	if err := settle(ctx, func() int { return s.r.cfg.PendingOn(st.id) }); err != nil {
		return nil, err
	}
	dom, space, err := s.r.cfg.Others.Open(ctx, st.id)
	if err != nil {
		return nil, fmt.Errorf("opening the domain: %w", err)
	}
	if err := s.rival(st.id, dom); err != nil {
		return nil, err
	}
	if err := s.confirm(ctx, st.id, space.Epoch()); err != nil {
		return nil, err
	}
	t, err := s.throneOf(ctx, st.id, dom)
	if err != nil {
		return nil, err
	}
	defer t.leave()
	guard := bothGuard{spm: s.guard, space: space}
	w, recovered, err := dom.BecomeWriter(ctx, guard)
	if err != nil {
		return nil, fmt.Errorf("becoming the writer of the domain: %w", err)
	}
	if err := t.clear(ctx, w); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	info := dom.Info()
	s.r.cfg.Log.Info("serving domain", "domain", info.UUID, "name", info.Name, "epoch", s.epoch, "volumes", info.Volumes, "recovered", len(recovered.Actions))
	s.mu.Lock()
	base := st.base
	s.mu.Unlock()
	d := newServed(s, info, dom, w, guard, base)
	d.reconcile()
	return d, nil
}

// opened takes over what came of an opening. It returns how many had failed in a row, and why the one before did.
func (s *session) opened(st *standing, d *served, err error) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.opening = false
	failures, before := st.failures, st.err
	if err != nil {
		st.failures++
		st.err, st.retryAt = err, s.r.cfg.Now().Add(s.r.cfg.RetryDomain)
		s.announce()
		return st.failures, before
	}
	st.domain, st.failures, st.err = d, 0, nil
	if s.shut {
		d.close() // the session closed its domains before this one was among them
	}
	d.run()
	s.announce()
	return failures, before
}

// announce wakes those that wait for a domain. Caller holds mu.
func (s *session) announce() {
	close(s.news)
	s.news = make(chan struct{})
}

// fail ends serving one domain. Of the master it ends the session; another one is opened again later.
func (d *served) fail(reason string) {
	if d == d.s.master {
		d.s.fail(reason)
		return
	}
	if !d.close() {
		return
	}
	d.cancel(errors.New(reason))
	d.s.tell(fsm.Error, "domain.unserved", d.id, reason, fmt.Sprintf("the SPM stopped serving domain %s, other domains go on: %s", d.name, reason))
	d.s.spawn(func() { d.s.drop(d, reason) })
}

// leaveToOthers ends serving a domain that is not to be served any more, when what is under way on it has ended.
func (d *served) leaveToOthers() {
	if !d.close() {
		return
	}
	const reason = "it is not to be used any more"
	d.s.tell(fsm.Info, "domain.retired", d.id, reason, fmt.Sprintf("the SPM stops serving domain %s: %s", d.name, reason))
	d.s.spawn(func() { d.s.drop(d, reason) })
}

// spawn runs fn as a goroutine of the session, unless that is ending and cleans up itself.
func (s *session) spawn(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shut {
		s.wg.Go(fn)
	}
}

// drop cleans up after a domain that failed, so that it can be opened again.
func (s *session) drop(d *served, reason string) {
	<-d.idle
	if err := d.end(errors.New(reason)); err != nil {
		s.r.cfg.Log.Warn("closing a domain that failed", "domain", d.id, "err", err)
	}
	s.names.unload(d.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.others[d.id]; st != nil && st.domain == d {
		st.domain, st.base = nil, d.seq()
		s.bases[d.id] = st.base // the list may not name it for a while
		st.failures, st.err, st.retryAt = 1, errors.New(reason), s.r.cfg.Now().Add(s.r.cfg.RetryDomain)
		s.announce()
	}
}

// tell records an event in the background.
func (s *session) tell(severity, kind, subject, reason, message string) {
	s.r.cfg.Log.Warn(message, "kind", kind, "domain", subject, "reason", reason)
	s.spawn(func() {
		ctx, cancel := context.WithTimeout(s.ctx, applyTimeout)
		defer cancel()
		if err := s.r.cfg.Report(ctx, fsm.Event{Severity: severity, Kind: kind, Subject: subject, Message: message, Reason: reason,
			Host: s.r.cfg.Host, Epoch: s.epoch, Time: s.r.cfg.Now().UnixNano()}); err != nil {
			s.r.cfg.Log.Warn("recording an event", "kind", kind, "err", err)
		}
	})
}

// domain finds what a request is for: by id or name; empty is the master. It waits a little for a domain that is
// being opened.
func (s *session) domain(ctx context.Context, idOrName string) (*served, error) {
	if idOrName == "" || idOrName == s.master.id || idOrName == s.master.name {
		return s.master, nil
	}
	if err := s.r.cfg.Refused(idOrName); err != nil {
		return nil, err
	}
	t := time.NewTimer(s.r.cfg.OpenWait)
	defer t.Stop()
	for {
		d, news, err := s.look(idOrName)
		if d != nil || news == nil {
			return d, err
		}
		select {
		case <-news:
			continue
		case <-t.C:
		case <-s.ctx.Done():
		case <-ctx.Done():
		}
		return nil, fmt.Errorf("domain %s is being opened, try again in a moment: %w", idOrName, ErrDomainDown)
	}
}

// look finds a domain among those served. A channel says that waiting for it may help.
func (s *session) look(idOrName string) (*served, <-chan struct{}, error) {
	listed := s.r.cfg.Others != nil && slices.Contains(s.r.cfg.Others.List(), idOrName)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, st := range s.others {
		if st.domain != nil && (id == idOrName || st.domain.name == idOrName) {
			return st.domain, nil, nil
		}
	}
	st := s.others[idOrName]
	switch {
	case s.shut:
		return nil, nil, s.r.notSPM("the role is being given up")
	case st != nil && st.err != nil:
		return nil, nil, fmt.Errorf("domain %s cannot be served, it is tried again: %w: %w", idOrName, ErrDomainDown, st.err)
	case st != nil || listed:
		return nil, s.news, nil
	}
	return nil, nil, fmt.Errorf("domain %q: %w", idOrName, ErrNoDomain)
}

// holding is the domain that a request about a volume is for: the one it names, else the one that has the volume.
func (s *session) holding(ctx context.Context, idOrName, volume string) (*served, error) {
	if idOrName != "" {
		return s.domain(ctx, idOrName)
	}
	return s.having(ctx, volume)
}

// having finds the domain that holds a volume. It says that there is none only when every domain could be looked at.
func (s *session) having(ctx context.Context, id string) (*served, error) {
	for _, d := range s.domains() {
		if _, ok := d.dom.Volume(id); ok {
			return d, nil
		}
	}
	if s.r.cfg.Others == nil {
		return s.master, nil
	}
	for _, other := range s.r.cfg.Others.List() {
		d, err := s.domain(ctx, other)
		if err != nil {
			return nil, fmt.Errorf("volume %s is on no domain that is served: %w", id, err)
		}
		if _, ok := d.dom.Volume(id); ok {
			return d, nil
		}
	}
	return s.master, nil // which says that there is none
}

// bothGuard is the right to write a domain besides the master: the SPM lease, and our host id held in its lockspace.
type bothGuard struct{ spm, space blockdev.Guard }

// Epoch is that of the SPM lease.
func (g bothGuard) Epoch() uint64 { return g.spm.Epoch() }

// Check asks both.
func (g bothGuard) Check(need time.Duration) error {
	if err := g.spm.Check(need); err != nil {
		return err
	}
	return g.space.Check(need)
}
