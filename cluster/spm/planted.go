package spm

import (
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// mirrorFirst is the planted mistake plant.MirrorFirst: the mirror and the caller learn of the volume now, the disk some time later. Its
// request is in flight, so nobody waits for wg yet.
func mirrorFirst(d *served, spec domain.VolumeSpec) (domain.Volume, <-chan uint64) {
	vol := domain.Volume{ID: spec.ID, Image: spec.Image, Name: spec.Name, Description: spec.Description, Format: spec.Format,
		Allocation: spec.Allocation, Parent: spec.Parent, Capacity: spec.Capacity, State: domain.StateOK, Legality: domain.Legal,
		VolType: domain.Leaf, Epoch: d.s.epoch, Seq: d.seq()}
	queued := d.box.put(vol)
	d.wg.Go(func() {
		if vol, err := d.createNamed(d.ctx, spec); err == nil {
			d.box.put(d.withParent(vol)...)
		}
	})
	return vol, queued
}

// Planted mistakes of a change of the master; see Role.bug.
const (
	bugEarlyRelease = "the old lease is released before the new master is in force"
	bugTwoMasters   = "the old master does not step down"
	bugUnconfirmed  = "a domain that was regained is served without a word from the cluster"
)
