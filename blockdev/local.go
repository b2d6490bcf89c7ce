package blockdev

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// smallZero is the length up to which zeroes are written rather than asked for: one small write is cheaper than a
// change of the file's extents, or a command that many arrays carry out slowly.
const smallZero = 64 << 10

// zeroStep bounds one request to the kernel to zero or discard, so that a long one meets its deadline between steps.
const zeroStep = 256 << 20

// local is a regular file or block device of this machine.
//
// Each system call runs in a goroutine of its own. The caller waits for it no longer than its context allows; then the
// call is abandoned: its slot, its buffer and its hold on the descriptor stay with it until the kernel returns.
type local struct {
	path       string
	fd         int
	block      bool
	readOnly   bool
	size       int64
	sectorSize int
	flight     *inflight
	buffers    bufferPool
	noZero     atomic.Bool // the kernel has no means to zero here

	mu     sync.Mutex // guards refs and closed
	refs   int        // calls with the kernel, plus one until Close
	closed bool
}

// localStep is one system call.
type localStep struct {
	op  string
	buf []byte // from the device's buffers; nil for flush, zero and discard
	off int64
	n   int64
}

// localCall is one system call, or a few that one worker makes one after the other.
type localCall struct {
	d     *local
	ctx   context.Context
	list  [maxSteps]localStep
	steps []localStep // of list
	at    int         // the step that failed; the last one when all went well
	err   error
	state atomic.Int32
	done  chan struct{} // one token when stateDone was reached
}

// Name is the path.
func (d *local) Name() string { return d.path }

// Size is the size when the device was opened, rounded down to whole sectors.
func (d *local) Size() int64 { return d.size }

// SectorSize is 512 or 4096.
func (d *local) SectorSize() int { return d.sectorSize }

// Pending is the number of calls still with the kernel that nobody waits for any more.
func (d *local) Pending() int { return int(d.flight.pending.Load()) }

// ReadAt implements Device.
func (d *local) ReadAt(ctx context.Context, p []byte, off int64) error {
	return d.transfer(ctx, opRead, p, off)
}

// WriteAt implements Device.
func (d *local) WriteAt(ctx context.Context, p []byte, off int64) error {
	return d.transfer(ctx, opWrite, p, off)
}

// Flush implements Device with fdatasync(2), which on a block device sends it the flush command.
func (d *local) Flush(ctx context.Context) error {
	if err := checkCall(ctx, d, 0, 0); err != nil {
		return opError(d, opFlush, 0, 0, err)
	}
	return opError(d, opFlush, 0, 0, d.call(ctx, opFlush, nil, 0, 0))
}

// WriteZeroes implements Device.
func (d *local) WriteZeroes(ctx context.Context, off, n int64) error {
	if err := d.check(ctx, opZero, off, n); err != nil {
		return opError(d, opZero, off, n, err)
	}
	if n > smallZero && !d.noZero.Load() {
		err := d.steps(ctx, opZero, off, n)
		if !errors.Is(err, ErrNotSupported) {
			return opError(d, opZero, off, n, err)
		}
		d.noZero.Store(true)
	}
	return opError(d, opZero, off, n, d.pieces(ctx, opWrite, nil, off, n))
}

// Discard implements Device.
func (d *local) Discard(ctx context.Context, off, n int64) error {
	if err := d.check(ctx, opDiscard, off, n); err != nil {
		return opError(d, opDiscard, off, n, err)
	}
	return opError(d, opDiscard, off, n, d.steps(ctx, opDiscard, off, n))
}

// Close lets go of the device. The descriptor itself is closed when the last abandoned call is back: its number must
// not be given to another file while a late goroutine may still use it.
func (d *local) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	return d.unref()
}

func (d *local) check(ctx context.Context, op string, off, n int64) error {
	if err := checkCall(ctx, d, off, n); err != nil {
		return err
	}
	if d.readOnly && mutates(op) {
		return ErrReadOnly
	}
	return nil
}

func (d *local) transfer(ctx context.Context, op string, p []byte, off int64) error {
	n := int64(len(p))
	if err := d.check(ctx, op, off, n); err != nil {
		return opError(d, op, off, n, err)
	}
	return opError(d, op, off, n, d.pieces(ctx, op, p, off, n))
}

// pieces reads or writes n bytes through buffers of at most maxBuffer. A nil p stands for zeroes to write.
func (d *local) pieces(ctx context.Context, op string, p []byte, off, n int64) error {
	for done := int64(0); done < n; {
		l := min(n-done, maxBuffer)
		var part []byte
		if p != nil {
			part = p[done : done+l]
		}
		if err := d.piece(ctx, op, part, off+done, l); err != nil {
			if mutates(op) {
				err = partial(done, err)
			}
			return err
		}
		done += l
	}
	return nil
}

func (d *local) piece(ctx context.Context, op string, p []byte, off, n int64) error {
	buf, err := d.buffers.get(int(n))
	if err != nil {
		return err
	}
	switch {
	case op == opWrite && p == nil:
		clear(buf)
	case op == opWrite:
		copy(buf, p)
	}
	if err := d.call(ctx, op, buf, off, n); err != nil {
		return err // call owns buf now
	}
	if op == opRead {
		copy(p, buf)
	}
	d.buffers.put(buf)
	return nil
}

// steps zeroes or discards in steps of zeroStep.
func (d *local) steps(ctx context.Context, op string, off, n int64) error {
	for done := int64(0); done < n; {
		l := min(n-done, zeroStep)
		if err := d.call(ctx, op, nil, off+done, l); err != nil {
			return partial(done, err)
		}
		done += l
	}
	return nil
}

// call hands one system call to a worker and waits for it. On success the caller has buf back; after any error buf
// is not the caller's any more.
func (d *local) call(ctx context.Context, op string, buf []byte, off, n int64) error {
	step := [1]localStep{{op, buf, off, n}}
	_, err := d.submitAll(ctx, step[:])
	return err
}

// submitAll is call for several steps. With an error it says which step failed.
func (d *local) submitAll(ctx context.Context, steps []localStep) (int, error) {
	if err := d.flight.enter(ctx); err != nil {
		d.giveBack(steps)
		return 0, err
	}
	if !d.ref() {
		d.flight.leave()
		d.giveBack(steps)
		return 0, fmt.Errorf("%w: closed", ErrGone)
	}
	c := &localCall{d: d, ctx: ctx, done: make(chan struct{}, 1)}
	c.steps = c.list[:copy(c.list[:], steps)]
	go c.run()
	select {
	case <-c.done:
		return c.at, c.finish()
	case <-ctx.Done():
		return c.giveUp()
	}
}

// run is the worker.
func (c *localCall) run() {
	if !c.state.CompareAndSwap(stateQueued, stateSubmitted) {
		c.cleanup(true)
		return
	}
	c.work()
	if c.state.CompareAndSwap(stateSubmitted, stateDone) {
		c.done <- struct{}{}
		return
	}
	c.cleanup(true)
	c.d.flight.pending.Add(-1)
}

// work makes the system calls, as far as they succeed.
func (c *localCall) work() {
	changed := false
	for i, s := range c.steps {
		c.at = i
		err := submit(c.ctx, s.op)
		if err == nil {
			err = c.d.syscall(s.op, s.buf, s.off, s.n)
		}
		if err != nil {
			c.err = afterChange(changed, err)
			return
		}
		changed = changed || changes(s.op)
	}
}

// mutates is the first operation among the steps that may have changed the device, or a read.
func (c *localCall) mutates() string {
	for _, s := range c.steps {
		if mutates(s.op) {
			return s.op
		}
	}
	return opRead
}

// finish is the caller's end of a call that came back.
func (c *localCall) finish() error {
	c.cleanup(c.err != nil)
	return c.err
}

// giveUp is the caller's end of a call that did not come back in time.
func (c *localCall) giveUp() (int, error) {
	if c.state.CompareAndSwap(stateQueued, stateWithdrawn) {
		return 0, notSubmitted(c.ctx)
	}
	c.d.flight.pending.Add(1) // before anybody can see that the call was abandoned
	op := c.mutates()
	if c.state.CompareAndSwap(stateSubmitted, stateAbandoned) {
		return 0, abandoned(c.ctx, op)
	}
	c.d.flight.pending.Add(-1)
	<-c.done
	return c.at, c.finish()
}

// cleanup gives back what the call held, the buffers only if nobody else has them now.
func (c *localCall) cleanup(buffers bool) {
	if buffers {
		c.d.giveBack(c.steps)
	}
	c.d.flight.leave()
	_ = c.d.unref() // an error to close a descriptor that nobody wants any more helps nobody
}

// ref keeps the descriptor open for one call; false after Close.
func (d *local) ref() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.refs++
	return true
}

// unref closes the descriptor with the last holder.
func (d *local) unref() error {
	d.mu.Lock()
	d.refs--
	last := d.refs == 0
	d.mu.Unlock()
	if !last {
		return nil
	}
	d.buffers.close()
	if err := unix.Close(d.fd); err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}
