package domain

import (
	"context"
	"errors"

	"github.com/holdfast-io/holdfast/blockdev"
)

var errStub = errors.New("not built yet")

// Domain is an open storage domain.
type Domain struct{}

// Create makes a new domain on empty LUNs.
func Create(context.Context, CreateOptions) (*Domain, error) { return nil, errStub }

// Open opens a domain for reading.
func Open(context.Context, []blockdev.Device, Options) (*Domain, error) { return nil, errStub }

// Info tells what the domain says about itself.
func (d *Domain) Info() Info { return Info{} }

// Volumes lists the volumes, sorted by id.
func (d *Domain) Volumes() []Volume { return nil }

// Volume finds a volume by id.
func (d *Domain) Volume(id string) (Volume, bool) { return Volume{}, false }

// Refresh reads the domain anew.
func (d *Domain) Refresh(context.Context) error { return errStub }

// Lockspace is the place of the lockspace: device and byte offset.
func (d *Domain) Lockspace() (blockdev.Device, int64, error) { return nil, 0, errStub }

// SPMResource is the place of the SDM resource.
func (d *Domain) SPMResource() (blockdev.Device, int64, error) { return nil, 0, errStub }

// VolumeResource is the place of the resource of a slot.
func (d *Domain) VolumeResource(slot int) (blockdev.Device, int64, error) { return nil, 0, errStub }

// BecomeWriter finishes or rolls back what a former SPM left and returns the only writer.
func (d *Domain) BecomeWriter(context.Context, blockdev.Guard) (*Writer, RecoveryReport, error) {
	return nil, RecoveryReport{}, errStub
}

// Writer changes a domain under a lease.
type Writer struct{}

// Create makes a volume.
func (w *Writer) Create(context.Context, VolumeSpec) (Volume, error) { return Volume{}, errStub }

// Delete removes a volume.
func (w *Writer) Delete(context.Context, string) error { return errStub }

// Remove removes a volume and tells the place of that in the order of changes.
func (w *Writer) Remove(context.Context, string) (VolumeRemoved, error) {
	return VolumeRemoved{}, errStub
}

// Seq is the number of the last change in this epoch.
func (w *Writer) Seq() uint64 { return 0 }

// Epoch is the version of the lease that the writer writes under.
func (w *Writer) Epoch() uint64 { return 0 }

// Refresh reads the domain anew after a commit with unknown outcome, so that the writer accepts requests again.
func (w *Writer) Refresh(context.Context) (RecoveryReport, error) { return RecoveryReport{}, errStub }

// FinishDeletes wipes and removes what Options.DeferWipes left.
func (w *Writer) FinishDeletes(context.Context) (RecoveryReport, error) {
	return RecoveryReport{}, errStub
}

// Close waits for running requests and refuses further ones.
func (w *Writer) Close() error { return nil }

// Check lists the inconsistencies of a domain.
func Check(context.Context, *Domain) ([]Finding, error) { return nil, errStub }
