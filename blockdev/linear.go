package blockdev

import (
	"context"
	"errors"
	"fmt"
	"sort"
)

// Segment is a run of bytes of a device.
type Segment struct {
	Dev      Device
	Off, Len int64
}

// linear is the concatenation of segments.
type linear struct {
	name       string
	segs       []Segment
	starts     []int64  // where each segment begins in the whole
	devs       []Device // each underlying device once
	size       int64
	sectorSize int
}

// NewLinear joins segments into one device, as a linear logical volume does. All parts must have the same sector
// size. A call that crosses a border becomes one call to each side, in order; if a later one fails, a mutation
// answers ErrOutcomeUnknown along with the cause. Close does not close the parts.
func NewLinear(name string, segs []Segment) (Device, error) {
	if len(segs) == 0 {
		return nil, fmt.Errorf("join %s: no segments", name)
	}
	l := &linear{name: name, segs: segs, sectorSize: segs[0].Dev.SectorSize()}
	for i, s := range segs {
		if err := l.add(s); err != nil {
			return nil, fmt.Errorf("join %s: segment %d, %d bytes at %d of %s: %w", name, i, s.Len, s.Off, s.Dev.Name(), err)
		}
	}
	return l, nil
}

// add checks one segment and puts it at the end.
func (l *linear) add(s Segment) error {
	ss := int64(l.sectorSize)
	switch {
	case s.Dev.SectorSize() != l.sectorSize:
		return fmt.Errorf("%w: sectors of %d bytes among %d", ErrNotSupported, s.Dev.SectorSize(), ss)
	case s.Off%ss != 0 || s.Len%ss != 0:
		return ErrMisaligned
	case s.Off < 0 || s.Len <= 0 || s.Len > s.Dev.Size()-s.Off:
		return fmt.Errorf("%w (%d bytes)", ErrOutOfRange, s.Dev.Size())
	}
	l.starts = append(l.starts, l.size)
	l.size += s.Len
	for _, d := range l.devs {
		if d == s.Dev {
			return nil
		}
	}
	l.devs = append(l.devs, s.Dev)
	return nil
}

func (l *linear) Name() string    { return l.name }
func (l *linear) Size() int64     { return l.size }
func (l *linear) SectorSize() int { return l.sectorSize }

// Close leaves the parts open: they belong to whoever made them.
func (l *linear) Close() error { return nil }

// Pending is the sum over the underlying devices, so it counts calls of other users of them too.
func (l *linear) Pending() int {
	n := 0
	for _, d := range l.devs {
		n += d.Pending()
	}
	return n
}

func (l *linear) ReadAt(ctx context.Context, p []byte, off int64) error {
	return l.each(ctx, opRead, off, int64(len(p)), func(d Device, at, from, n int64) error {
		return d.ReadAt(ctx, p[from:from+n], at)
	})
}

func (l *linear) WriteAt(ctx context.Context, p []byte, off int64) error {
	return l.each(ctx, opWrite, off, int64(len(p)), func(d Device, at, from, n int64) error {
		return d.WriteAt(ctx, p[from:from+n], at)
	})
}

func (l *linear) WriteZeroes(ctx context.Context, off, n int64) error {
	return l.each(ctx, opZero, off, n, func(d Device, at, _, n int64) error { return d.WriteZeroes(ctx, at, n) })
}

func (l *linear) Discard(ctx context.Context, off, n int64) error {
	return l.each(ctx, opDiscard, off, n, func(d Device, at, _, n int64) error { return d.Discard(ctx, at, n) })
}

// Flush flushes every underlying device, even after one failed.
func (l *linear) Flush(ctx context.Context) error {
	if err := checkCall(ctx, l, 0, 0); err != nil {
		return opError(l, opFlush, 0, 0, err)
	}
	var all error
	for _, d := range l.devs {
		all = errors.Join(all, d.Flush(ctx))
	}
	return opError(l, opFlush, 0, 0, all)
}

// each calls f for every piece of a range: n bytes at `at` of d, which are at `from` in the caller's range.
func (l *linear) each(ctx context.Context, op string, off, n int64, f func(d Device, at, from, n int64) error) error {
	if err := checkCall(ctx, l, off, n); err != nil {
		return opError(l, op, off, n, err)
	}
	i := sort.Search(len(l.starts), func(i int) bool { return l.starts[i] > off }) - 1
	for done := int64(0); done < n; i++ {
		s := l.segs[i]
		in := off + done - l.starts[i]
		k := min(n-done, s.Len-in)
		if err := f(s.Dev, s.Off+in, done, k); err != nil {
			if mutates(op) {
				err = partial(done, err)
			}
			return opError(l, op, off, n, err)
		}
		done += k
	}
	return nil
}
