package dm

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// Verify compares an active volume with the metadata and changes nothing. Its error is nil, ErrNotActive, ErrStale,
// ErrSuspended or ErrConflict; a device that is ahead of the metadata given is none of these: read the metadata again.
func (m *Mapper) Verify(ctx context.Context, v Source) error {
	p, err := m.plan(v)
	if err != nil {
		return fmt.Errorf("verifying %s: %w", v.label(), err)
	}
	err = m.run(ctx, p.UUID, func(context.Context) error {
		d, err := m.cmd.look(p.UUID)
		if err != nil {
			return err
		}
		return p.verify(d)
	})
	if errors.Is(err, errAbsent) {
		err = ErrNotActive
	}
	if err != nil {
		return fmt.Errorf("verifying %s: %w", p.Name, err)
	}
	return nil
}

func (p *plan) verify(d Device) error {
	var errs []error
	switch p.judge(d) {
	case same, longer:
	case tableless:
		errs = append(errs, ErrNotActive)
	case shorter:
		errs = append(errs, fmt.Errorf("%w: %d bytes, not %d", ErrStale, d.Table.Bytes(), p.table.Bytes()))
	case other:
		errs = append(errs, fmt.Errorf("%w: it has\n%v\nthe metadata says\n%v", ErrConflict, d.Table, p.table))
	}
	if d.Suspended {
		errs = append(errs, ErrSuspended)
	}
	if d.Active && d.ReadOnly != p.readOnly {
		errs = append(errs, fmt.Errorf("%w: read-only is %t, not %t", ErrConflict, d.ReadOnly, p.readOnly))
	}
	return errors.Join(errs...)
}

// Recover settles every device of the volume group that a crash, ours or lvm2's, has left suspended or with a table that
// waits: it gets what the committed metadata says, and goes on. Call it at the start, while no lvm2 command runs on the
// volume group. pvs are as in Volume. Devices whose volume is gone are resumed as they are.
func (m *Mapper) Recover(ctx context.Context, vg *lvm2.VG, pvs []string) error {
	all, err := m.List(ctx, vg)
	if err != nil {
		return fmt.Errorf("recovering devices: %w", err)
	}
	byUUID := map[string]*lvm2.LV{}
	for _, lv := range vg.LVs {
		byUUID[UUID(vg, lv)] = lv
	}
	var errs []error
	for _, d := range all {
		if d.Active && !d.Suspended && !d.Prepared {
			continue
		}
		m.cfg.Log.Warn("device was left unfinished", "device", d.Name, "suspended", d.Suspended, "active", d.Active)
		if err := m.recoverOne(ctx, d, vg, byUUID[d.UUID], pvs); err != nil {
			errs = append(errs, fmt.Errorf("recovering %s: %w", d.Name, err))
		}
	}
	return errors.Join(errs...)
}

// recoverOne settles one device. One that never got a table is nobody's and goes.
func (m *Mapper) recoverOne(ctx context.Context, d Device, vg *lvm2.VG, lv *lvm2.LV, pvs []string) error {
	switch {
	case !d.Active:
		return m.Deactivate(ctx, d.Identity())
	case lv != nil:
		_, err := m.Refresh(ctx, Volume{VG: vg, Name: lv.Name, PVs: pvs, ReadOnly: d.ReadOnly})
		return err
	}
	return m.run(ctx, d.UUID, func(ctx context.Context) error {
		if d.Prepared {
			if err := m.cmd.clear(d.UUID); err != nil {
				return err
			}
		}
		return m.resume(ctx, d.UUID)
	})
}
