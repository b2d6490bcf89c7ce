package spm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// UpdateVolume changes the name or the description of a volume, on disk and in the mirror. Without a domain it looks in
// all of them. When it fails with an error that does not match blockdev.ErrOutcomeUnknown, nothing has changed; the same
// request again is harmless in any case.
func (r *Role) UpdateVolume(ctx context.Context, domainName, id string, edit domain.VolumeEdit) (VolumeReply, error) {
	if _, err := uuid.Parse(id); err != nil {
		return VolumeReply{}, invalidf("volume id %q is not a UUID", id)
	}
	if err := checkEdit(edit); err != nil {
		return VolumeReply{}, err
	}
	s, err := r.serving()
	if err != nil {
		return VolumeReply{}, err
	}
	d, err := s.holding(ctx, domainName, id)
	if err != nil {
		return VolumeReply{}, err
	}
	return r.change(ctx, d, func(ctx context.Context) (domain.Volume, <-chan uint64, error) {
		vol, err := d.updateNamed(ctx, id, edit)
		if err != nil {
			return vol, nil, err
		}
		return vol, d.box.put(d.stamped(vol)), nil
	})
}

// checkEdit holds the new texts to what a new volume's are held to.
func checkEdit(e domain.VolumeEdit) error {
	if e.Name == nil && e.Description == nil {
		return invalidf("nothing to change: give a name, a description, or both")
	}
	req := CreateRequest{Name: "unchanged"}
	if e.Name != nil {
		req.Name = *e.Name
	}
	if e.Description != nil {
		req.Description = *e.Description
	}
	return checkName(req)
}

// updateNamed changes a volume, to a name that no other domain has. Until the outcome is known both names are taken.
func (d *served) updateNamed(ctx context.Context, id string, edit domain.VolumeEdit) (domain.Volume, error) {
	release := func(error) {}
	if edit.Name != nil {
		old, ok := d.dom.Volume(id)
		if !ok {
			return old, fmt.Errorf("volume %s: %w", id, domain.ErrNotFound)
		}
		key, err := d.s.names.reserve(id, use{domain: d.id, name: *edit.Name, image: old.Image})
		if err != nil {
			return old, fmt.Errorf("renaming volume %s: %w", id, err)
		}
		release = func(err error) { d.s.names.release(key, err != nil && errors.Is(err, blockdev.ErrOutcomeUnknown)) }
	}
	vol, err := d.update(ctx, id, edit)
	if d.doubtful(err) {
		vol, err = d.updatedAfterAll(ctx, id, edit, err)
	}
	if err == nil {
		d.s.names.renamed(id, d.dom.Volume)
	}
	release(err)
	return vol, err
}

// update writes to the disk.
func (d *served) update(ctx context.Context, id string, edit domain.VolumeEdit) (domain.Volume, error) {
	d.disk.RLock()
	defer d.disk.RUnlock()
	return d.w.Update(ctx, id, edit)
}

// updatedAfterAll tells whether an update with unknown outcome happened. A volume that was changed once more since it was read
// again tells nothing: the update may have been there in between.
func (d *served) updatedAfterAll(ctx context.Context, id string, edit domain.VolumeEdit, cause error) (domain.Volume, error) {
	if err := d.resolved(ctx, cause); err != nil {
		return domain.Volume{}, err
	}
	vol, ok := d.dom.Volume(id)
	switch {
	case !ok || vol.Epoch != 0 || vol.State != domain.StateOK:
		return domain.Volume{}, cause
	case (edit.Name == nil || vol.Name == *edit.Name) && (edit.Description == nil || vol.Description == *edit.Description):
		return vol, nil // without a place of its own: the reconcile after the reading carries it
	}
	return domain.Volume{}, fmt.Errorf("updating volume %s: %w", id, ErrNotCommitted)
}
