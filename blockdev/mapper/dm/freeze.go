package dm

import (
	"context"
	"errors"
	"fmt"
)

// Freeze cuts a device off because the right to write has ended. When it returns nil no write of the device is under way, and
// none will be: I/O is held, and the table that waits for the next resume makes everything fail, so that nobody who resumes the
// device by mistake, lvm2 for instance, lets a write through. A device that is not there is frozen already.
//
// Activate with Extents.Held lets a frozen device go on as if nothing had been; Fail lets it go on with errors. As long as a LUN
// does not give the writes back that are under way, Freeze does not return either: they may still land.
func (m *Mapper) Freeze(ctx context.Context, id Identity) error {
	return m.cut(ctx, "freezing", id, m.freeze)
}

// Fail makes everything fail that is read or written, for whoever has the device open, and lets I/O that was held fail too. It
// has Freeze's promise.
func (m *Mapper) Fail(ctx context.Context, id Identity) error {
	return m.cut(ctx, "cutting off", id, m.fail)
}

func (m *Mapper) cut(ctx context.Context, what string, id Identity, how func(context.Context, Device) error) error {
	err := id.check()
	if err == nil {
		err = m.run(ctx, id.UUID, func(ctx context.Context) error {
			d, err := m.cmd.look(id.UUID)
			switch {
			case errors.Is(err, errAbsent):
				return nil
			case err != nil && !errors.Is(err, ErrConflict):
				return err
			case !d.Active: // it never had a table; what waits in it must not come into force
				return m.cmd.clear(id.UUID)
			case d.Table.fails() && !d.Suspended:
				return nil // for good
			}
			return how(ctx, d)
		})
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, id.Name, err)
	}
	return nil
}

// freeze holds I/O first: that is what is urgent.
func (m *Mapper) freeze(_ context.Context, d Device) error {
	if !d.Suspended {
		m.cfg.Log.Warn("device is frozen: the right to write has ended", "device", d.Name)
		if err := m.cmd.suspend(d.UUID); err != nil {
			return err
		}
	}
	return m.cmd.load(d.UUID, d.Table.failing(), d.ReadOnly)
}

func (m *Mapper) fail(ctx context.Context, d Device) error {
	m.cfg.Log.Warn("device is cut off", "device", d.Name)
	if err := m.cmd.load(d.UUID, d.Table.failing(), d.ReadOnly); err != nil {
		return err
	}
	if err := m.resume(ctx, d.UUID); err != nil {
		return err
	}
	now, err := m.cmd.look(d.UUID)
	if err == nil && (now.Suspended || !now.Table.fails()) {
		err = fmt.Errorf("%w: it has\n%v\nafter it was cut off: somebody else changes it", ErrConflict, now.Table)
	}
	return err
}
