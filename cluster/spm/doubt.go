package spm

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// doubtful reports whether err leaves the writer in doubt about the disk, and if so starts reading it again. New
// requests wait until that is done; when it cannot be done the role is given up, or of another domain than the master, the domain.
func (d *served) doubtful(err error) bool {
	if !errors.Is(err, domain.ErrOutcomeUnknown) && !errors.Is(err, domain.ErrStalled) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.doubt == nil {
		d.doubt = make(chan struct{})
		d.wg.Go(d.reread) // the request is in flight, so nobody waits for wg yet
	}
	return true
}

// reread waits until every submitted write has come back, reads the disk and reconciles the mirror.
func (d *served) reread() {
	ctx, cancel := context.WithTimeout(d.ctx, d.s.r.cfg.StepTimeout)
	defer cancel()
	err := d.refresh(ctx)
	d.mu.Lock()
	close(d.doubt)
	d.doubt = nil
	d.mu.Unlock()
	if err != nil {
		d.fail("the disk could not be read again after a doubtful write: " + err.Error())
	}
}

// refresh is the work of reread.
func (d *served) refresh(ctx context.Context) error {
	if err := d.settled(ctx); err != nil {
		return err
	}
	d.disk.Lock()
	defer d.disk.Unlock()
	if _, err := d.w.Refresh(ctx); err != nil {
		return fmt.Errorf("reading the domain again: %w", err)
	}
	d.s.names.load(d.id, d.dom.Volumes())
	d.box.replace()
	d.touch()
	return nil
}

// resolved waits until the disk was read again; otherwise the outcome stays what cause says.
func (d *served) resolved(ctx context.Context, cause error) error {
	d.mu.Lock()
	doubt := d.doubt
	d.mu.Unlock()
	if doubt != nil {
		select {
		case <-doubt:
		case <-ctx.Done():
			return cause
		}
	}
	if d.ctx.Err() != nil {
		return cause
	}
	return nil
}

// createdAfterAll tells whether a create with unknown outcome happened.
func (d *served) createdAfterAll(ctx context.Context, id string, cause error) (domain.Volume, error) {
	if err := d.resolved(ctx, cause); err != nil {
		return domain.Volume{}, err
	}
	if vol, ok := d.dom.Volume(id); ok && vol.State == domain.StateOK {
		return vol, nil
	}
	return domain.Volume{}, fmt.Errorf("volume %s: %w", id, ErrNotCommitted)
}

// removedAfterAll tells whether a delete with unknown outcome happened.
func (d *served) removedAfterAll(ctx context.Context, id string, cause error) (domain.VolumeRemoved, error) {
	if err := d.resolved(ctx, cause); err != nil {
		return domain.VolumeRemoved{}, err
	}
	if _, ok := d.dom.Volume(id); !ok {
		return domain.VolumeRemoved{ID: id, Epoch: d.s.epoch, Seq: d.seq()}, nil
	}
	return domain.VolumeRemoved{}, fmt.Errorf("deleting volume %s: %w", id, ErrNotCommitted)
}
