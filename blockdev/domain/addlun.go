package domain

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// LUN is a device that is to become a part of a domain.
type LUN struct {
	Device blockdev.Device
	Hint   string // path, stored in the LVM metadata; its base name in the PV keys; empty: the device's name
	Force  string // name of what may be destroyed, as InUseError.Name gave it
	// Seen is asked between the label of the LUN and the commit that makes it part of the domain: do all who use the domain see
	// the physical volume with this id? An error takes the label off again. May be nil.
	Seen func(ctx context.Context, pv string) error
}

// addingLUN is the turn of those that add a LUN; no volume is called so.
const addingLUN = "add a LUN"

// AddLUN makes a LUN part of the domain and returns what the domain is then. The LUN is labelled first; one commit, to the LUNs that
// were there before, makes its space the domain's. Errors other than ErrOutcomeUnknown mean that the domain is as it was. One that
// left a label on the LUN does not keep the LUN from being taken again.
func (w *Writer) AddLUN(ctx context.Context, l LUN) (Info, error) {
	if err := w.turns.enter(ctx, addingLUN); err != nil {
		return Info{}, fmt.Errorf("extending domain %s: %w", w.d.uuid(), err)
	}
	defer w.turns.leave(addingLUN)
	x := joining{w: w, lun: l}
	for _, step := range []func(context.Context) error{x.claim, x.prepare, x.seen, x.join} {
		if err := step(ctx); err != nil {
			return Info{}, fmt.Errorf("extending domain %s by %s: %w", w.d.uuid(), l.Device.Name(), err)
		}
	}
	return w.d.Info(), nil
}

// joining is a LUN on its way into the domain. Only its last step keeps other requests waiting.
type joining struct {
	w       *Writer
	lun     LUN
	destroy bool // what it holds may go
	pv      *lvm2.PreparedPV
}

// claim refuses a LUN that cannot join the domain, or holds something that the caller did not name.
func (x *joining) claim(ctx context.Context) error {
	group := x.w.d.group
	if n := len(group.VG().PVs); n >= maxDevices {
		return fmt.Errorf("it has %d LUNs, at most %d are possible: %w", n, maxDevices, ErrInvalid)
	}
	err := x.w.d.io.steps(ctx, func(ctx context.Context) error {
		return group.CheckPV(ctx, lvm2.PVOptions{Device: x.lun.Device, Force: true})
	})
	if err != nil {
		return refusedLUN(err)
	}
	h, err := inspectLUN(ctx, x.w.d.io, x.lun.Device)
	switch {
	case err != nil:
		return refusedLUN(err)
	case h.found == "" || h.pv != nil && group.Prepared(h.pv):
		return nil // the second is what an extension left that came to no end
	case h.name != x.lun.Force:
		return &InUseError{Device: x.lun.Device.Name(), Found: h.found, Name: h.name}
	}
	x.destroy = true
	return nil
}

// refusedLUN makes of an error of lvm2, or of the device, what callers of this package know.
func refusedLUN(err error) error {
	switch {
	case errors.Is(err, lvm2.ErrMember):
		return fmt.Errorf("%w: %w", ErrMember, err)
	case errors.Is(err, lvm2.ErrTooSmall):
		return fmt.Errorf("%w: %w", ErrTooSmall, err)
	case errors.Is(err, lvm2.ErrInvalid):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	case unanswered(err):
		return fmt.Errorf("%w: %v", ErrSilentLUN, err) //nolint:errorlint // the outcome for the domain is known
	}
	return err
}

// prepare makes the LUN a physical volume that waits for its group.
func (x *joining) prepare(ctx context.Context) error {
	if x.destroy {
		x.w.d.opt.Log.Warn("destroying what a LUN holds", "device", x.lun.Device.Name(), "force", x.lun.Force)
		if err := wipeEnds(ctx, x.w.d.io, blockdev.NewGuarded(x.lun.Device, x.w.guard)); err != nil {
			return refusedLUN(fmt.Errorf("destroying what it holds: %w", err))
		}
	}
	err := x.w.d.io.steps(ctx, func(ctx context.Context) (err error) {
		x.pv, err = x.w.d.group.PreparePV(ctx, lvm2.PVOptions{Device: x.lun.Device, Hint: x.lun.Hint}, x.w.guard)
		return err
	})
	if err != nil {
		return refusedLUN(fmt.Errorf("labelling it: %w", err))
	}
	return nil
}

// seen asks whether all who use the domain see the LUN.
func (x *joining) seen(ctx context.Context) error {
	if x.lun.Seen == nil {
		return nil
	}
	err := x.lun.Seen(ctx, x.pv.ID())
	if err != nil {
		x.drop(ctx)
	}
	return err
}

// drop takes the label off the LUN, as well as that can be done.
func (x *joining) drop(ctx context.Context) {
	err := x.w.d.io.steps(context.WithoutCancel(ctx), func(ctx context.Context) error {
		return x.w.d.group.DropPV(ctx, x.pv, x.w.guard)
	})
	if err != nil {
		x.w.d.opt.Log.Warn("a LUN that did not join the domain keeps its label; it can be added all the same",
			"device", x.lun.Device.Name(), "pv", x.pv.ID(), "error", err)
	}
}

// join commits. Nothing else of the domain is changed meanwhile.
func (x *joining) join(ctx context.Context) error {
	err := x.w.q.submit(ctx, &request{alone: x.commit})
	if err != nil && !errors.Is(err, ErrOutcomeUnknown) {
		x.drop(ctx)
	}
	return err
}

// commit makes the LUN part of the group and writes the keys that list the LUNs, at once.
func (x *joining) commit(ctx context.Context) error {
	w, d := x.w, x.w.d
	if w.doubt != nil {
		return w.doubt
	}
	tx := d.group.Begin()
	if err := tx.AddPV(x.pv); err != nil {
		return refusedLUN(err)
	}
	keys := d.Keys()
	keys.replacePVKeys(tx.VG())
	if err := tx.ChangeVGTags(keys.changes(tx.VG().Tags)); err != nil {
		return err
	}
	err := w.commit(ctx, tx, fmt.Sprintf("holdfast: extend domain, epoch %d", w.Epoch()))
	if err != nil && w.doubt == nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.keys, d.devs = keys, d.group.Devices()
		return nil
	}
	d.devs = append(d.devs[:len(d.devs):len(d.devs)], x.lun.Device) // until the next refresh knows
	return err
}
