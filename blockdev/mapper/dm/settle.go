package dm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// resumeTries is how often a resume that fails is tried: a device that stays suspended holds up whoever uses it.
const resumeTries = 3

// openPoll is the pause between two tries to remove a device that is open.
const openPoll = 25 * time.Millisecond

// verdict is what a device's table is, compared with the metadata's.
type verdict int

const (
	same      verdict = iota
	shorter           // the metadata has grown
	longer            // the metadata given is older than what the device was made from
	tableless         // a device without a table
	other             // it maps something else
)

func (p *plan) judge(d Device) verdict {
	switch {
	case !d.Active:
		return tableless
	case d.Table.Equal(p.table):
		return same
	case p.table.beginsWith(d.Table):
		return shorter
	case d.Table.beginsWith(p.table):
		return longer
	}
	return other
}

// activate makes the device unless it is there, and settles it. A device that could not get its first table is removed again.
func (m *Mapper) activate(ctx context.Context, p plan) (Device, error) {
	d, err := m.cmd.look(p.UUID)
	made := errors.Is(err, errAbsent)
	if made {
		if err := ctx.Err(); err != nil {
			return Device{}, err
		}
		if err := m.cmd.create(p.Identity, p.readOnly); err != nil {
			return Device{}, err
		}
		d, err = m.cmd.look(p.UUID)
	}
	if err == nil {
		d, err = m.settle(ctx, p, d)
	}
	if err != nil && made && ctx.Err() == nil {
		_, rerr := m.remove(ctx, p.UUID)
		return Device{}, errors.Join(err, rerr)
	}
	return d, err
}

// settle brings a device into the state that the plan says: the right table and nothing else prepared, I/O let through,
// a node. It begins anew from whatever state an earlier try was left in.
func (m *Mapper) settle(ctx context.Context, p plan, d Device) (Device, error) {
	want, err := p.wanted(d)
	if err != nil {
		return d, err
	}
	if err := m.prepare(ctx, p, d, want); err != nil {
		return d, err
	}
	if d, err = m.bringUp(ctx, p, d, want); err != nil {
		return d, err
	}
	d.Path = m.cfg.nodes.path(d.Name)
	return d, m.cfg.nodes.ensure(d.Name, d.Number)
}

// wanted is the table that the device should have. Older metadata never makes it shorter.
func (p *plan) wanted(d Device) (Table, error) {
	v := p.judge(d)
	switch {
	case !p.held && d.OpenCount > 0 && (d.Table.fails() || p.guarded && d.Suspended):
		return nil, fmt.Errorf("%w: %s", ErrFrozen, d.Name)
	case p.held && d.Table.fails():
		return p.table, nil
	case v == other && d.OpenCount > 0:
		return nil, fmt.Errorf("%w: it has\n%v\nand is open %d times; the metadata says\n%v", ErrConflict, d.Table, d.OpenCount, p.table)
	case d.Active && p.readOnly && !p.demoted && !d.ReadOnly && d.OpenCount > 0:
		return nil, fmt.Errorf("%w: it is writable, and asked for read-only", ErrOpen)
	case v == longer:
		return d.Table, nil
	}
	return p.table, nil
}

// prepare puts the table in place for the resume, or makes sure that there is none.
func (m *Mapper) prepare(ctx context.Context, p plan, d Device, want Table) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.Active && d.Table.Equal(want) && d.ReadOnly == p.readOnly {
		if d.Prepared { // by somebody who did not finish; the metadata never said so
			return m.cmd.clear(p.UUID)
		}
		return nil
	}
	m.cfg.Log.Info("loading a table", "device", d.Name, "bytes", want.Bytes(), "targets", len(want), "read_only", p.readOnly)
	err := m.cmd.load(p.UUID, want, p.readOnly)
	if err != nil && d.Prepared {
		return errors.Join(err, m.cmd.clear(p.UUID))
	}
	return err
}

// bringUp resumes the device if that is needed, and sees what came of it.
func (m *Mapper) bringUp(ctx context.Context, p plan, d Device, want Table) (Device, error) {
	if d.Active && !d.Suspended && d.Table.Equal(want) && d.ReadOnly == p.readOnly {
		return d, nil
	}
	if err := ctx.Err(); err != nil {
		return d, err
	}
	if err := m.resume(ctx, p.UUID); err != nil {
		return d, err
	}
	d, err := m.cmd.look(p.UUID)
	switch {
	case err != nil:
		return d, err
	case d.Suspended:
		return d, fmt.Errorf("%w, although it was resumed", ErrSuspended)
	case !d.Table.Equal(want):
		return d, fmt.Errorf("%w: it has\n%v\nafter\n%v was loaded: somebody else changes it", ErrConflict, d.Table, want)
	case d.ReadOnly != p.readOnly:
		return d, fmt.Errorf("%w: read-only %t was loaded, and it is %t: somebody else changes it", ErrConflict, p.readOnly, d.ReadOnly)
	}
	return d, nil
}

// resume tries a few times, and waits for udev.
func (m *Mapper) resume(ctx context.Context, uuid string) (err error) {
	for range resumeTries {
		err = m.announced(ctx, func(event uint32) (bool, error) { return m.cmd.resume(uuid, event) })
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// announced makes an ioctl whose event udev hears of, and waits until it has acted. A udev that does not is no reason
// to fail: what it left out is done here.
func (m *Mapper) announced(ctx context.Context, ioctl func(event uint32) (bool, error)) error {
	t, err := m.cfg.udev.begin()
	if err != nil {
		m.cfg.Log.Warn("udev is not waited for", "error", err)
		t = noUdev{}
	}
	generated, ierr := ioctl(t.event())
	ctx, cancel := context.WithTimeout(ctx, m.cfg.UdevPatience)
	defer cancel()
	if err := t.done(ctx, generated); err != nil {
		m.cfg.Log.Warn("udev has not done its part; nodes are made without it", "error", err)
	}
	return ierr
}

// deactivate removes a device and its node.
func (m *Mapper) deactivate(ctx context.Context, id Identity) error {
	d, err := m.remove(ctx, id.UUID)
	if errors.Is(err, errAbsent) {
		return m.sweep(id.Name)
	}
	if err != nil {
		return err
	}
	m.cfg.Log.Info("device removed", "device", d.Name)
	return m.cfg.nodes.drop(d.Name, d.Number)
}

// sweep removes the node that a crash left between the removal of its device and its own.
func (m *Mapper) sweep(name string) error {
	uuid, err := m.cmd.uuidOf(name)
	if err != nil || uuid != "" {
		return err // the name is another device's now, and so is the node
	}
	have, err := m.cfg.nodes.number(m.cfg.nodes.path(name))
	if err != nil {
		return nil //nolint:nilerr // no node, or none of a device
	}
	return m.cfg.nodes.drop(name, have)
}

// remove takes the device away, trying again for a while when it is open.
func (m *Mapper) remove(ctx context.Context, uuid string) (Device, error) {
	end := time.Now().Add(m.cfg.OpenPatience)
	for {
		d, err := m.cmd.look(uuid)
		if err != nil && !errors.Is(err, ErrConflict) {
			return d, err
		}
		err = m.announced(ctx, func(event uint32) (bool, error) { return m.cmd.remove(uuid, event) })
		if err == nil || !errors.Is(err, unix.EBUSY) {
			return d, err
		}
		if time.Now().After(end) {
			return d, fmt.Errorf("%w (open %d times)", ErrOpen, d.OpenCount)
		}
		select {
		case <-time.After(openPoll):
		case <-ctx.Done():
			return d, fmt.Errorf("%w: %w", ErrOpen, context.Cause(ctx))
		}
	}
}
