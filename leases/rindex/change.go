package rindex

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// Update gives the slot at off to name, or frees it when name is empty, whatever the slot held. It takes no lock: it is
// for repair, when no host uses the index.
func (x *Index) Update(ctx context.Context, name string, off int64) error {
	slot, err := x.slotOf(off)
	if err != nil {
		return err
	}
	var e Entry
	if name != "" {
		e = Entry{Offset: uint64(off), Name: leases.RawName(name)}
	}
	return x.writeEntry(ctx, slot, &e)
}

// writeEntry rewrites the one sector that holds the slot.
func (x *Index) writeEntry(ctx context.Context, slot int, e *Entry) error {
	s := int64(x.geo.SectorSize)
	at := s + int64(slot)*entrySize
	buf := make([]byte, s)
	if err := x.cfg.Device.ReadAt(ctx, buf, x.cfg.Offset+at/s*s); err != nil {
		return fmt.Errorf("reading the resource index: %w", err)
	}
	e.Encode(buf[at%s:])
	return x.write(ctx, buf, at/s*s)
}

// Rebuild makes the entries anew from the leases that lie in the slots: every resource that was not cleared gets its
// entry, whatever the index said. It takes no lock.
func (x *Index) Rebuild(ctx context.Context) (resources int, err error) {
	entries := make([]Entry, x.Slots())
	buf := make([]byte, x.geo.SectorSize)
	for i := range entries {
		off := x.OffsetOf(i)
		if off+x.geo.AlignSize > x.cfg.Device.Size() {
			break
		}
		if err := x.cfg.Device.ReadAt(ctx, buf, off); err != nil {
			return 0, fmt.Errorf("looking for resources: %w", err)
		}
		var l leases.Leader
		if l.Decode(buf) != nil || l.Magic != leases.MagicResource {
			continue
		}
		entries[i] = Entry{Offset: uint64(off), Name: l.Resource}
		resources++
	}
	return resources, x.writeArea(ctx, entries)
}

// locked runs f under the lease that guards the index.
func (x *Index) locked(ctx context.Context, ls *leases.Lockspace, f func(context.Context) error) (err error) {
	spec := leases.ResourceSpec{Name: LeaseName, Device: x.cfg.Device, Offset: x.cfg.Offset + x.geo.AlignSize, NoWait: true}
	lease, err := ls.Acquire(ctx, spec)
	if err != nil {
		return fmt.Errorf("locking the resource index: %w", err)
	}
	defer func() {
		if rerr := lease.Release(ctx); rerr != nil {
			err = errors.Join(err, fmt.Errorf("unlocking the resource index: %w", rerr))
		}
	}()
	return f(blockdev.WithSubmitCheck(ctx, func() error { return lease.Check(0) }))
}

// Create makes a new resource in the first free slot and returns where its lease lies. ls is the joined lockspace of the
// index. numHosts is as in leases.InitResource.
func (x *Index) Create(ctx context.Context, ls *leases.Lockspace, name string, numHosts int) (off int64, err error) {
	n, err := leases.MakeName(name)
	if err != nil {
		return 0, fmt.Errorf("resource %w", err)
	}
	err = x.locked(ctx, ls, func(ctx context.Context) error {
		entries, err := x.Entries(ctx)
		if err != nil {
			return err
		}
		if _, err := x.find(entries, n); err == nil {
			return fmt.Errorf("%w: %q", ErrExists, name)
		}
		slot, err := x.free(entries)
		if err != nil {
			return err
		}
		off = x.OffsetOf(slot)
		if err := leases.InitResource(ctx, x.cfg.Device, off, x.geo, x.cfg.Lockspace, name, numHosts); err != nil {
			return err
		}
		return x.writeEntry(ctx, slot, &Entry{Offset: uint64(off), Name: n})
	})
	return off, err
}

// Delete removes the entry of a resource and clears its lease. It does not look whether somebody holds the lease.
func (x *Index) Delete(ctx context.Context, ls *leases.Lockspace, name string) error {
	n, err := leases.MakeName(name)
	if err != nil {
		return fmt.Errorf("resource %w", err)
	}
	return x.locked(ctx, ls, func(ctx context.Context) error {
		entries, err := x.Entries(ctx)
		if err != nil {
			return err
		}
		slot, err := x.find(entries, n)
		if err != nil {
			return err
		}
		if slot >= x.Slots() {
			return fmt.Errorf("%w: %q has slot %d of %d", ErrOffset, name, slot, x.Slots())
		}
		if err := x.writeEntry(ctx, slot, &Entry{}); err != nil {
			return err
		}
		return leases.ClearResource(ctx, x.cfg.Device, x.OffsetOf(slot), x.geo, x.cfg.Lockspace, name)
	})
}
