package main

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/extend"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/mailbox"
)

// Waits of an extension that another host carries out.
const (
	// volumeWait is how long a volume that the mirror does not know yet is waited for: a host may be asked for one that was made
	// through another a moment ago.
	volumeWait = time.Second
	// showWait is how long the mirror is waited for to show the new size.
	showWait = 2 * time.Second
)

// ExtendVolume makes a volume larger, and its mapping if it is attached on this host: the network may be down, which tells the others by
// the mirror.
func (b *backend) ExtendVolume(ctx context.Context, idOrName string, req api.VolumeExtend) (api.VolumeExtended, error) {
	v, err := b.extendVolume(ctx, idOrName, req)
	if err != nil {
		return v, err
	}
	if err := b.attached.Refresh(ctx, v.Domain, v.ID, v.Allocated); err != nil {
		b.log.Warn("an attached volume was extended, and cannot use it yet; this is tried again", "volume", v.ID, "error", err)
	}
	return v, nil
}

// extendVolume is the SPM's part. On the SPM it is done here; elsewhere this host asks the SPM on whatever way there is.
func (b *backend) extendVolume(ctx context.Context, idOrName string, req api.VolumeExtend) (api.VolumeExtended, error) {
	if r := b.host.Role(); r != nil && r.Status().State == spm.StateServing && !req.ThroughStorage {
		return b.extendHere(ctx, r, idOrName, req)
	}
	v, err := b.awaitVolume(ctx, idOrName)
	if err != nil {
		return api.VolumeExtended{}, err
	}
	err = b.host.AskExtend(ctx, extend.Request{Domain: v.Domain, Volume: v.ID, Size: req.Size, Paused: req.Paused,
		SecondsToFull: req.SecondsToFull, Wait: time.Duration(req.WaitSeconds) * time.Second, StorageOnly: req.ThroughStorage})
	if err != nil {
		return api.VolumeExtended{}, extendError(err)
	}
	return b.extended(ctx, v, req.Size)
}

// extendHere extends a volume as SPM.
func (b *backend) extendHere(ctx context.Context, r *spm.Role, idOrName string, req api.VolumeExtend) (api.VolumeExtended, error) {
	id, dom, err := b.volumeToChange(r, idOrName)
	if err != nil {
		return api.VolumeExtended{}, err
	}
	rep, err := r.ExtendVolume(ctx, spm.ExtendRequest{Domain: dom, Volume: id, Size: req.Size, Paused: req.Paused,
		SecondsToFull: req.SecondsToFull, Wait: time.Duration(req.WaitSeconds) * time.Second})
	if err != nil {
		return api.VolumeExtended{}, extendError(err)
	}
	out := api.VolumeExtended{Volume: apiVolume(spm.MirrorVolume(rep.Domain, rep.Volume)), Mirrored: rep.Mirrored, Index: rep.Index}
	out.Epoch = rep.Epoch
	return out, nil
}

// awaitVolume finds a volume in the mirror, and waits a little for one that is not there yet.
func (b *backend) awaitVolume(ctx context.Context, idOrName string) (fsm.Volume, error) {
	n, err := b.node()
	if err != nil {
		return fsm.Volume{}, err
	}
	t := time.NewTimer(volumeWait)
	defer t.Stop()
	for {
		changed := n.Changed()
		v, err := findVolume(n.View(), idOrName)
		var e *api.Error
		if err == nil || !errors.As(err, &e) || e.Code != api.CodeNotFound {
			return v, err
		}
		select {
		case <-changed:
			continue
		case <-t.C:
		case <-ctx.Done():
		}
		return v, err
	}
}

// extended waits a little until the mirror shows that the volume is as large as asked. Without a quorum it does not: then the
// answer is what the SPM has surely done.
func (b *backend) extended(ctx context.Context, v fsm.Volume, size int64) (api.VolumeExtended, error) {
	n, err := b.node()
	if err != nil {
		return api.VolumeExtended{}, err
	}
	t := time.NewTimer(showWait)
	defer t.Stop()
	for {
		changed := n.Changed()
		st := n.View()
		if now, err := findVolume(st, v.ID); err == nil && now.Allocated >= size {
			return api.VolumeExtended{Volume: apiVolume(now), Mirrored: true, Index: st.Index}, nil
		}
		if _, led := n.Leader(); led {
			select {
			case <-changed:
				continue
			case <-t.C:
			case <-ctx.Done():
			}
		}
		out := api.VolumeExtended{Volume: apiVolume(v)}
		out.Allocated = max(v.Allocated, wholeExtents(st, v.Domain, size))
		return out, nil
	}
}

// wholeExtents is a size as the SPM rounds it up.
func wholeExtents(st *fsm.State, domainID string, size int64) int64 {
	d, ok := st.Domains.Get(domainID)
	if !ok || d.ExtentSize <= 0 {
		return size
	}
	return (size + d.ExtentSize - 1) / d.ExtentSize * d.ExtentSize
}

// extendError gives the errors of an extension their codes.
func extendError(err error) error {
	var full *spm.OutOfSpaceError
	switch {
	case errors.As(err, &full):
		next := "add a LUN to the domain or delete volumes; the request is kept and served then"
		if !full.Queued {
			next = "add a LUN to the domain or delete volumes, then ask again"
		}
		return &api.Error{Code: api.CodeOutOfSpace, Message: err.Error(), NextStep: next, Queued: full.Queued, RetryAfter: time.Second}
	case errors.Is(err, domain.ErrNoSpace):
		return &api.Error{Code: api.CodeOutOfSpace, Message: err.Error(), NextStep: "add a LUN to the domain or delete volumes, then ask again"}
	case errors.Is(err, extend.ErrNoAnswer), errors.Is(err, extend.ErrClosed), errors.Is(err, mailbox.ErrRefused),
		errors.Is(err, mailbox.ErrWithdrawn), errors.Is(err, mailbox.ErrStopped):
		return api.Errorf(api.CodeOutcomeUnknown, "look at the volume's size, and ask again: that is harmless", "%v", err)
	}
	return apiError(err)
}
