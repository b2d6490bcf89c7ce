package domain

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev/qcow2"
)

// Snapshot makes a volume on the leaf of its image, which keeps what it holds from then on. The leaf's lease is held meanwhile: a
// leaf that a guest writes, whose host holds its lease, refuses, as the guest would go on writing what must not change any more.
// The capacity of the new volume is at least what the leaf's own header says, which old metadata may be behind of. The same spec
// again gives the same volume.
func (w *Writer) Snapshot(ctx context.Context, s VolumeSpec) (Volume, error) {
	v, err := w.snapshot(ctx, s)
	if err != nil {
		return v, fmt.Errorf("snapshot of image %s on volume %s: %w", s.Image, s.Parent, err)
	}
	return v, nil
}

func (w *Writer) snapshot(ctx context.Context, s VolumeSpec) (Volume, error) {
	if err := w.turns.enter(ctx, s.Parent); err != nil {
		return Volume{}, err
	}
	defer w.turns.leave(s.Parent)
	leaf, ok := w.d.Volume(s.Parent)
	switch {
	case !ok || isSpecial(s.Parent) || !leaf.exists():
		return Volume{}, ErrNotFound
	case leaf.State != StateOK:
		return Volume{}, fmt.Errorf("its metadata cannot be read (%s); domain check tells how to repair it: %w", leaf.Problem, ErrConflict)
	case leaf.Image != s.Image:
		return Volume{}, fmt.Errorf("it belongs to image %s: %w", leaf.Image, ErrConflict)
	}
	held, err := w.take(ctx, &leaf)
	if err != nil && !s.heldByItsHost(err) {
		return Volume{}, err
	}
	v, err := w.overlay(ctx, s, &leaf)
	if held != nil {
		w.giveBack(ctx, held, err)
	}
	return v, err
}

// heldByItsHost says that the leaf is held by the very host that asks. Its guest goes on writing the leaf for a moment, which changes
// nothing of the new volume: that is empty, and the guest's QEMU puts it on top by itself.
func (s *VolumeSpec) heldByItsHost(err error) bool {
	var held *VolumeHeldError
	return s.LiveOn != "" && errors.As(err, &held) && held.Holder == s.LiveOn
}

// overlay makes the new leaf. The old one is not written by anybody.
func (w *Writer) overlay(ctx context.Context, s VolumeSpec, leaf *Volume) (Volume, error) {
	if there, ok := w.d.Volume(s.ID); ok && there.State == StateOK {
		s.Capacity = there.Capacity // made by an earlier request
	} else {
		size, err := w.virtualSize(ctx, leaf)
		if err != nil {
			return Volume{}, err
		}
		s.Capacity = max(s.Capacity, leaf.Capacity, size)
	}
	return w.Create(ctx, s)
}

// virtualSize is what the header of a volume says of its size. A raw one has no header.
func (w *Writer) virtualSize(ctx context.Context, v *Volume) (size int64, err error) {
	if v.Format != FormatQcow2 {
		return v.Capacity, nil
	}
	dev, err := w.d.Device(v.ID)
	if err != nil {
		return 0, err
	}
	err = w.d.io.steps(ctx, func(ctx context.Context) error {
		h, err := qcow2.ReadHeader(ctx, dev)
		if err == nil {
			size = h.Size
		}
		return err
	})
	if errors.Is(err, qcow2.ErrNotQcow2) || errors.Is(err, qcow2.ErrCorrupt) || errors.Is(err, qcow2.ErrUnsupported) {
		return 0, fmt.Errorf("volume %s is not the qcow2 image that its metadata says: %w: %w", v.ID, ErrConflict, err)
	}
	return size, err
}
