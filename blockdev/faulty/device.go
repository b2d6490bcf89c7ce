// Package faulty has devices for tests that delay, hang, fail, tear, drop and record I/O.
package faulty

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Op is a set of operations.
type Op uint8

// The operations of a device. Any is all of them, Mutations is all but reads.
const (
	Read Op = 1 << iota
	Write
	Zero
	Discard
	Flush
	Mutations = Write | Zero | Discard | Flush
	Any       = Read | Mutations
)

// String is the name of a single operation.
func (o Op) String() string {
	switch o {
	case Read:
		return "read"
	case Write:
		return "write"
	case Zero:
		return "write-zeroes"
	case Discard:
		return "discard"
	case Flush:
		return "flush"
	}
	return fmt.Sprintf("op(%#x)", uint8(o))
}

// EIO is what Fail injects when no error is given, the kernel's answer for a bad sector or a dead path.
var EIO error = unix.EIO

// Fault says which calls go wrong and how. The fields that choose: a zero Len matches any place, a zero Count any
// number of calls. The fields that act are applied in the order Delay, Hang, then at most one of Err, Drop, Torn.
type Fault struct {
	Ops      Op    // which operations; 0 is Any
	Off, Len int64 // only calls that touch this range; flushes always match
	After    int   // let this many matching calls pass first
	Count    int   // then hit this many; 0 is all

	Delay time.Duration // wait so long, or until the deadline
	Hang  bool          // wait until Release, or the deadline; then the call stays Pending until Release
	Err   error         // fail with this, having done nothing
	Drop  bool          // say yes and do nothing
	Torn  int           // write only the first Torn sectors, then fail with Err or EIO; -1 for none of them
}

// Rule is a fault at work.
type Rule struct {
	fault Fault
	d     *Device
	seen  int // matching calls; guarded by d.mu
	hits  int // calls hit; guarded by d.mu
}

// Hits is the number of calls that the fault was applied to.
func (r *Rule) Hits() int {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	return r.hits
}

// Remove ends the fault for later calls.
func (r *Rule) Remove() {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	for i, other := range r.d.rules {
		if other == r {
			r.d.rules = append(r.d.rules[:i:i], r.d.rules[i+1:]...)
			return
		}
	}
}

// Device passes calls on to another one, except where a rule says otherwise. It starts no goroutines, so it is at
// home in a synctest bubble.
type Device struct {
	blockdev.Device

	mu       sync.Mutex // guards the fields below
	rules    []*Rule
	released chan struct{} // closed by Release
	late     []func()      // what abandoned calls will do at Release
}

// New returns d without faults.
func New(d blockdev.Device) *Device {
	return &Device{Device: d, released: make(chan struct{})}
}

// Inject adds a fault. For one call the first matching rule counts.
func (d *Device) Inject(f Fault) *Rule {
	if f.Ops == 0 {
		f.Ops = Any
	}
	r := &Rule{fault: f, d: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rules = append(d.rules, r)
	return r
}

// Heal removes all rules. Calls that hang go on hanging until Release.
func (d *Device) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rules = nil
}

// Release lets all calls that hang go on. Mutations that were abandoned land now, in the order they came in, before
// Release returns.
func (d *Device) Release() { d.release(true) }

// Forget is Release, but what was abandoned never lands.
func (d *Device) Forget() { d.release(false) }

func (d *Device) release(land bool) {
	d.mu.Lock()
	late := d.late
	d.late = nil
	close(d.released)
	d.released = make(chan struct{})
	d.mu.Unlock()
	for _, f := range late {
		if land {
			f()
		}
	}
}

// Pending counts the abandoned calls here and below.
func (d *Device) Pending() int {
	d.mu.Lock()
	n := len(d.late)
	d.mu.Unlock()
	return n + d.Device.Pending()
}

// call is one operation on its way.
type call struct {
	op     Op
	off, n int64
	data   []byte                          // what a write writes
	do     func(ctx context.Context) error // the whole operation, below
}

// ReadAt implements blockdev.Device.
func (d *Device) ReadAt(ctx context.Context, p []byte, off int64) error {
	return d.run(ctx, call{op: Read, off: off, n: int64(len(p)), do: func(ctx context.Context) error {
		return d.Device.ReadAt(ctx, p, off)
	}})
}

// WriteAt implements blockdev.Device.
func (d *Device) WriteAt(ctx context.Context, p []byte, off int64) error {
	return d.run(ctx, call{op: Write, off: off, n: int64(len(p)), data: p, do: func(ctx context.Context) error {
		return d.Device.WriteAt(ctx, p, off)
	}})
}

// WriteZeroes implements blockdev.Device.
func (d *Device) WriteZeroes(ctx context.Context, off, n int64) error {
	return d.run(ctx, call{op: Zero, off: off, n: n, do: func(ctx context.Context) error {
		return d.Device.WriteZeroes(ctx, off, n)
	}})
}

// Discard implements blockdev.Device.
func (d *Device) Discard(ctx context.Context, off, n int64) error {
	return d.run(ctx, call{op: Discard, off: off, n: n, do: func(ctx context.Context) error {
		return d.Device.Discard(ctx, off, n)
	}})
}

// Flush implements blockdev.Device.
func (d *Device) Flush(ctx context.Context) error {
	return d.run(ctx, call{op: Flush, do: d.Device.Flush})
}

// run applies the first fault that matches.
func (d *Device) run(ctx context.Context, c call) error {
	f, hit := d.match(c)
	if !hit {
		return c.do(ctx)
	}
	if _, ok := ctx.Deadline(); !ok {
		return blockdev.ErrNoDeadline
	}
	if c.op&(Read|Flush) == 0 {
		// A real device takes the call now and is slow with it, so the lease is judged now and not at the end.
		if err := blockdev.SubmitCheck(ctx); err != nil {
			return err
		}
	}
	if err := d.wait(ctx, c, f); err != nil {
		return err
	}
	return d.act(ctx, c, f)
}

// match finds the rule for a call and counts it.
func (d *Device) match(c call) (Fault, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.rules {
		f := r.fault
		if f.Ops&c.op == 0 || c.op != Flush && f.Len > 0 && (c.off >= f.Off+f.Len || f.Off >= c.off+c.n) {
			continue
		}
		r.seen++
		if r.seen <= f.After || f.Count > 0 && r.hits >= f.Count {
			continue
		}
		r.hits++
		return f, true
	}
	return Fault{}, false
}

// wait is the slow part: a delay, a hang, or both.
func (d *Device) wait(ctx context.Context, c call, f Fault) error {
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return d.abandon(ctx, c, f)
		}
	}
	if !f.Hang {
		return nil
	}
	d.mu.Lock()
	released := d.released
	d.mu.Unlock()
	select {
	case <-released:
		return nil
	case <-ctx.Done():
		return d.abandon(ctx, c, f)
	}
}

// abandon leaves a call behind. What it will do at Release works on a copy of the caller's data.
func (d *Device) abandon(ctx context.Context, c call, f Fault) error {
	late := func() {}
	if c.op == Write {
		data, off := bytes.Clone(c.data), c.off
		c.do = func(ctx context.Context) error { return d.Device.WriteAt(ctx, data, off) }
		c.data = data
	}
	if c.op != Read {
		late = func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_ = d.act(ctx, c, f) // nobody is left to be told
		}
	}
	d.mu.Lock()
	d.late = append(d.late, late)
	d.mu.Unlock()
	if c.op == Read {
		return fmt.Errorf("%w: %w", blockdev.ErrTimeout, context.Cause(ctx))
	}
	return fmt.Errorf("%s of %s: %w: %w", c.op, d.Name(), blockdev.ErrOutcomeUnknown, context.Cause(ctx))
}

// act does what the fault leaves of the call.
func (d *Device) act(ctx context.Context, c call, f Fault) error {
	switch {
	case f.Torn != 0 && c.op == Write:
		return d.tear(ctx, c, f)
	case f.Err != nil:
		return fmt.Errorf("%s of %s: %w", c.op, d.Name(), f.Err)
	case f.Drop:
		return nil
	}
	return c.do(ctx)
}

// tear writes the first sectors only.
func (d *Device) tear(ctx context.Context, c call, f Fault) error {
	if n := min(max(0, f.Torn)*d.SectorSize(), len(c.data)); n > 0 {
		if err := d.Device.WriteAt(ctx, c.data[:n], c.off); err != nil {
			return err
		}
	}
	if f.Err == nil {
		f.Err = EIO
	}
	return fmt.Errorf("%s of %s: %w", c.op, d.Name(), f.Err)
}
