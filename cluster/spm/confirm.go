package spm

import (
	"context"
	"fmt"
	"maps"
)

// MasterRecord is what the cluster says about the pool's master.
type MasterRecord struct {
	Domain  string
	Version int
}

// holds are the lockspaces in which our host id is held now, by domain, with its generation there.
func (r *Role) holds() map[string]uint64 {
	h := map[string]uint64{}
	if r.cfg.Others == nil {
		return h
	}
	for _, id := range r.cfg.Others.List() {
		if g := r.cfg.Others.Held(id); g != 0 {
			h[id] = g
		}
	}
	return h
}

// confirm makes sure that our master is the pool's still, before a domain is served in whose lockspace we were not all the time: meanwhile
// the others may have found us dead in every lockspace but the master's, and given that up, so that another SPM serves the domain. Our
// host id is held there now, under generation; the question begins after that, so that whoever gives the master up later finds us alive.
func (s *session) confirm(ctx context.Context, id string, generation uint64) error {
	if s.r.cfg.Masters == nil || s.r.bug == bugUnconfirmed || s.heldSince(id, generation) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	rec, err := s.r.cfg.Masters.Confirm(ctx)
	if err != nil {
		return &unconfirmedError{err}
	}
	if why := s.replaced(rec); why != "" {
		s.fail(why)
		return fmt.Errorf("%s: %w", why, ErrChanged)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[id] = generation
	return nil
}

// heldSince says whether our host id has been held in the domain's lockspace since our master was known to be the pool's.
func (s *session) heldSince(id string, generation uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return generation != 0 && s.held[id] == generation
}

// inherit takes over what the session before knew of this; its master was ours.
func (s *session) inherit(before *session) {
	before.mu.Lock()
	defer before.mu.Unlock()
	s.held = maps.Clone(before.held)
}

// replaced says that the pool has another master than ours; empty: it has not. A change of ours that the cluster has not heard of is none.
func (s *session) replaced(rec MasterRecord) string {
	ours := rec.Domain == s.master.id || s.former != nil && rec.Domain == s.former.change.From
	if ours && rec.Version <= s.version {
		return ""
	}
	return fmt.Sprintf("the pool has another master, %s of version %d; this host served under %s of version %d", rec.Domain, rec.Version, s.master.id, s.version)
}

// unconfirmedError is ErrMasterUnconfirmed with what became of the question, of which nothing follows for a request that waits: its
// outcome may be unknown, that of the request is not.
type unconfirmedError struct{ cause error }

// Error says what is waited for.
func (e *unconfirmedError) Error() string {
	return fmt.Sprintf("%v: %v", ErrMasterUnconfirmed, e.cause)
}

// Is makes the error match ErrMasterUnconfirmed.
func (e *unconfirmedError) Is(target error) bool { return target == ErrMasterUnconfirmed }
