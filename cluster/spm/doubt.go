package spm

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// doubtful reports whether err leaves the writer in doubt about the disk, and if so starts reading it again. New
// requests wait until that is done; when it cannot be done the role is given up.
func (s *session) doubtful(err error) bool {
	if !errors.Is(err, domain.ErrOutcomeUnknown) && !errors.Is(err, domain.ErrStalled) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doubt == nil {
		s.doubt = make(chan struct{})
		s.wg.Go(s.reread) // the request is in flight, so nobody waits for wg yet
	}
	return true
}

// reread waits until every submitted write has come back, reads the disk and reconciles the mirror.
func (s *session) reread() {
	ctx, cancel := context.WithTimeout(s.ctx, s.r.cfg.StepTimeout)
	defer cancel()
	err := s.refresh(ctx)
	s.mu.Lock()
	close(s.doubt)
	s.doubt = nil
	s.mu.Unlock()
	if err != nil {
		s.fail("the disk could not be read again after a doubtful write: " + err.Error())
	}
}

// refresh is the work of reread.
func (s *session) refresh(ctx context.Context) error {
	if err := s.r.settled(ctx); err != nil {
		return err
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	if _, err := s.w.Refresh(ctx); err != nil {
		return fmt.Errorf("reading the domain again: %w", err)
	}
	s.box.replace()
	return nil
}

// resolved waits until the disk was read again; otherwise the outcome stays what cause says.
func (s *session) resolved(ctx context.Context, cause error) error {
	s.mu.Lock()
	doubt := s.doubt
	s.mu.Unlock()
	if doubt != nil {
		select {
		case <-doubt:
		case <-ctx.Done():
			return cause
		}
	}
	if s.ctx.Err() != nil {
		return cause
	}
	return nil
}

// createdAfterAll tells whether a create with unknown outcome happened.
func (s *session) createdAfterAll(ctx context.Context, id string, cause error) (domain.Volume, error) {
	if err := s.resolved(ctx, cause); err != nil {
		return domain.Volume{}, err
	}
	if vol, ok := s.dom.Volume(id); ok && vol.State == domain.StateOK {
		return vol, nil
	}
	return domain.Volume{}, fmt.Errorf("volume %s: %w", id, ErrNotCommitted)
}

// removedAfterAll tells whether a delete with unknown outcome happened.
func (s *session) removedAfterAll(ctx context.Context, id string, cause error) (domain.VolumeRemoved, error) {
	if err := s.resolved(ctx, cause); err != nil {
		return domain.VolumeRemoved{}, err
	}
	if _, ok := s.dom.Volume(id); !ok {
		return domain.VolumeRemoved{ID: id, Epoch: s.epoch, Seq: s.w.Seq()}, nil
	}
	return domain.VolumeRemoved{}, fmt.Errorf("deleting volume %s: %w", id, ErrNotCommitted)
}
