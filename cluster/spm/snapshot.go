package spm

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// SnapshotRequest asks for a new leaf on that of an image.
type SnapshotRequest struct {
	// Key makes a repetition of the same request give the same volume. Empty: every request is a new one.
	Key    string
	Domain string // UUID or name; empty: whichever has the image
	Image  string // UUID
	Name   string // of the new volume; empty: that of the leaf
	// LiveOn is the host that holds the leaf, whose guest goes over to the new volume; empty: a leaf that is held is refused.
	LiveOn string
}

// Snapshot makes a volume on the leaf of an image; from then on the old leaf keeps what it holds. An image whose leaf somebody uses is
// refused. When it fails with an error that does not match blockdev.ErrOutcomeUnknown, there is no new volume by this request.
func (r *Role) Snapshot(ctx context.Context, req SnapshotRequest) (VolumeReply, error) {
	if _, err := uuid.Parse(req.Image); err != nil {
		return VolumeReply{}, invalidf("image %q is not a UUID", req.Image)
	}
	if len(req.Key) > maxKeyBytes {
		return VolumeReply{}, invalidf("the idempotency key has %d bytes, at most %d are taken", len(req.Key), maxKeyBytes)
	}
	if req.Name != "" {
		if err := checkName(CreateRequest{Name: req.Name}); err != nil {
			return VolumeReply{}, err
		}
	}
	s, err := r.serving()
	if err != nil {
		return VolumeReply{}, err
	}
	d, err := s.imaging(ctx, req.Domain, req.Image)
	if err != nil {
		return VolumeReply{}, err
	}
	id := deriveID(r.cfg.Pool, "snapshot", req.Key)
	return r.change(ctx, d, func(ctx context.Context) (domain.Volume, <-chan uint64, error) {
		spec, err := d.snapshotSpec(id, req)
		if err != nil {
			return domain.Volume{}, nil, err
		}
		spec.LiveOn = r.liveHolder(req.LiveOn)
		vol, err := d.makeNamed(ctx, spec, d.overlay)
		if err != nil {
			return vol, nil, err
		}
		return vol, d.box.put(d.withParent(vol)...), nil
	})
}

// imaging is the domain that has an image: the one that is named, else the one with a volume of it.
func (s *session) imaging(ctx context.Context, idOrName, image string) (*served, error) {
	if idOrName != "" {
		return s.domain(ctx, idOrName)
	}
	for _, d := range s.domains() {
		for _, v := range d.dom.Volumes() {
			if v.Image == image {
				return d, nil
			}
		}
	}
	return nil, fmt.Errorf("image %s is on no domain that is served: %w", image, domain.ErrNotFound)
}

// snapshotSpec says what volume a snapshot is. One that is there already, made by the same request before, is what it is.
func (d *served) snapshotSpec(id string, req SnapshotRequest) (domain.VolumeSpec, error) {
	if v, ok := d.dom.Volume(id); ok && v.Image == req.Image && v.State == domain.StateOK {
		return domain.VolumeSpec{ID: id, Image: v.Image, Name: v.Name, Description: v.Description, Format: v.Format,
			Allocation: v.Allocation, Parent: v.Parent, Capacity: v.Capacity}, nil
	}
	leaf, err := leafOf(d.dom.Volumes(), req.Image)
	if err != nil {
		return domain.VolumeSpec{}, err
	}
	if leaf.DiskType == "OVFS" {
		return domain.VolumeSpec{}, fmt.Errorf("image %s is an OVF store of oVirt's engine: %w", req.Image, domain.ErrConflict)
	}
	spec := domain.VolumeSpec{ID: id, Image: leaf.Image, Name: leaf.Name, Description: leaf.Description, Format: domain.FormatQcow2,
		Allocation: domain.Sparse, Parent: leaf.ID, Capacity: leaf.Capacity, Sequence: leaf.Sequence + 1, DiskType: leaf.DiskType}
	if len(spec.DiskType) != 4 {
		spec.DiskType = "" // a number, as engines before 4.2 and virt-v2v wrote it
	}
	if req.Name != "" {
		spec.Name = req.Name
	}
	return spec, nil
}

// leafOf is the one volume of an image that can be written.
func leafOf(vols []domain.Volume, image string) (leaf domain.Volume, err error) {
	found, members := 0, 0
	for _, v := range vols {
		if v.Image != image {
			continue
		}
		members++
		switch {
		case v.State == domain.StateUnreadable:
			return leaf, fmt.Errorf("metadata of volume %s of image %s cannot be read (%s); domain check tells how to repair it: %w",
				v.ID, image, v.Problem, domain.ErrConflict)
		case v.VolType == domain.Leaf:
			leaf, found = v, found+1
		}
	}
	switch {
	case members == 0:
		return leaf, fmt.Errorf("image %s: %w", image, domain.ErrNotFound)
	case found == 0:
		return leaf, fmt.Errorf("image %s is a template, or has no leaf; domain check tells more: %w", image, domain.ErrConflict)
	case found > 1:
		return leaf, fmt.Errorf("image %s has %d leaves; domain check tells more: %w", image, found, domain.ErrConflict)
	}
	return leaf, nil
}

// overlay writes to the disk.
func (d *served) overlay(ctx context.Context, spec domain.VolumeSpec) (domain.Volume, error) {
	d.disk.RLock()
	defer d.disk.RUnlock()
	return d.w.Snapshot(ctx, spec)
}
