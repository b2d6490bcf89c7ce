package main

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/http/api"
)

// SnapshotImage makes a new leaf on that of an image; it runs on the SPM.
func (b *backend) SnapshotImage(ctx context.Context, idOrName string, req api.ImageSnapshot, key string) (api.VolumeCreated, error) {
	if _, _, err := b.pool(); err != nil {
		return api.VolumeCreated{}, err
	}
	r, err := b.role()
	if err != nil {
		return api.VolumeCreated{}, err
	}
	image, err := imageToChange(r, idOrName)
	if err != nil {
		return api.VolumeCreated{}, err
	}
	rep, err := r.Snapshot(ctx, spm.SnapshotRequest{Key: key, Image: image, Name: req.Name})
	if err != nil {
		return api.VolumeCreated{}, apiError(err)
	}
	out := api.VolumeCreated{Volume: apiVolume(spm.MirrorVolume(rep.Domain, rep.Volume)), Mirrored: rep.Mirrored, Index: rep.Index}
	out.Epoch = rep.Epoch
	return out, nil
}

// imageToChange finds an image on the disks that this host serves: by UUID, or by the name of a volume of it.
func imageToChange(r *spm.Role, idOrName string) (string, error) {
	if u, err := uuid.Parse(idOrName); err == nil {
		return u.String(), nil
	}
	vols, err := r.Volumes()
	if err != nil {
		return "", apiError(err)
	}
	return imageNamed(vols, idOrName)
}

// imageNamed is the image with a volume of that name.
func imageNamed(vols []domain.Volume, name string) (string, error) {
	var images []string
	for _, v := range volumesNamed(vols, name) {
		if !slices.Contains(images, v.Image) {
			images = append(images, v.Image)
		}
	}
	switch len(images) {
	case 0:
		return "", api.Errorf(api.CodeNotFound, "holdfast image list shows the images", "no image has a volume of the name %q", name)
	case 1:
		return images[0], nil
	}
	return "", api.Errorf(api.CodeConflict, "use the image's UUID", "%d images have a volume named %q", len(images), name)
}
