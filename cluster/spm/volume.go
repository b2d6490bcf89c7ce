package spm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/internal/plant"
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

// VolumeReply is the answer to a create, an update or a delete.
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
	s, err := r.serving()
	if err != nil {
		return VolumeReply{}, err
	}
	d, err := s.domain(ctx, req.Domain)
	if err != nil {
		return VolumeReply{}, err
	}
	return r.change(ctx, d, func(ctx context.Context) (domain.Volume, <-chan uint64, error) {
		if plant.On(plant.MirrorFirst) {
			vol, queued := mirrorFirst(d, spec)
			return vol, queued, nil
		}
		if err := d.room(spec); err != nil {
			return domain.Volume{}, nil, err
		}
		vol, err := d.createNamed(ctx, spec)
		if err != nil {
			return vol, nil, err
		}
		return vol, d.box.put(d.withParent(vol)...), nil
	})
}

// DeleteVolume removes a volume from disk and from the mirror. Without a domain it looks in all of them.
func (r *Role) DeleteVolume(ctx context.Context, domainName, id string) (VolumeReply, error) {
	if _, err := uuid.Parse(id); err != nil {
		return VolumeReply{}, invalidf("volume id %q is not a UUID", id)
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
		vol, ok := d.dom.Volume(id)
		if !ok {
			return vol, nil, fmt.Errorf("volume %s: %w", id, domain.ErrNotFound)
		}
		gone, err := d.remove(ctx, id)
		if d.doubtful(err) {
			gone, err = d.removedAfterAll(ctx, id, err)
		} else if err == nil {
			gone.Seq += d.base
		}
		if err != nil {
			return vol, nil, err
		}
		s.names.removed(id)
		if parents := d.withParent(vol)[1:]; len(parents) > 0 {
			d.box.put(parents...)
		}
		return vol, d.box.remove(gone), nil
	})
}

// withParent returns a volume, and its parent if this epoch changed that, as the mirror is to have them: a first child
// makes its parent internal, and its end makes the parent a leaf again.
func (d *served) withParent(vol domain.Volume) []domain.Volume {
	list := []domain.Volume{d.stamped(vol)}
	if vol.Parent == "" {
		return list
	}
	if p, ok := d.dom.Volume(vol.Parent); ok && p.State == domain.StateOK && p.Epoch == d.s.epoch {
		list = append(list, d.stamped(p))
	}
	return list
}

// change runs one request on a domain: gate, disk, queue, and a bounded wait for the mirror.
func (r *Role) change(ctx context.Context, d *served,
	fn func(context.Context) (domain.Volume, <-chan uint64, error)) (VolumeReply, error) {
	rep, queued, err := r.changeNow(ctx, d, fn)
	if err != nil {
		return rep, err
	}
	rep.Index, rep.Mirrored = d.mirrored(ctx, queued)
	return rep, nil
}

// changeNow is change without the wait for the mirror, which tells the index on the channel.
func (r *Role) changeNow(ctx context.Context, d *served,
	fn func(context.Context) (domain.Volume, <-chan uint64, error)) (VolumeReply, <-chan uint64, error) {
	if err := d.enter(ctx); err != nil {
		return VolumeReply{}, nil, err
	}
	vol, queued, err := d.guarded(ctx, fn)
	if err != nil {
		return VolumeReply{}, nil, r.refine(d, err)
	}
	d.touch()
	return VolumeReply{Volume: vol, Domain: d.id, Epoch: d.s.epoch}, queued, nil
}

// guarded runs fn as a request in flight.
func (d *served) guarded(ctx context.Context,
	fn func(context.Context) (domain.Volume, <-chan uint64, error)) (domain.Volume, <-chan uint64, error) {
	defer d.leave()
	ctx, cancel := bind(ctx, d.ctx)
	defer cancel()
	ctx, cancel2 := context.WithTimeout(ctx, d.s.r.cfg.StepTimeout)
	defer cancel2()
	return fn(ctx)
}

// createNamed makes a volume whose name no other domain has.
func (d *served) createNamed(ctx context.Context, spec domain.VolumeSpec) (domain.Volume, error) {
	return d.makeNamed(ctx, spec, d.create)
}

// makeNamed is createNamed for any way to make a volume.
func (d *served) makeNamed(ctx context.Context, spec domain.VolumeSpec,
	write func(context.Context, domain.VolumeSpec) (domain.Volume, error)) (domain.Volume, error) {
	name := spec.Name
	if old, ok := d.dom.Volume(spec.ID); ok && old.Generation != 0 {
		name = old.Name // the request is repeated, and the volume was renamed since
	}
	if err := d.s.names.claim(spec.ID, use{domain: d.id, name: name, image: spec.Image}); err != nil {
		return domain.Volume{}, fmt.Errorf("creating volume %s: %w", spec.ID, err)
	}
	vol, err := write(ctx, spec)
	if d.doubtful(err) {
		vol, err = d.createdAfterAll(ctx, spec.ID, err)
	}
	have, there := d.dom.Volume(spec.ID)
	switch {
	case err != nil && errors.Is(err, blockdev.ErrOutcomeUnknown):
		have, there = domain.Volume{Name: spec.Name, Image: spec.Image}, true // it may be there
	case there && have.State != domain.StateOK && have.State != domain.StateUnreadable:
		there = false
	}
	d.s.names.settle(d.id, spec.ID, have, there)
	return vol, err
}

// create writes to the disk. The mirror entry of a change is queued before the disk lock could be had exclusively,
// because a put or remove takes no lock of its own; a reconcile that comes between carries the change itself.
func (d *served) create(ctx context.Context, spec domain.VolumeSpec) (domain.Volume, error) {
	d.disk.RLock()
	defer d.disk.RUnlock()
	return d.w.Create(ctx, spec)
}

// remove writes to the disk.
func (d *served) remove(ctx context.Context, id string) (domain.VolumeRemoved, error) {
	d.disk.RLock()
	defer d.disk.RUnlock()
	return d.w.Remove(ctx, id)
}

// mirrored waits a little for the mirror.
func (d *served) mirrored(ctx context.Context, queued <-chan uint64) (uint64, bool) {
	t := time.NewTimer(d.s.r.cfg.MirrorWait)
	defer t.Stop()
	select {
	case index := <-queued:
		return index, true
	case <-t.C:
	case <-ctx.Done():
	case <-d.ctx.Done():
	}
	select {
	case index := <-queued:
		return index, true
	default:
		return 0, false
	}
}

// refine makes of a disk error what a caller can act on.
func (r *Role) refine(d *served, err error) error {
	s := d.s
	switch {
	case errors.Is(err, blockdev.ErrOutcomeUnknown):
		return fmt.Errorf("epoch %d: the change may or may not be on disk; ask again with the same key: %w", s.epoch, err)
	case errors.Is(err, blockdev.ErrLeaseLost) && d != s.master && s.guard.Check(0) == nil:
		d.fail("our host id is not held in its lockspace: " + err.Error())
		return fmt.Errorf("%w: %w", ErrDomainDown, err)
	case errors.Is(err, blockdev.ErrLeaseLost):
		s.fail("a write was refused: " + err.Error())
		return errors.Join(r.notSPM("its lease was lost before the change"), err)
	case s.ctx.Err() != nil && !errors.Is(err, ErrNotSPM):
		return errors.Join(r.notSPM("the role was given up before the change"), err)
	case d.ctx.Err() != nil && !errors.Is(err, ErrNotSPM):
		return fmt.Errorf("%w: %w", ErrDomainDown, err)
	}
	return err
}

// SpaceAppeared says that a domain may have more free space than its writer committed: a LUN was added. Whoever waits for space
// there is served at once.
func (r *Role) SpaceAppeared(domainID string) {
	s, err := r.serving()
	if err != nil {
		return // whoever serves next looks by itself
	}
	for _, d := range s.domains() {
		if d.id == domainID {
			d.touch()
		}
	}
}

// Waiting lists the extensions that wait for space, by domain and urgency; only the SPM knows of any.
func (r *Role) Waiting() []Waiting {
	r.mu.Lock()
	s := r.session
	r.mu.Unlock()
	if s == nil {
		return nil
	}
	var out []Waiting
	for _, d := range s.domains() {
		out = append(out, d.short.waiting()...)
	}
	return out
}

// Volumes lists what is on the disks of all served domains, on the SPM only; other hosts have the mirror.
func (r *Role) Volumes() ([]domain.Volume, error) {
	s, err := r.serving()
	if err != nil {
		return nil, err
	}
	var out []domain.Volume
	for _, d := range s.domains() {
		out = append(out, d.dom.Volumes()...)
	}
	return out, nil
}
