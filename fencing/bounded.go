package fencing

import (
	"context"
	"fmt"
	"time"
)

// Limits bound the calls to a device.
type Limits struct {
	// Status is how long a question may take. Default 30 s: some agents log in by telnet.
	Status time.Duration
	// Order is how long off, on or reset may take. Default 120 s: some agents wait until it is done.
	Order time.Duration
}

// DefaultLimits are the defaults of Limits.
func DefaultLimits() Limits { return Limits{Status: 30 * time.Second, Order: 120 * time.Second} }

// Validate refuses limits that no call could keep.
func (l Limits) Validate() error {
	if l.Status < time.Millisecond || l.Order < time.Millisecond {
		return fmt.Errorf("a power device needs time to answer: status %s, orders %s: %w", l.Status, l.Order, ErrConfig)
	}
	return nil
}

// bounded gives each call of a device its deadline, and its errors a bounded text.
type bounded struct {
	dev    Device
	limits Limits
}

// Bounded returns dev with limits. What a call does beyond its time it does for nothing: its answer is ErrTimeout even if it
// is a success, because an answer may be old by then.
func Bounded(dev Device, limits Limits) Device { return bounded{dev, limits} }

func (b bounded) Status(ctx context.Context) (State, error) {
	st := Unknown
	err := within(ctx, b.limits.Status, func(ctx context.Context) (err error) {
		st, err = b.dev.Status(ctx)
		return err
	})
	if err != nil || st != On && st != Off {
		return Unknown, err
	}
	return st, nil
}

func (b bounded) Off(ctx context.Context) error   { return within(ctx, b.limits.Order, b.dev.Off) }
func (b bounded) On(ctx context.Context) error    { return within(ctx, b.limits.Order, b.dev.On) }
func (b bounded) Reset(ctx context.Context) error { return within(ctx, b.limits.Order, b.dev.Reset) }

// Check is the device's, if it is a Checker.
func (b bounded) Check(ctx context.Context) error {
	if c, ok := b.dev.(Checker); ok {
		return within(ctx, b.limits.Status, c.Check)
	}
	return nil
}

// Settle is the device's, if it is a Settler.
func (b bounded) Settle(ctx context.Context) error {
	if s, ok := b.dev.(Settler); ok {
		return within(ctx, b.limits.Order, s.Settle)
	}
	return nil
}

// within runs one call with a deadline.
func within(ctx context.Context, limit time.Duration, call func(context.Context) error) error {
	inner, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := call(inner)
	if err == nil {
		err = inner.Err()
	}
	if err == nil {
		return nil
	}
	return briefly(timeLimit(ctx, inner, err))
}

// brief is an error with a bounded text and an unchanged chain.
type brief struct {
	text string
	err  error
}

func briefly(err error) error {
	text := err.Error()
	short := Clean(text, MaxNote)
	if short == text {
		return err
	}
	return &brief{short, err}
}

func (b *brief) Error() string { return b.text }
func (b *brief) Unwrap() error { return b.err }
