package domain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/internal/mkfs"
)

const (
	minDomain   = 10 * gib
	maxDevices  = 10
	maxLongName = 50 // characters, not bytes
)

// Create makes a domain on LUNs that hold nothing, or only what Force names. Until its last commit the volume group
// carries the tag of an unfinished creation, and doing it again with the same UUID starts over. Nobody else may use the
// LUNs meanwhile; there is no lease yet that could guard it.
func Create(ctx context.Context, o CreateOptions) (*Domain, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("creating domain %s: %w", o.UUID, err)
	}
	c := &creation{o: o, io: ioCtx(o.IOTimeout)}
	for _, step := range []func(context.Context) error{c.claim, c.makeGroup, c.makeSpecials, c.fill, c.initLocks, c.finish} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("creating domain %s: %w", o.UUID, err)
		}
	}
	return Open(ctx, o.Devices, Options{IOTimeout: o.IOTimeout, Now: o.Now, Log: o.Log, Locks: o.Locks, Leases: o.Leases})
}

func (o CreateOptions) withDefaults() CreateOptions {
	if o.Type == "" {
		o.Type = "FCP"
	}
	if o.IOTimeout <= 0 {
		o.IOTimeout = DefaultIOTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FormatMaster == nil {
		o.FormatMaster = mkfs.Ext3
	}
	for i, d := range o.Devices {
		if len(o.DeviceHints) <= i {
			o.DeviceHints = append(o.DeviceHints[:i:i], d.Name())
		}
	}
	return o
}

func (o *CreateOptions) validate() error {
	switch {
	case !validUUID(o.UUID) || o.UUID == NilUUID:
		return fmt.Errorf("id %.60q is not a lower-case UUID: %w", o.UUID, ErrInvalid)
	case o.PoolUUID != "" && !validUUID(o.PoolUUID):
		return fmt.Errorf("pool id %.60q is not a lower-case UUID: %w", o.PoolUUID, ErrInvalid)
	case o.Master && o.PoolUUID == "":
		return fmt.Errorf("a master domain needs a pool: %w", ErrInvalid)
	case o.Type != "ISCSI" && o.Type != "FCP":
		return fmt.Errorf("type %.20q, known are ISCSI and FCP: %w", o.Type, ErrInvalid)
	case o.Locks == nil:
		return fmt.Errorf("no way to write locks: %w", ErrInvalid)
	}
	for _, n := range [...]struct{ what, s string }{{"name", o.Name}, {"pool name", o.PoolName}} {
		if err := checkText(n.what, n.s); err != nil {
			return err
		}
		if utf8.RuneCountInString(n.s) > maxLongName {
			return fmt.Errorf("%s has more than %d characters: %w", n.what, maxLongName, ErrInvalid)
		}
	}
	return o.checkDevices()
}

func (o *CreateOptions) checkDevices() error {
	if n := len(o.Devices); n == 0 || n > maxDevices {
		return fmt.Errorf("%d LUNs, between 1 and %d are possible: %w", n, maxDevices, ErrInvalid)
	}
	var total int64
	for _, d := range o.Devices {
		if d.SectorSize() != 512 {
			return fmt.Errorf("%s has sectors of %d bytes, a block domain needs 512: %w", d.Name(), d.SectorSize(), ErrInvalid)
		}
		total += d.Size()
	}
	if total < minDomain {
		return fmt.Errorf("%d bytes on %d LUNs, at least %d are needed: %w", total, len(o.Devices), minDomain, ErrTooSmall)
	}
	return nil
}

// creation is a domain in the making.
type creation struct {
	o     CreateOptions
	io    ioCtx
	used  []blockdev.Device // hold something that may be destroyed
	group *lvm2.Group
}

// makeGroup makes the VG with the tag of an unfinished creation.
func (c *creation) makeGroup(ctx context.Context) (err error) {
	for _, d := range c.used {
		if err := wipeEnds(ctx, c.io, d); err != nil {
			return fmt.Errorf("destroying what %s holds: %w", d.Name(), err)
		}
	}
	o := lvm2.CreateOptions{Name: c.o.UUID, ExtentSize: 128 * mib, MetadataSize: 128 * mib, Tags: []string{tagUnready},
		Devices: c.o.Devices, DeviceHints: c.o.DeviceHints, Host: c.o.Host, Now: c.o.Now(), IOTimeout: c.o.IOTimeout,
		Description: "holdfast: create domain"}
	c.group, err = lvm2.Create(ctx, o, nil)
	if errors.Is(err, lvm2.ErrTooSmall) {
		return fmt.Errorf("%w: %w", ErrTooSmall, err)
	}
	return err
}

// makeSpecials makes the special volumes, the metadata volume at the start of the first LUN.
func (c *creation) makeSpecials(ctx context.Context) error {
	tx := c.group.Begin()
	for i, s := range specials {
		var o lvm2.LVOptions
		if i == 0 {
			o.Place = &lvm2.Place{PV: 0, Start: 0}
		}
		if _, err := tx.CreateLV(s.name, s.bytes, o); err != nil {
			if errors.Is(err, lvm2.ErrNoSpace) {
				err = fmt.Errorf("%w: %w", ErrTooSmall, err)
			}
			return err
		}
	}
	return c.commit(ctx, tx, "holdfast: special volumes")
}

func (c *creation) commit(ctx context.Context, tx *lvm2.Tx, what string) error {
	return c.io.steps(ctx, func(ctx context.Context) error { return c.group.Commit(ctx, tx, nil, what) })
}

// zeroed are the parts of special volumes that must not hold what the LUN had before.
var zeroed = [...]struct {
	lv    string
	bytes int64
}{
	{"metadata", 17 * mib}, {"inbox", 1024000}, {"outbox", 1024000}, {"master", 1024 * mib},
}

// fill writes what the special volumes hold at first.
func (c *creation) fill(ctx context.Context) error {
	for _, z := range zeroed {
		dev, err := c.group.Device(z.lv)
		if err != nil {
			return err
		}
		if err := c.io.zero(ctx, dev, 0, z.bytes); err != nil {
			return err
		}
	}
	master, err := c.group.Device("master")
	if err != nil {
		return err
	}
	return c.formatMaster(ctx, master)
}

// initLocks writes lockspace, SPM resource and the index of external leases. VDSM does it after the domain is complete; done before, a crash cannot
// leave a domain without locks.
func (c *creation) initLocks(ctx context.Context) error {
	ids, err := c.group.Device("ids")
	if err != nil {
		return err
	}
	leases, err := c.group.Device("leases")
	if err != nil {
		return err
	}
	xleases, err := c.group.Device("xleases")
	if err != nil {
		return err
	}
	err = c.io.steps(ctx, func(ctx context.Context) error { return c.o.Locks.FormatLeaseIndex(ctx, xleases, c.o.UUID) })
	if err != nil {
		return fmt.Errorf("formatting the index of external leases: %w", err)
	}
	err = c.io.steps(ctx, func(ctx context.Context) error { return c.o.Locks.InitLockspace(ctx, ids, 0, c.o.UUID) })
	if err != nil {
		return fmt.Errorf("writing the lockspace: %w", err)
	}
	err = c.io.steps(ctx, func(ctx context.Context) error {
		return c.o.Locks.InitResource(ctx, leases, sdmArea*mib, c.o.UUID, "SDM")
	})
	if err != nil {
		return fmt.Errorf("writing the SPM resource: %w", err)
	}
	return nil
}

// finish writes the keys and turns the VG into a domain, in one commit.
func (c *creation) finish(ctx context.Context) error {
	for _, d := range c.o.Devices {
		if err := c.io.flush(ctx, d); err != nil {
			return err
		}
	}
	vg := c.group.VG()
	k := newKeys(c.o, vg.ID)
	pvs := make([]pvInfo, len(vg.PVs))
	for i, pv := range vg.PVs {
		pvs[i] = pvInfo{pvGUID(c.o.DeviceHints[i]), pv.ID, pv.PECount}
	}
	k.putPVKeys(pvs)
	tx := c.group.Begin()
	if err := tx.ChangeVGTags(append([]string{tagReady}, k.tags()...), []string{tagUnready}); err != nil {
		return err
	}
	return c.commit(ctx, tx, "holdfast: domain complete")
}
