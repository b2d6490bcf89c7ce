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
		h, err := inspectLUN(ctx, c.io, d)
		if err != nil {
			return err
		}
		if h.found == "" {
			continue
		}
		if h.name != c.o.Force && !c.startsOver(ctx, h.name) {
			return &InUseError{Device: d.Name(), Found: h.found, Name: h.name}
		}
		c.o.Log.Warn("destroying what a LUN holds", "device", d.Name(), "found", h.found)
		c.used = append(c.used, d)
	}
	return nil
}

// held is what a LUN holds.
type held struct {
	found string       // for people; empty if it holds nothing that is known
	name  string       // what Force must say
	pv    *lvm2.PVInfo // if it is a physical volume
}

// inspectLUN tells what a LUN holds.
func inspectLUN(ctx context.Context, io ioCtx, d blockdev.Device) (h held, err error) {
	err = io.steps(ctx, func(ctx context.Context) (err error) {
		h.pv, err = lvm2.Inspect(ctx, d)
		return err
	})
	switch {
	case err == nil:
		h.found, h.name = describePV(h.pv)
		return h, nil
	case errors.Is(err, lvm2.ErrCorrupt):
		return held{found: fmt.Sprintf("a damaged LVM physical volume (%v)", err), name: "lvm2"}, nil
	case !errors.Is(err, lvm2.ErrNotPV):
		return held{}, fmt.Errorf("looking at %s: %w", d.Name(), err)
	}
	var sigs []blockdev.Signature
	err = io.steps(ctx, func(ctx context.Context) (err error) {
		sigs, err = blockdev.Identify(ctx, d)
		return err
	})
	if err != nil {
		return held{}, fmt.Errorf("looking at %s: %w", d.Name(), err)
	}
	if len(sigs) > 0 {
		h.found, h.name = describeSignature(sigs[0])
	}
	return h, nil
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

// wipeEnds removes the marks of what a LUN holds: its first and its last mebibyte. The last comes first, so that a crash
// leaves the LUN recognisable.
func wipeEnds(ctx context.Context, io ioCtx, d blockdev.Device) error {
	end := d.Size() / mib * mib
	for _, r := range [...][2]int64{{end - mib, d.Size() - end + mib}, {0, mib}} {
		if err := io.zero(ctx, d, r[0], r[1]); err != nil {
			return err
		}
		if err := io.flush(ctx, d); err != nil {
			return err
		}
	}
	return nil
}
