package leases

import (
	"bytes"
	"context"
	"fmt"
)

// lvbSector is where the lock value block lies, whatever the sector size.
const lvbSector = 2002

// hasLVB says whether the lock value block lies within the area. With sectors of 4096 bytes and areas below 8 MiB
// sanlock writes it into another lease.
func (g Geometry) hasLVB() bool { return g.sector(lvbSector+1) <= g.AlignSize }

// LVB is the lock value block as it was when the lease was taken, or as SetLVB changed it: a whole sector. It is nil when
// the lease was taken without ResourceSpec.LVB. Nothing protects it from bit rot, and it has no history.
func (l *Lease) LVB() []byte { return l.r.copyLVB() }

// LVB is the lock value block as it was when the lease was taken; see Lease.LVB. A sharer cannot change it.
func (s *SharedLease) LVB() []byte { return s.r.copyLVB() }

func (r *resource) copyLVB() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.lvb)
}

// SetLVB changes the lock value block, padded with zeroes to a sector. It goes to disk when the exclusive lease ends, by
// Release or ToShared; a host that dies before leaves the old one.
func (l *Lease) SetLVB(b []byte) error {
	if err := l.Check(0); err != nil {
		return err
	}
	r := l.r
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.lvb == nil:
		return fmt.Errorf("resource %s: %w: the lease was taken without it", r.spec.Name, ErrLVB)
	case len(b) > len(r.lvb):
		return fmt.Errorf("resource %s: %w: %d bytes where %d fit", r.spec.Name, ErrLVB, len(b), len(r.lvb))
	}
	clear(r.lvb)
	copy(r.lvb, b)
	r.lvbDirty = true
	return nil
}

// readLVB reads the block if it was asked for. The lease must be ours on disk.
func (r *resource) readLVB(ctx context.Context) error {
	var buf []byte
	if r.spec.LVB {
		buf = make([]byte, r.geo.SectorSize)
		if err := r.readSector(ctx, lvbSector, buf); err != nil {
			return fmt.Errorf("reading lock value block of resource %s: %w", r.spec.Name, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lvb, r.lvbDirty = buf, false
	return nil
}

// writeLVB writes the block if it was set, while the lease is still ours.
func (r *resource) writeLVB(ctx context.Context) error {
	r.mu.Lock()
	dirty, buf := r.lvbDirty, bytes.Clone(r.lvb)
	r.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := r.writeSector(ctx, lvbSector, buf); err != nil {
		return fmt.Errorf("writing lock value block of resource %s: %w", r.spec.Name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lvbDirty = false
	return nil
}

// readSector reads sector i of the area.
func (r *resource) readSector(ctx context.Context, i int, buf []byte) error {
	rctx, cancel, err := r.ls.usable(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	return r.spec.Device.ReadAt(rctx, buf, r.spec.Offset+r.geo.sector(i))
}
