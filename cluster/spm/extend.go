package spm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// ExtendRequest asks for a volume that is larger on the domain. What the guest sees of it stays the same.
type ExtendRequest struct {
	Domain string `json:"domain"` // UUID or name; empty: it is looked for
	Volume string `json:"volume"` // UUID
	Size   int64  `json:"size"`   // bytes that the volume is to have at least
	// Paused says that a guest stands still until then, SecondsToFull how soon one will; 0: nobody knows. They decide who goes
	// first when space is short.
	Paused        bool    `json:"paused,omitempty"`
	SecondsToFull float64 `json:"seconds_to_full,omitempty"`
	// Wait is how long the caller waits for space when there is none. Without it the answer comes at once; the request is kept
	// in both cases.
	Wait time.Duration `json:"wait_ns,omitempty"`
	// Unmirrored answers as soon as the volume is larger on disk. The mirror follows.
	Unmirrored bool `json:"unmirrored,omitempty"`
}

// check refuses what can never work.
func (q ExtendRequest) check() error {
	switch _, err := uuid.Parse(q.Volume); {
	case err != nil:
		return invalidf("volume id %q is not a UUID", q.Volume)
	case q.Size <= 0:
		return invalidf("size is %d bytes, it must be greater than 0", q.Size)
	case !(q.SecondsToFull >= 0): // not a number either
		return invalidf("seconds_to_full is %g, it must not be negative", q.SecondsToFull)
	case q.Wait < 0:
		return invalidf("wait is %v, it must not be negative", q.Wait)
	}
	return nil
}

// ExtendVolume makes a volume at least as large as asked, on disk and in the mirror. One that is as large already is no error,
// so the same request again is harmless. Without a domain it looks in all of them. Where the domain has no room the request is
// kept and served when there is: OutOfSpaceError says so. Other errors that do not match blockdev.ErrOutcomeUnknown mean that
// nothing has changed.
func (r *Role) ExtendVolume(ctx context.Context, req ExtendRequest) (VolumeReply, error) {
	if err := req.check(); err != nil {
		return VolumeReply{}, err
	}
	s, err := r.serving()
	if err != nil {
		return VolumeReply{}, err
	}
	return s.extendVolume(ctx, req)
}

// extendVolume carries out a request that was checked.
func (s *session) extendVolume(ctx context.Context, req ExtendRequest) (VolumeReply, error) {
	d, err := s.holding(ctx, req.Domain, req.Volume)
	if err != nil {
		return VolumeReply{}, err
	}
	rep, queued, err := d.extendOrWait(ctx, req)
	if err != nil || req.Unmirrored || queued == nil {
		return rep, err
	}
	rep.Index, rep.Mirrored = d.mirrored(ctx, queued)
	return rep, nil
}

// extendOrWait extends at once, or as soon as there is space and the request's turn has come.
func (d *served) extendOrWait(ctx context.Context, req ExtendRequest) (VolumeReply, <-chan uint64, error) {
	if d.short.empty() || d.has(req) {
		rep, queued, err := d.extend(ctx, req)
		if !errors.Is(err, domain.ErrNoSpace) {
			return rep, queued, err
		}
	}
	return d.short.wait(ctx, req)
}

// extend makes one volume larger, if there is room now.
func (d *served) extend(ctx context.Context, req ExtendRequest) (VolumeReply, <-chan uint64, error) {
	return d.s.r.changeNow(ctx, d, func(ctx context.Context) (domain.Volume, <-chan uint64, error) {
		had := d.has(req)
		vol, err := d.grow(ctx, req)
		if d.doubtful(err) {
			vol, err = d.extendedAfterAll(ctx, req, err)
		}
		if err != nil || had && req.Unmirrored {
			return vol, nil, err
		}
		return vol, d.box.put(d.stamped(vol)), nil
	})
}

// has tells whether the volume is known to be as large as asked.
func (d *served) has(req ExtendRequest) bool {
	v, ok := d.dom.Volume(req.Volume)
	return ok && v.AllocatedBytes >= req.Size
}

// grow writes to the disk.
func (d *served) grow(ctx context.Context, req ExtendRequest) (domain.Volume, error) {
	d.disk.RLock()
	defer d.disk.RUnlock()
	return d.w.Extend(ctx, req.Volume, req.Size)
}

// extendedAfterAll tells whether an extension with unknown outcome happened. Volumes never become smaller, so the size says it.
func (d *served) extendedAfterAll(ctx context.Context, req ExtendRequest, cause error) (domain.Volume, error) {
	if err := d.resolved(ctx, cause); err != nil {
		return domain.Volume{}, err
	}
	if v, ok := d.dom.Volume(req.Volume); ok && v.AllocatedBytes >= req.Size {
		return v, nil
	}
	return domain.Volume{}, fmt.Errorf("extending volume %s: %w", req.Volume, ErrNotCommitted)
}
