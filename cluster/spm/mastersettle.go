package spm

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
)

// settleMaster makes sure, under the lease of a domain, that this domain is the pool's master by what is on the disks. A change of
// the master that was cut short is finished, or undone. DESIGN.md has the table.
func (r *Role) settleMaster(ctx context.Context, s *session, req StartRequest) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.StepTimeout)
	defer cancel()
	st := s.master.dom.Master()
	marked := st.Next.Domain != "" && !(req.Assume && st.Next.Version <= req.MasterVersion)
	switch {
	case marked && !st.Master:
		return s.finishMove(ctx, st.Next)
	case marked:
		return s.resolveMove(ctx, st.Next)
	case !st.Master && !req.Assume:
		return fmt.Errorf("domain %s (%s): %w; see domain list for the pool's domains, and which of them is to be master", s.master.name, s.master.id, ErrNotMaster)
	case !st.Master, st.Damage != "", st.Version < req.MasterVersion, st.Next.Domain != "":
		return s.assumeMaster(ctx, st, req)
	}
	return nil
}

// resolveMove looks how a change of the master ended. The new master's own keys tell.
func (s *session) resolveMove(ctx context.Context, next domain.NextMaster) error {
	if s.r.cfg.Others == nil {
		return fmt.Errorf("master %s may have been followed by %s: %w", s.master.id, next.Domain, ErrMasterUnclear)
	}
	dom, _, err := s.r.cfg.Others.Open(ctx, next.Domain)
	if err != nil {
		return fmt.Errorf("master %s may have been followed by %s: %w; make its LUNs readable, or if they are lost for good, see domain set-master --reconstruct: %w",
			s.master.id, next.Domain, ErrMasterUnclear, err)
	}
	if st := dom.Master(); st.InForce(s.poolOf()) && st.Version >= next.Version {
		return s.finishMove(ctx, next)
	}
	if err := s.master.w.AnnounceMaster(ctx, domain.NextMaster{}); err != nil {
		return fmt.Errorf("undoing a change of the master that was cut short: %w", err)
	}
	s.tell(fsm.Warning, "master.undone", s.master.id, "the domain that was to follow is not the master on its disk", fmt.Sprintf("a change of the pool's master from %s to %s was cut short before it took effect; %s stays the master",
		s.master.id, next.Domain, s.master.id))
	return nil
}

// finishMove does what was left of a change of the master that took effect: its own domain steps down, and the cluster is told. It
// always ends in an error, because this host holds the lease of a domain that is the master no more.
func (s *session) finishMove(ctx context.Context, next domain.NextMaster) error {
	if err := s.master.w.StepDown(ctx); err != nil {
		return fmt.Errorf("finishing a change of the master: %w", err)
	}
	change := MasterChange{From: s.master.id, To: next.Domain, Version: next.Version, By: s.r.cfg.Host,
		Reason: "finishing a change of the master that was cut short"}
	if _, err := s.r.cfg.Masters.Record(ctx, change); err != nil {
		return fmt.Errorf("recording that domain %s is the pool's master: %w", next.Domain, err)
	}
	if err := s.master.w.AnnounceMaster(ctx, domain.NextMaster{}); err != nil {
		s.r.cfg.Log.Warn("the mark of a finished change of the master stays; whoever serves the domain takes it away", "domain", s.master.id, "err", err)
	}
	return fmt.Errorf("%s, since version %d: %w", next.Domain, next.Version, ErrMasterMoved)
}

// assumeMaster makes the domain the master that the mirror says it is: the last one was given up for lost, so that no disk can tell.
func (s *session) assumeMaster(ctx context.Context, st domain.MasterState, req StartRequest) error {
	spec := domain.MasterSpec{Pool: s.poolOf(), PoolName: s.r.cfg.PoolName, Version: max(req.MasterVersion, st.Version, 1), Members: s.r.cfg.Masters.Members()}
	if st.Master {
		spec.From = s.master.dom.Keys()
		if st.PoolName != "" {
			spec.PoolName = st.PoolName
		}
	} else if err := s.master.w.ClearMailbox(ctx); err != nil {
		return err
	}
	if err := s.master.settled(ctx); err != nil {
		return err
	}
	if err := s.master.w.BecomeMaster(ctx, spec); err != nil {
		return err
	}
	s.tell(fsm.Warning, "master.assumed", s.master.id, req.Reason, fmt.Sprintf("domain %s (%s) is the pool's master now, with version %d: %s", s.master.name, s.master.id, spec.Version, req.Reason))
	return nil
}

// poolOf is the pool's UUID.
func (s *session) poolOf() string { return s.r.cfg.Pool }
