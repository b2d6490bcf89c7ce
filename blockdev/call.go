package blockdev

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// OpError says which call on which device failed. Decide with errors.Is on the sentinels of this package.
type OpError struct {
	Op       string // read, write, flush, write-zeroes, discard, open
	Device   string
	Off, Len int64 // zero for flush and open
	Err      error
}

// Error is "write 512 bytes at 1048576 of /dev/sdb: cause".
func (e *OpError) Error() string {
	if e.Op == opFlush || e.Op == opOpen {
		return fmt.Sprintf("%s %s: %v", e.Op, e.Device, e.Err)
	}
	return fmt.Sprintf("%s %d bytes at %d of %s: %v", e.Op, e.Len, e.Off, e.Device, e.Err)
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

const (
	opRead    = "read"
	opWrite   = "write"
	opFlush   = "flush"
	opZero    = "write-zeroes"
	opDiscard = "discard"
	opOpen    = "open"
)

// mutates tells whether an operation that has not come back may still change the device, or what is durable on it.
func mutates(op string) bool { return op != opRead }

// changes tells whether an operation changes what a reader sees, and so needs the right to write.
func changes(op string) bool { return op == opWrite || op == opZero || op == opDiscard }

// opError wraps err once; an error that already says where it happened stays as it is.
func opError(d Device, op string, off, n int64, err error) error {
	if err == nil {
		return nil
	}
	var oe *OpError
	if errors.As(err, &oe) && oe.Device == d.Name() {
		return err
	}
	return &OpError{Op: op, Device: d.Name(), Off: off, Len: n, Err: err}
}

// checkCall is the part of every call that is the same for all devices: deadline, range, alignment.
func checkCall(ctx context.Context, d Device, off, n int64) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ErrNoDeadline
	}
	ss := int64(d.SectorSize())
	if off%ss != 0 || n%ss != 0 {
		return fmt.Errorf("%w (%d)", ErrMisaligned, ss)
	}
	if off < 0 || n < 0 || n > d.Size()-off {
		return fmt.Errorf("%w (%d bytes)", ErrOutOfRange, d.Size())
	}
	if ctx.Err() != nil || !time.Now().Before(deadline) {
		return notSubmitted(ctx)
	}
	return nil
}

// notSubmitted is the error of a call whose time was over before anything was sent: it surely did nothing.
func notSubmitted(ctx context.Context) error {
	return fmt.Errorf("%w before it was submitted: %w", ErrTimeout, cause(ctx))
}

// abandoned is the error of a call that was submitted and did not come back in time.
func abandoned(ctx context.Context, op string) error {
	if mutates(op) {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, cause(ctx))
	}
	return fmt.Errorf("%w: %w", ErrTimeout, cause(ctx))
}

// cause is why the context ended. Its timer may be a moment late behind the deadline that was compared with.
func cause(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return context.DeadlineExceeded
}

// partial is the error of a mutation of which done bytes went through before err stopped the rest.
func partial(done int64, err error) error {
	if done == 0 || errors.Is(err, ErrOutcomeUnknown) {
		return err
	}
	return fmt.Errorf("%w: the first %d bytes are written, the rest failed: %w", ErrOutcomeUnknown, done, err)
}

// submitKey is the context key of the check that a backend makes in the last moment before it submits a mutation.
type submitKey struct{}

// WithSubmitCheck returns a context whose mutations call check in the last moment before they go to the kernel or
// the server, from whatever goroutine does that. An error means that nothing was submitted, and becomes the error of
// the call. Backends outside this package call SubmitCheck.
func WithSubmitCheck(ctx context.Context, check func() error) context.Context {
	if outer, ok := ctx.Value(submitKey{}).(func() error); ok {
		inner := check
		check = func() error { return errors.Join(outer(), inner()) }
	}
	return context.WithValue(ctx, submitKey{}, check)
}

// SubmitCheck runs the check that WithSubmitCheck put into ctx, if any.
func SubmitCheck(ctx context.Context) error {
	if check, ok := ctx.Value(submitKey{}).(func() error); ok {
		return check()
	}
	return nil
}
