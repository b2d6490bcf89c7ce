package lvm2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// readRange reads n bytes at off, whatever the sector size is.
func readRange(ctx context.Context, dev blockdev.Device, timeout time.Duration, off, n int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ss := int64(dev.SectorSize())
	lo, hi := off/ss*ss, (off+n+ss-1)/ss*ss
	if off < 0 || n < 0 || hi > dev.Size() {
		return nil, fmt.Errorf("read %d bytes at %d of %s: %w", n, off, dev.Name(), blockdev.ErrOutOfRange)
	}
	p := make([]byte, hi-lo)
	if err := dev.ReadAt(ctx, p, lo); err != nil {
		return nil, err
	}
	return p[off-lo : off-lo+n], nil
}

// writer writes under a guard, with a deadline of its own for every call.
type writer struct {
	guard   blockdev.Guard // nil before any lease exists
	timeout time.Duration
}

// submit gives a mutation its deadline and the check that the right to write outlives it.
func (w writer) submit(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	if w.guard == nil {
		return f(ctx)
	}
	end, _ := ctx.Deadline()
	check := func() error {
		err := w.guard.Check(time.Until(end))
		if err == nil || errors.Is(err, blockdev.ErrLeaseLost) {
			return err
		}
		return fmt.Errorf("%w: %w", blockdev.ErrLeaseLost, err)
	}
	if err := check(); err != nil {
		return err
	}
	return f(blockdev.WithSubmitCheck(ctx, check))
}

// write writes p at off, both multiples of 512. On larger sectors the bytes around are read first and written back;
// they are ours, as nobody else writes while we hold the right to.
func (w writer) write(ctx context.Context, dev blockdev.Device, off int64, p []byte) error {
	ss := int64(dev.SectorSize())
	n := int64(len(p))
	if lo, hi := off/ss*ss, (off+n+ss-1)/ss*ss; lo != off || hi != off+n {
		whole, err := w.around(ctx, dev, lo, hi, off, n)
		if err != nil {
			return err
		}
		copy(whole[off-lo:], p)
		off, p = lo, whole
	}
	return w.submit(ctx, func(ctx context.Context) error { return dev.WriteAt(ctx, p, off) })
}

// around reads the sectors at both ends of a write that does not fill them.
func (w writer) around(ctx context.Context, dev blockdev.Device, lo, hi, off, n int64) ([]byte, error) {
	ss := int64(dev.SectorSize())
	whole := make([]byte, hi-lo)
	for _, at := range slices.Compact([]int64{lo, hi - ss}) {
		if at >= off && at+ss <= off+n {
			continue
		}
		p, err := readRange(ctx, dev, w.timeout, at, ss)
		if err != nil {
			return nil, err
		}
		copy(whole[at-lo:], p)
	}
	return whole, nil
}

// zero makes n bytes at off zeroes.
func (w writer) zero(ctx context.Context, dev blockdev.Device, off, n int64) error {
	return w.write(ctx, dev, off, make([]byte, n))
}

func (w writer) flush(ctx context.Context, dev blockdev.Device) error {
	return w.submit(ctx, dev.Flush)
}

// parallel calls f for 0..n-1 at once and waits for all. Errors come in order.
func parallel(n int, f func(int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := 1; i < n; i++ {
		wg.Go(func() { errs[i] = f(i) })
	}
	if n > 0 {
		errs[0] = f(0)
	}
	wg.Wait()
	return errs
}
