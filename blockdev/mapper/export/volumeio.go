package export

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/plant"
)

// Steps of long requests, so that each meets its deadline and the guard is asked again.
const (
	zeroStep    = 64 << 20
	discardStep = 256 << 20
)

// stored is how many of n bytes at off are allocated.
func (m *mapping) stored(off, n int64) int64 { return min(n, max(0, m.size-off)) }

// read fills p from off as far as the volume is allocated, and returns how far that is. The rest of p is not touched:
// there the volume reads as zeroes.
func (v *volume) read(p []byte, off int64) (int64, error) {
	m := v.now.Load()
	n := m.stored(off, int64(len(p)))
	return n, v.count(v.readParts(m.dev, p[:n], off))
}

// readParts reads whole sectors straight into p and the rest by way of a sector of its own.
func (v *volume) readParts(d blockdev.Device, p []byte, off int64) error {
	return v.parts(d, off, int64(len(p)), func(at, from, n int64) error {
		return v.call(func(ctx context.Context) error { return d.ReadAt(ctx, p[from:from+n], at) })
	}, func(sector []byte, in, from, n int64) bool {
		copy(p[from:from+n], sector[in:])
		return false
	})
}

// write writes p at off.
func (v *volume) write(p []byte, off int64, fua bool) error {
	n := int64(len(p))
	m, err := v.admit(off, n)
	if err != nil {
		return err
	}
	n = m.stored(off, n) // all of it: admit saw to that
	if plant.On(plant.DropWrite) && rand.IntN(20) == 0 {
		return nil
	}
	err = v.mutate(m, off, n, func() error {
		return v.parts(m.dev, off, n, func(at, from, n int64) error {
			return v.call(func(ctx context.Context) error { return m.dev.WriteAt(ctx, p[from:from+n], at) })
		}, func(sector []byte, in, from, n int64) bool {
			copy(sector[in:], p[from:from+n])
			return true
		})
	})
	return v.durable(err, fua)
}

// zero makes n bytes at off read as zeroes. Behind what is allocated that needs space as a write does: an extension
// brings whatever lay on the device before.
func (v *volume) zero(off, n int64, fua bool) error {
	m, err := v.admit(off, n)
	if err != nil {
		return err
	}
	n = m.stored(off, n) // all of it: admit saw to that
	err = v.mutate(m, off, n, func() error {
		return v.parts(m.dev, off, n, func(at, _, n int64) error {
			return v.steps(at, n, zeroStep, m.dev.WriteZeroes)
		}, func(sector []byte, in, _, n int64) bool {
			if v.plant.wholeZero {
				clear(sector)
			}
			clear(sector[in : in+n])
			return true
		})
	})
	return v.durable(err, fua)
}

// trim tells the devices which whole sectors are not needed. It is a hint: devices that have no such thing, and bytes
// that have no storage, are no error.
func (v *volume) trim(off, n int64, fua bool) error {
	if v.c.ReadOnly {
		return blockdev.ErrReadOnly
	}
	m := v.now.Load()
	n = m.stored(off, n)
	ss := v.sector()
	from, to := (off+ss-1)/ss*ss, (off+n)/ss*ss
	if !v.c.Discard || from >= to {
		return v.durable(nil, fua)
	}
	err := v.mutate(m, from, to-from, func() error {
		err := v.steps(from, to-from, discardStep, m.dev.Discard)
		if errors.Is(err, blockdev.ErrNotSupported) && !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			return nil
		}
		return err
	})
	return v.durable(err, fua)
}

// durable flushes after a successful mutation when the client asked for it.
func (v *volume) durable(err error, fua bool) error {
	if err != nil || !fua {
		return err
	}
	return v.flush(v.life)
}

// flush makes durable what was written before. All connections share the devices, and no mapping has fewer of them than
// an earlier one, so this covers every write that was acknowledged anywhere.
func (v *volume) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, v.c.IOTimeout)
	defer cancel()
	if v.c.ReadOnly {
		return nil
	}
	err := v.now.Load().dev.Flush(ctx)
	if err != nil {
		v.badFlushes.Add(1)
	}
	return v.count(err)
}

// flushFor is flush for a client that has heard of seen failures so far. The kernel tells of a failed flush once, and
// what is lost with it may be another client's: each hears of it at its next flush.
func (v *volume) flushFor(seen *atomic.Uint64) error {
	err := v.flush(v.life)
	if n := v.badFlushes.Load(); seen.Swap(n) != n && err == nil {
		err = errOtherFlush
	}
	return err
}

// steps calls f for n bytes at off, piece by piece.
func (v *volume) steps(off, n, step int64, f func(ctx context.Context, off, n int64) error) error {
	for done := int64(0); done < n; done += step {
		err := v.call(func(ctx context.Context) error { return f(ctx, off+done, min(step, n-done)) })
		if err != nil {
			return err
		}
	}
	return nil
}

// parts cuts n bytes at off into whole sectors, for which whole is called once, and the parts of sectors before and
// after. For those patch sees the sector's bytes, of which n at `in` are meant, and says whether it changed them. The
// numbers `from` are relative to off.
func (v *volume) parts(d blockdev.Device, off, n int64, whole func(at, from, n int64) error,
	patch func(sector []byte, in, from, n int64) bool) error {
	ss := int64(d.SectorSize())
	from := int64(0)
	if in := off % ss; n > 0 && (in != 0 || n < ss) {
		from = min(ss-in, n)
		if err := v.patch(d, off-in, func(b []byte) bool { return patch(b, in, 0, from) }); err != nil {
			return err
		}
	}
	if k := (n - from) / ss * ss; k > 0 {
		if err := whole(off+from, from, k); err != nil {
			return err
		}
		from += k
	}
	if from == n {
		return nil
	}
	return v.patch(d, off+from, func(b []byte) bool { return patch(b, 0, from, n-from) })
}

// patch reads one sector and writes it back if f changed it. For a change the caller holds the lock on the sector.
func (v *volume) patch(d blockdev.Device, at int64, f func(sector []byte) bool) error {
	b := make([]byte, d.SectorSize())
	err := v.call(func(ctx context.Context) error { return d.ReadAt(ctx, b, at) })
	if err != nil || !f(b) {
		return err
	}
	return v.call(func(ctx context.Context) error { return d.WriteAt(ctx, b, at) })
}
