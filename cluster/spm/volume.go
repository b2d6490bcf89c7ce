package spm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// CreateRequest asks for a new volume.
type CreateRequest struct {
	// Key makes a repetition of the same request give the same volume. Empty: every request is a new one.
	Key         string `json:"key"`
	Domain      string `json:"domain"` // UUID or name; empty: the master
	Name        string `json:"name"`
	Description string `json:"description"`
	Size        int64  `json:"size"` // bytes that the guest sees
	Format      string `json:"format"`
	Allocation  string `json:"allocation"`
	Image       string `json:"image"`
	Parent      string `json:"parent"`
	InitialSize int64  `json:"initial_size"`
}

// VolumeReply is the answer to a create or a delete.
type VolumeReply struct {
	Volume   domain.Volume `json:"volume"`
	Domain   string        `json:"domain"` // UUID
	Epoch    uint64        `json:"epoch"`
	Index    uint64        `json:"index"`    // Raft index of the mirror entry; 0 when not mirrored
	Mirrored bool          `json:"mirrored"` // false: on disk; the mirror follows
}

// CreateVolume makes a volume on disk and in the mirror. When it fails with an error that does not match
// blockdev.ErrOutcomeUnknown, the volume surely does not exist by this request.
func (r *Role) CreateVolume(ctx context.Context, req CreateRequest) (VolumeReply, error) {
	spec, err := r.spec(req)
	if err != nil {
		return VolumeReply{}, err
	}
	return r.change(ctx, req.Domain, func(ctx context.Context, s *session) (domain.Volume, <-chan uint64, error) {
		vol, err := s.create(ctx, spec)
		if s.doubtful(err) {
			vol, err = s.createdAfterAll(ctx, spec.ID, err)
		}
		if err != nil {
			return vol, nil, err
		}
		return vol, s.box.put(vol), nil
	})
}

// DeleteVolume removes a volume from disk and from the mirror.
func (r *Role) DeleteVolume(ctx context.Context, domainName, id string) (VolumeReply, error) {
	if _, err := uuid.Parse(id); err != nil {
		return VolumeReply{}, invalidf("volume id %q is not a UUID", id)
	}
	return r.change(ctx, domainName, func(ctx context.Context, s *session) (domain.Volume, <-chan uint64, error) {
		vol, ok := s.dom.Volume(id)
		if !ok {
			return vol, nil, fmt.Errorf("volume %s: %w", id, domain.ErrNotFound)
		}
		gone, err := s.remove(ctx, id)
		if s.doubtful(err) {
			gone, err = s.removedAfterAll(ctx, id, err)
		}
		if err != nil {
			return vol, nil, err
		}
		return vol, s.box.remove(gone), nil
	})
}

// change runs one request under the session: gate, disk, queue, and a bounded wait for the mirror.
func (r *Role) change(ctx context.Context, domainName string,
	fn func(context.Context, *session) (domain.Volume, <-chan uint64, error)) (VolumeReply, error) {
	s, err := r.serving()
	if err != nil {
		return VolumeReply{}, err
	}
	if info := s.dom.Info(); domainName != "" && domainName != info.UUID && domainName != info.Name {
		return VolumeReply{}, fmt.Errorf("domain %q is not served by this SPM: %w", domainName, domain.ErrNotFound)
	}
	if err := s.enter(ctx); err != nil {
		return VolumeReply{}, err
	}
	vol, queued, err := s.guarded(ctx, fn)
	if err != nil {
		return VolumeReply{}, r.refine(s, err)
	}
	rep := VolumeReply{Volume: vol, Domain: s.dom.Info().UUID, Epoch: s.epoch}
	rep.Index, rep.Mirrored = s.mirrored(ctx, queued)
	return rep, nil
}

// guarded runs fn as a request in flight.
func (s *session) guarded(ctx context.Context,
	fn func(context.Context, *session) (domain.Volume, <-chan uint64, error)) (domain.Volume, <-chan uint64, error) {
	defer s.leave()
	ctx, cancel := s.bind(ctx)
	defer cancel()
	ctx, cancel2 := context.WithTimeout(ctx, s.r.cfg.StepTimeout)
	defer cancel2()
	return fn(ctx, s)
}

// create writes to the disk. The mirror entry of a change is queued before the disk lock could be had exclusively,
// because a put or remove takes no lock of its own; a reconcile that comes between carries the change itself.
func (s *session) create(ctx context.Context, spec domain.VolumeSpec) (domain.Volume, error) {
	s.disk.RLock()
	defer s.disk.RUnlock()
	return s.w.Create(ctx, spec)
}

// remove writes to the disk.
func (s *session) remove(ctx context.Context, id string) (domain.VolumeRemoved, error) {
	s.disk.RLock()
	defer s.disk.RUnlock()
	return s.w.Remove(ctx, id)
}

// mirrored waits a little for the mirror.
func (s *session) mirrored(ctx context.Context, queued <-chan uint64) (uint64, bool) {
	t := time.NewTimer(s.r.cfg.MirrorWait)
	defer t.Stop()
	select {
	case index := <-queued:
		return index, true
	case <-t.C:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	select {
	case index := <-queued:
		return index, true
	default:
		return 0, false
	}
}

// refine makes of a disk error what a caller can act on.
func (r *Role) refine(s *session, err error) error {
	switch {
	case errors.Is(err, blockdev.ErrOutcomeUnknown):
		return fmt.Errorf("epoch %d: the change may or may not be on disk; ask again with the same key: %w", s.epoch, err)
	case errors.Is(err, blockdev.ErrLeaseLost):
		s.fail("a write was refused: " + err.Error())
		return errors.Join(r.notSPM("its lease was lost before the change"), err)
	case s.ctx.Err() != nil && !errors.Is(err, ErrNotSPM):
		return errors.Join(r.notSPM("the role was given up before the change"), err)
	}
	return err
}

// Volumes lists what is on disk, on the SPM only; other hosts have the mirror.
func (r *Role) Volumes() ([]domain.Volume, error) {
	s, err := r.serving()
	if err != nil {
		return nil, err
	}
	return s.dom.Volumes(), nil
}
