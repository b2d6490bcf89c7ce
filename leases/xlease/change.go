package xlease

import (
	"context"
	"errors"
	"fmt"
)

// Format writes an empty index. Resources that lie in the volume are left as they are and overwritten when their places
// are taken. A crash leaves an index that nobody uses until it is formatted or rebuilt.
func (v *Volume) Format(ctx context.Context) error {
	x := newIndex(v.geo.AlignSize, head{lockspace: v.cfg.Lockspace, mtime: v.cfg.Now(), updating: true})
	if err := v.writeAll(ctx, x); err != nil {
		return fmt.Errorf("formatting the index of external leases: %w", err)
	}
	return nil
}

// writeAll writes the whole index marked as being written, and then the mark away.
func (v *Volume) writeAll(ctx context.Context, x *Index) error {
	x.setHead(head{lockspace: v.cfg.Lockspace, mtime: v.cfg.Now(), updating: true})
	if err := v.write(ctx, x.raw, 0); err != nil {
		return err
	}
	x.setHead(head{lockspace: v.cfg.Lockspace, mtime: v.cfg.Now()})
	return v.writeHead(ctx, x)
}

// Add makes a lease and returns its record. One that exists is answered with its record and false.
//
// The resource is written before the record, so that a crash leaves at most a resource that nothing refers to.
func (v *Volume) Add(ctx context.Context, id string) (Record, bool, error) {
	if err := CheckID(id); err != nil {
		return Record{}, false, err
	}
	x, err := v.Load(ctx)
	if err != nil {
		return Record{}, false, fmt.Errorf("creating lease %s: %w", id, err)
	}
	if rec, err := x.Lookup(id); err == nil || !errors.Is(err, ErrNotFound) {
		return rec, false, err
	}
	n, err := v.place(x, id)
	if err != nil {
		return Record{}, false, fmt.Errorf("creating lease %s: %w", id, err)
	}
	if err := v.initResource(ctx, n, id); err != nil {
		return Record{}, false, fmt.Errorf("creating lease %s: %w", id, err)
	}
	x.put(n, id)
	if err := v.writeRecord(ctx, x, n); err != nil {
		return Record{}, false, fmt.Errorf("creating lease %s: writing its record: %w", id, err)
	}
	return Record{N: n, ID: id, Offset: x.offset(n)}, true, nil
}

// place is where a new lease goes: the record that an interrupted operation left for it, or the first free one.
func (v *Volume) place(x *Index, id string) (int, error) {
	if n := x.find(id); n >= 0 && n < v.Capacity() {
		return n, nil
	}
	if n := x.free(v.Capacity()); n >= 0 {
		return n, nil
	}
	return 0, fmt.Errorf("%w: %d places, all taken", ErrFull, v.Capacity())
}

// Remove deletes a lease, also one that an interrupted operation left. It does not look whether the lease is held; see
// Refuse for that.
//
// The record goes first, so that from the first write on nobody finds the lease. If clearing the resource fails, the
// lease is gone all the same: what is left is overwritten when the place is taken.
func (v *Volume) Remove(ctx context.Context, id string) (Record, error) {
	x, err := v.Load(ctx)
	if err != nil {
		return Record{}, fmt.Errorf("deleting lease %s: %w", id, err)
	}
	n := -1
	if id != "" { // the free records have that
		n = x.find(id)
	}
	if n < 0 {
		return Record{}, fmt.Errorf("deleting lease %s: %w", id, ErrNotFound)
	}
	rec := Record{N: n, ID: id, Offset: x.offset(n)}
	x.put(n, "")
	if err := v.writeRecord(ctx, x, n); err != nil {
		return rec, fmt.Errorf("deleting lease %s: writing its record: %w", id, err)
	}
	if n >= v.Capacity() {
		return rec, nil // there is no room for a resource
	}
	if err := v.clearResource(ctx, n); err != nil {
		v.cfg.Log.Warn("the resource of a deleted lease was not cleared; it is overwritten when its place is taken",
			"lockspace", v.cfg.Lockspace, "lease", id, "offset", rec.Offset, "err", err)
	}
	return rec, nil
}
