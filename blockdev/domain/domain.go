package domain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// Domain is an open storage domain. Its methods are safe for concurrent use. It shows the state of the last Refresh,
// and what its own Writer changed since.
type Domain struct {
	group   *lvm2.Group
	opt     Options
	io      ioCtx
	writing atomic.Bool // a Writer exists

	mu      sync.RWMutex
	vg      *lvm2.VG // everything below is guarded by mu; volumes are replaced, never changed
	keys    Keys
	id      identity
	problem error // why a tolerantly opened domain is not fit for use
	vols    map[string]*Volume
	devs    []blockdev.Device // the LUNs, and one that may have become one of them
}

// Open opens the domain on devs, all LUNs of its volume group, for reading. Nothing is written.
func Open(ctx context.Context, devs []blockdev.Device, o Options) (*Domain, error) {
	o = o.withDefaults()
	d := &Domain{devs: devs, opt: o, io: ioCtx(o.IOTimeout)}
	err := d.io.steps(ctx, func(ctx context.Context) (err error) {
		d.group, err = lvm2.OpenWith(ctx, devs, lvm2.Options{IOTimeout: o.IOTimeout, Now: o.Now})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening the volume group: %w", err)
	}
	if err := d.load(ctx, d.group.VG()); err != nil {
		return nil, err
	}
	return d, nil
}

// Refresh reads the domain anew. It must not be called while a Writer exists; Writer.Refresh is for that.
func (d *Domain) Refresh(ctx context.Context) error {
	if d.writing.Load() {
		return fmt.Errorf("refreshing %s: it has a writer, use the writer's Refresh: %w", d.uuid(), ErrInvalid)
	}
	return d.refresh(ctx)
}

func (d *Domain) refresh(ctx context.Context) error {
	var vg *lvm2.VG
	err := d.io.steps(ctx, func(ctx context.Context) (err error) {
		vg, err = d.group.Refresh(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the volume group: %w", err)
	}
	return d.load(ctx, vg)
}

// load makes the state out of a VG and the slots of its volumes.
func (d *Domain) load(ctx context.Context, vg *lvm2.VG) error {
	keys, id, problem := readKeys(vg)
	if problem != nil && (!d.opt.Tolerant || errors.Is(problem, ErrNotDomain)) {
		return fmt.Errorf("volume group %s: %w", vg.Name, problem)
	}
	vols, err := d.readVolumes(ctx, vg, id.geo)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.vg, d.keys, d.id, d.problem, d.vols, d.devs = vg, keys, id, problem, vols, d.group.Devices()
	return nil
}

// readKeys judges a VG by its tags.
func readKeys(vg *lvm2.VG) (Keys, identity, error) {
	if !vg.HasTag(tagReady) {
		if vg.HasTag(tagUnready) {
			return nil, identity{geo: geometry{5, 512, mib}}, ErrUnready
		}
		return nil, identity{}, ErrNotDomain
	}
	keys, sealErr := keysOfTags(vg.Tags)
	id, err := parseIdentity(keys)
	switch {
	case sealErr != nil:
		return keys, id, sealErr
	case err != nil:
		return keys, id, err
	case id.uuid != vg.Name:
		return keys, id, fmt.Errorf("key SDUUID is %.40q: %w", id.uuid, ErrBadKeys)
	}
	return keys, id, checkSpecials(vg, id.geo.version)
}

// checkSpecials tells whether the special volumes that this package reads and writes are there and large enough.
func checkSpecials(vg *lvm2.VG, version int) error {
	for _, s := range specials {
		if version < s.since {
			continue
		}
		lv := vg.LV(s.name)
		if lv == nil {
			return fmt.Errorf("special volume %s is missing: %w", s.name, ErrBadKeys)
		}
		if vg.Size(lv) < s.bytes || lv.Foreign {
			return fmt.Errorf("special volume %s has %d bytes, must be a plain volume of %d: %w", s.name, vg.Size(lv), s.bytes, ErrBadKeys)
		}
	}
	return nil
}

// Info tells what the domain says about itself.
func (d *Domain) Info() Info {
	d.mu.RLock()
	defer d.mu.RUnlock()
	i := Info{
		UUID: d.vg.Name, Name: d.id.name, Version: d.id.geo.version, Role: d.id.role, Class: d.id.class, Type: d.id.kind,
		Size: d.vg.TotalExtents() * d.vg.ExtentSize, Free: d.vg.FreeExtents() * d.vg.ExtentSize, ExtentSize: d.vg.ExtentSize,
		SectorSize: d.id.geo.sector, Alignment: d.id.geo.align, Seqno: d.vg.Seqno,
		FreeSlots: MaxSlot + 1 - d.id.geo.firstSlot(),
	}
	if len(d.id.pools) > 0 {
		i.PoolUUID = d.id.pools[0]
	}
	for _, dev := range d.devs {
		i.LUNs = append(i.LUNs, dev.Name())
	}
	for _, v := range d.vols {
		if v.Slot > 0 {
			i.FreeSlots--
		}
		if v.exists() {
			i.Volumes++
		}
	}
	return i
}

// PVs are the ids of the physical volumes, in the order of Info().LUNs.
func (d *Domain) PVs() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	ids := make([]string, len(d.vg.PVs))
	for i, pv := range d.vg.PVs {
		ids[i] = pv.ID
	}
	return ids
}

// luns are the devices of the domain.
func (d *Domain) luns() []blockdev.Device {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Clone(d.devs)
}

// exists tells whether users should see the volume.
func (v *Volume) exists() bool { return v.State == StateOK || v.State == StateUnreadable }

// Keys returns a copy of the domain's keys, unknown ones included.
func (d *Domain) Keys() Keys {
	d.mu.RLock()
	defer d.mu.RUnlock()
	k := make(Keys, len(d.keys))
	for key, v := range d.keys {
		k[key] = v
	}
	return k
}

// Volumes lists the volumes sorted by id, with those whose metadata is unreadable, without those being made or removed.
func (d *Domain) Volumes() []Volume {
	return d.list((*Volume).exists)
}

// Leftovers lists the volumes that are being made or removed.
func (d *Domain) Leftovers() []Volume {
	return d.list(func(v *Volume) bool { return !v.exists() })
}

func (d *Domain) list(keep func(*Volume) bool) []Volume {
	d.mu.RLock()
	out := make([]Volume, 0, len(d.vols))
	for _, v := range d.vols {
		if keep(v) {
			out = append(out, *v)
		}
	}
	d.mu.RUnlock()
	slices.SortFunc(out, func(a, b Volume) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Volume finds a volume by id, in any state.
func (d *Domain) Volume(id string) (Volume, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	v, ok := d.vols[id]
	if !ok {
		return Volume{}, false
	}
	return *v, true
}

func (d *Domain) uuid() string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.vg.Name
}

// Lockspace is the place of the lockspace: device and byte offset on it.
func (d *Domain) Lockspace() (blockdev.Device, int64, error) { return d.group.Locate("ids", 0) }

// SPMResource is the place of the resource SDM, whose holder may write the domain.
func (d *Domain) SPMResource() (blockdev.Device, int64, error) {
	return d.group.Locate("leases", sdmArea*d.geometry().align)
}

// VolumeResource is the place of the resource of the volume with this slot.
func (d *Domain) VolumeResource(slot int) (blockdev.Device, int64, error) {
	if slot < 1 || slot > MaxSlot {
		return nil, 0, fmt.Errorf("slot %d has no lease: %w", slot, ErrInvalid)
	}
	return d.group.Locate("leases", d.geometry().leaseOffset(slot))
}

func (d *Domain) geometry() geometry {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.id.geo
}

// Device gives a volume's data for reading. Close on it does nothing to the LUNs.
func (d *Domain) Device(id string) (blockdev.Device, error) { return d.group.Device(id) }

// Segments tells where a volume's data lies, as of the last Refresh of the volume group.
func (d *Domain) Segments(id string) ([]blockdev.Segment, error) { return d.group.Segments(id) }
