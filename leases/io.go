package leases

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// writeSync writes and makes durable, as one operation with one outcome.
func writeSync(ctx context.Context, dev blockdev.Device, p []byte, off int64) error {
	return blockdev.Do(ctx, dev, blockdev.WriteStep(p, off), blockdev.FlushStep())
}

// pause waits for d of virtual or real time, or until the context ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// maybeDone says whether a failed write may have happened or may still happen. Only errors that the device gives
// before it submits anything prove that it did not.
func maybeDone(err error) bool {
	if errors.Is(err, blockdev.ErrOutcomeUnknown) {
		return true
	}
	for _, sure := range []error{blockdev.ErrNoDeadline, blockdev.ErrMisaligned, blockdev.ErrOutOfRange,
		blockdev.ErrReadOnly, blockdev.ErrPending, blockdev.ErrLeaseLost, ErrLost} {
		if errors.Is(err, sure) {
			return false
		}
	}
	return err != nil
}
