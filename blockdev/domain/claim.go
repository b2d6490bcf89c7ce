package domain

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// claim refuses LUNs that hold something, unless the caller named it.
func (c *creation) claim(ctx context.Context) error {
	for _, d := range c.o.Devices {
		found, name, err := c.inspect(ctx, d)
		if err != nil {
			return fmt.Errorf("looking at %s: %w", d.Name(), err)
		}
		if found == "" {
			continue
		}
		if name != c.o.Force && !c.startsOver(ctx, name) {
			return &InUseError{Device: d.Name(), Found: found, Name: name}
		}
		c.o.Log.Warn("destroying what a LUN holds", "device", d.Name(), "found", found)
		c.used = append(c.used, d)
	}
	return nil
}

// inspect tells what a LUN holds, and the name that Force must say; empty if it holds nothing that is known.
func (c *creation) inspect(ctx context.Context, d blockdev.Device) (found, name string, err error) {
	var pv *lvm2.PVInfo
	err = c.io.steps(ctx, func(ctx context.Context) (err error) {
		pv, err = lvm2.Inspect(ctx, d)
		return err
	})
	switch {
	case err == nil:
		found, name = describePV(pv)
		return found, name, nil
	case errors.Is(err, lvm2.ErrCorrupt):
		return fmt.Sprintf("a damaged LVM physical volume (%v)", err), "lvm2", nil
	case !errors.Is(err, lvm2.ErrNotPV):
		return "", "", err
	}
	var sigs []blockdev.Signature
	err = c.io.steps(ctx, func(ctx context.Context) (err error) {
		sigs, err = blockdev.Identify(ctx, d)
		return err
	})
	if err != nil || len(sigs) == 0 {
		return "", "", err
	}
	found, name = describeSignature(sigs[0])
	return found, name, nil
}

func describePV(pv *lvm2.PVInfo) (found, name string) {
	switch {
	case pv.VGName != "":
		return "a physical volume of volume group " + pv.VGName, pv.VGName
	case pv.Used:
		return "physical volume " + pv.ID + " of a volume group whose metadata is on another device", pv.ID
	}
	return "the unused physical volume " + pv.ID, pv.ID
}

func describeSignature(s blockdev.Signature) (found, name string) {
	switch {
	case s.Label != "":
		return fmt.Sprintf("%s with label %q", s.Kind, s.Label), s.Label
	case s.UUID != "":
		return fmt.Sprintf("%s with id %s", s.Kind, s.UUID), s.UUID
	}
	return s.Kind, s.Kind
}

// startsOver tells whether the LUN holds only an unfinished creation of this very domain.
func (c *creation) startsOver(ctx context.Context, vgName string) bool {
	if vgName != c.o.UUID {
		return false
	}
	var g *lvm2.Group
	err := c.io.steps(ctx, func(ctx context.Context) (err error) {
		g, err = lvm2.Open(ctx, c.o.Devices)
		return err
	})
	return err == nil && g.VG().HasTag(tagUnready) && !g.VG().HasTag(tagReady)
}

// wipe removes the marks of what a LUN holds: its first and its last mebibyte. The last comes first, so that a crash
// leaves the LUN recognisable.
func (c *creation) wipe(ctx context.Context, d blockdev.Device) error {
	end := d.Size() / mib * mib
	for _, r := range [...][2]int64{{end - mib, d.Size() - end + mib}, {0, mib}} {
		if err := c.io.zero(ctx, d, r[0], r[1]); err != nil {
			return err
		}
		if err := c.io.flush(ctx, d); err != nil {
			return err
		}
	}
	return nil
}
