package blockdev

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// GuardMargin is how much longer than the deadline of a write its lease must last. It covers the time between the
// last look at the guard and the system call.
const GuardMargin = 200 * time.Millisecond

// guarded lets mutations through only while a Guard allows them.
type guarded struct {
	Device
	guard Guard
}

// NewGuarded returns d with every write, zeroing and discard bound to g: before one is submitted, g must be good for
// the time until the context's deadline plus GuardMargin. The check is made twice, when the call comes in and, by
// WithSubmitCheck, in the moment before the data goes to the kernel or server; each failure means that nothing was
// submitted and is ErrLeaseLost. A flush changes nothing that a reader could see and is always allowed: it tells what
// became of writes that the guard had let through. A nil g allows no mutation.
func NewGuarded(d Device, g Guard) Device { return &guarded{Device: d, guard: g} }

// WriteAt implements Device.
func (g *guarded) WriteAt(ctx context.Context, p []byte, off int64) error {
	ctx, err := g.allow(ctx)
	if err != nil {
		return opError(g, opWrite, off, int64(len(p)), err)
	}
	return g.Device.WriteAt(ctx, p, off)
}

// WriteZeroes implements Device.
func (g *guarded) WriteZeroes(ctx context.Context, off, n int64) error {
	ctx, err := g.allow(ctx)
	if err != nil {
		return opError(g, opZero, off, n, err)
	}
	return g.Device.WriteZeroes(ctx, off, n)
}

// Discard implements Device.
func (g *guarded) Discard(ctx context.Context, off, n int64) error {
	ctx, err := g.allow(ctx)
	if err != nil {
		return opError(g, opDiscard, off, n, err)
	}
	return g.Device.Discard(ctx, off, n)
}

// allow checks now and arranges the check at submit time.
func (g *guarded) allow(ctx context.Context) (context.Context, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, ErrNoDeadline
	}
	check := func() error { return checkGuard(g.guard, time.Until(deadline)+GuardMargin) }
	if err := check(); err != nil {
		return ctx, err
	}
	return WithSubmitCheck(ctx, check), nil
}

// checkGuard asks the guard; whatever it says against the write is also ErrLeaseLost.
func checkGuard(g Guard, need time.Duration) error {
	if g == nil {
		return fmt.Errorf("%w: no guard", ErrLeaseLost)
	}
	err := g.Check(need)
	if err == nil || errors.Is(err, ErrLeaseLost) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrLeaseLost, err)
}
