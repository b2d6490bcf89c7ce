package blockdev

import (
	"context"
	"errors"
	"fmt"
)

// Step is one call of several that Do carries out one after the other. Make it with ReadStep, WriteStep or FlushStep.
type Step struct {
	op  string
	p   []byte
	off int64
}

// ReadStep fills p from byte offset off.
func ReadStep(p []byte, off int64) Step { return Step{opRead, p, off} }

// WriteStep writes p at byte offset off.
func WriteStep(p []byte, off int64) Step { return Step{opWrite, p, off} }

// FlushStep makes what was written before it durable. It is left out where the device has no flush.
func FlushStep() Step { return Step{op: opFlush} }

// stepper is a device that can be given several steps at once.
type stepper interface {
	// do is false when these steps must go one by one; then nothing was done.
	do(ctx context.Context, steps []Step) (bool, error)
}

// Do carries the steps out in order, each after the one before it came back, and stops at the first error. It means the
// same as calling the device's methods one by one, under one deadline; a device of this machine saves the change of
// goroutine between them. When a step fails after one that may have changed the device, the error is ErrOutcomeUnknown
// besides what it is.
func Do(ctx context.Context, d Device, steps ...Step) error {
	if s, ok := d.(stepper); ok {
		if done, err := s.do(ctx, steps); done {
			return err
		}
	}
	changed := false
	for _, s := range steps {
		if err := s.on(ctx, d); err != nil {
			return afterChange(changed, err)
		}
		changed = changed || changes(s.op)
	}
	return nil
}

// afterChange adds to the error of a step that the one before it was done.
func afterChange(changed bool, err error) error {
	if !changed || err == nil || errors.Is(err, ErrOutcomeUnknown) {
		return err
	}
	return fmt.Errorf("%w: the steps before it are done: %w", ErrOutcomeUnknown, err)
}

// on carries out one step by the device's own method.
func (s *Step) on(ctx context.Context, d Device) error {
	switch s.op {
	case opRead:
		return d.ReadAt(ctx, s.p, s.off)
	case opWrite:
		return d.WriteAt(ctx, s.p, s.off)
	}
	if err := d.Flush(ctx); !errors.Is(err, ErrNotSupported) {
		return err
	}
	return nil
}

// maxSteps is how many steps a device of this machine takes at once.
const maxSteps = 3

// do hands the steps to one worker.
func (d *local) do(ctx context.Context, steps []Step) (bool, error) {
	if len(steps) > maxSteps {
		return false, nil
	}
	for _, s := range steps {
		if len(s.p) > maxBuffer {
			return false, nil
		}
	}
	for _, s := range steps {
		if err := d.check(ctx, s.op, s.off, int64(len(s.p))); err != nil {
			return true, opError(d, s.op, s.off, int64(len(s.p)), err)
		}
	}
	return true, d.together(ctx, steps)
}

// together gives each step a buffer and collects what the reads brought.
func (d *local) together(ctx context.Context, steps []Step) error {
	var list [maxSteps]localStep
	for i, s := range steps {
		list[i] = localStep{op: s.op, off: s.off, n: int64(len(s.p))}
		if s.op == opFlush {
			continue
		}
		buf, err := d.buffers.get(len(s.p))
		if err != nil {
			d.giveBack(list[:i])
			return err
		}
		if list[i].buf = buf; s.op == opWrite {
			copy(buf, s.p)
		}
	}
	if at, err := d.submitAll(ctx, list[:len(steps)]); err != nil {
		s := list[at]
		return opError(d, s.op, s.off, s.n, err)
	}
	for i, s := range steps {
		if s.op == opRead {
			copy(s.p, list[i].buf)
		}
	}
	d.giveBack(list[:len(steps)])
	return nil
}

// giveBack returns the buffers of steps that have come back or were never sent.
func (d *local) giveBack(steps []localStep) {
	for _, s := range steps {
		d.buffers.put(s.buf)
	}
}
