package domain

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// xleases checks the external leases. Without a reader of their index it does nothing.
func (c *checker) xleases(ctx context.Context) error {
	r, ok := c.d.opt.Leases.(LeaseIndexReader)
	if !ok || c.vg.LV("xleases") == nil || c.id.geo.version < 4 {
		return nil
	}
	dev, err := c.d.group.Device("xleases")
	if err != nil {
		return nil //nolint:nilerr // reported as a special volume that is not linear
	}
	found, err := r.CheckLeaseIndex(ctx, dev, c.vg.Name)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		c.add(SeverityWarning, "xleases", err.Error(), "check the path to the LUN; disks are not concerned")
	}
	for _, f := range found {
		c.add(f.Severity, "xleases, "+f.Where, f.What, f.Repair)
	}
	return nil
}

// leases checks that each volume has its own lease. Without a reader of leases it does nothing.
func (c *checker) leases(ctx context.Context) error {
	if c.d.opt.Leases == nil || c.vg.LV("leases") == nil {
		return nil
	}
	if space, name, err := c.readLease(ctx, sdmArea*c.id.geo.align); err != nil {
		c.add(SeverityError, "leases", fmt.Sprintf("the SPM lease cannot be read: %v", err), "write the resource SDM anew while no host is SPM")
	} else if space != c.vg.Name || name != "SDM" {
		c.add(SeverityError, "leases", fmt.Sprintf("the SPM lease is that of %q in %q", name, space), "write the resource SDM anew while no host is SPM")
	}
	if err := c.lockspace(ctx); err != nil {
		return err
	}
	var vols []*Volume
	for _, v := range c.sorted() {
		if v.exists() && v.Slot >= c.id.geo.firstSlot() && v.Slot <= MaxSlot {
			vols = append(vols, v)
		}
	}
	bad := make([]string, len(vols))
	parallel(len(vols), func(i int) {
		space, name, err := c.readLease(ctx, c.id.geo.leaseOffset(vols[i].Slot))
		switch {
		case err != nil:
			bad[i] = fmt.Sprintf("lease in slot %d cannot be read: %v", vols[i].Slot, err)
		case space != c.vg.Name || name != vols[i].ID:
			bad[i] = fmt.Sprintf("lease in slot %d is that of %q in %q", vols[i].Slot, name, space)
		}
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for i, what := range bad {
		if what != "" {
			c.add(SeverityError, vols[i].ID, what, "write the volume's lease anew; nobody can hold it")
		}
	}
	return nil
}

// lockspace checks the records of the hosts.
func (c *checker) lockspace(ctx context.Context) error {
	r, ok := c.d.opt.Leases.(LockspaceReader)
	if !ok || c.vg.LV("ids") == nil {
		return nil
	}
	dev, off, err := c.d.Lockspace()
	if err != nil {
		return nil //nolint:nilerr // reported as a special volume that is not linear
	}
	var bad map[int]error
	err = c.d.io.steps(ctx, func(ctx context.Context) (err error) {
		bad, err = r.CheckLockspace(ctx, dev, off, c.vg.Name)
		return err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		c.add(SeverityError, "ids", err.Error(), "check the path to the LUN")
	}
	for _, id := range slices.Sorted(maps.Keys(bad)) {
		c.add(SeverityError, fmt.Sprintf("ids, host id %d", id), bad[id].Error(),
			"stop all hosts and write the lockspace and the resource SDM anew; this host id cannot be used before")
	}
	return nil
}

func (c *checker) readLease(ctx context.Context, off int64) (space, name string, err error) {
	dev, at, err := c.d.group.Locate("leases", off)
	if err != nil {
		return "", "", err
	}
	err = c.d.io.steps(ctx, func(ctx context.Context) (err error) {
		space, name, err = c.d.opt.Leases.ReadResource(ctx, dev, at)
		return err
	})
	return space, name, err
}
