package domain

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// zeroChunk is how much one zeroing call covers: it must be done within one I/O timeout even where the device has no
// means of its own and every zero travels.
const zeroChunk = 64 * mib

// ioCtx gives each device call its own deadline.
type ioCtx time.Duration

func (t ioCtx) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(t))
	defer cancel()
	return f(ctx)
}

// steps is for calls that make several device calls one after the other, such as a commit.
func (t ioCtx) steps(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Duration(t))
	defer cancel()
	return f(ctx)
}

func (t ioCtx) read(ctx context.Context, d blockdev.Device, p []byte, off int64) error {
	return t.call(ctx, func(ctx context.Context) error { return d.ReadAt(ctx, p, off) })
}

func (t ioCtx) write(ctx context.Context, d blockdev.Device, p []byte, off int64) error {
	return t.call(ctx, func(ctx context.Context) error { return d.WriteAt(ctx, p, off) })
}

func (t ioCtx) flush(ctx context.Context, d blockdev.Device) error {
	return t.call(ctx, d.Flush)
}

// zero makes n bytes at off zero, in chunks.
func (t ioCtx) zero(ctx context.Context, d blockdev.Device, off, n int64) error {
	for n > 0 {
		c := min(n, zeroChunk)
		if err := t.call(ctx, func(ctx context.Context) error { return d.WriteZeroes(ctx, off, c) }); err != nil {
			return fmt.Errorf("zeroing %d bytes at %d of %s: %w", c, off, d.Name(), err)
		}
		off, n = off+c, n-c
	}
	return nil
}
