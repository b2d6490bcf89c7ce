package export

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/holdfast-io/holdfast/blockdev"
)

// bugs are mistakes that tests plant, to see that the torture notices. The zero value has none.
type bugs struct {
	noLocks   bool // read-modify-write without locks
	wholeZero bool // zero whole sectors where a part was asked for
	loseTail  bool // after an extension, send writes that had waited through the old mapping's end
}

// volume is the mapping with what a client may do to it, whatever the protocol.
type volume struct {
	c     Config
	space *space
	now   atomic.Pointer[mapping]
	locks rangeLocks
	lost  quarantine
	plant bugs

	badFlushes atomic.Uint64 // flushes that failed, ever

	life    context.Context // of all device calls
	abort   context.CancelFunc
	leaving chan struct{} // closed when no write may wait any more

	growing sync.Mutex // one Grow at a time

	mu   sync.Mutex // guards the fields below
	errs errorCount
}

// errorCount is what went wrong so far.
type errorCount struct {
	lease, device uint64
	last          string
}

func newVolume(c Config, segs []blockdev.Segment) (*volume, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m, err := newMapping(c.Name, segs, c.Guard, c.MaxBytes)
	if err != nil {
		return nil, err
	}
	v := &volume{c: c, space: newSpace(c, m.size), leaving: make(chan struct{})}
	v.now.Store(m)
	v.life, v.abort = context.WithCancel(context.Background())
	return v, nil
}

// grow replaces the mapping by one that says the same and more. One that says less than the present one comes too late
// and changes nothing.
func (v *volume) grow(segs []blockdev.Segment) error {
	v.growing.Lock()
	defer v.growing.Unlock()
	old := v.now.Load()
	m, err := newMapping(v.c.Name, segs, v.c.Guard, v.c.MaxBytes)
	switch {
	case err != nil:
		return err
	case extends(m.segs, old.segs):
		return nil
	case !extends(old.segs, m.segs):
		return fmt.Errorf("%w: they do not begin with the %d bytes that are mapped: read the volume group again", ErrMapping, old.size)
	}
	v.now.Store(m)
	v.space.extend(m.size)
	return nil
}

// sector is the unit of device calls.
func (v *volume) sector() int64 { return int64(v.now.Load().dev.SectorSize()) }

// around is the sectors that n bytes at off touch.
func (v *volume) around(off, n int64) span {
	ss := v.sector()
	return span{off / ss * ss, (off + n + ss - 1) / ss * ss}
}

// admit lets a mutation of n bytes at off in, waiting for space if need be, and returns the mapping that has it.
func (v *volume) admit(off, n int64) (*mapping, error) {
	if v.c.ReadOnly {
		return nil, blockdev.ErrReadOnly
	}
	m := v.now.Load()
	if off+n > m.size {
		if err := v.space.await(off+n, v.c.Patience, v.leaving); err != nil {
			return nil, err
		}
		if !v.plant.loseTail {
			m = v.now.Load()
		}
	}
	v.space.note(off+n, n)
	return m, nil
}

// mutate runs f, which changes n bytes at off, when nobody else changes the same sectors and nothing abandoned can land
// on them.
func (v *volume) mutate(m *mapping, off, n int64, f func() error) error {
	s := v.around(off, n)
	if !v.plant.noLocks {
		defer v.locks.unlock(v.locks.lock(s))
	}
	err := v.lost.check(s, m.dev.Pending)
	if err == nil {
		err = f()
	}
	if errors.Is(err, blockdev.ErrOutcomeUnknown) {
		v.lost.add(s)
	}
	return v.count(err)
}

// call makes one device call with its deadline.
func (v *volume) call(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(v.life, v.c.IOTimeout)
	defer cancel()
	return f(ctx)
}

// count remembers what a device call ended with.
func (v *volume) count(err error) error {
	if err == nil {
		return nil
	}
	v.mu.Lock()
	first := v.errs.last == ""
	v.errs.last = err.Error()
	if errors.Is(err, blockdev.ErrLeaseLost) {
		v.errs.lease++
	} else {
		v.errs.device++
	}
	v.mu.Unlock()
	v.space.poke()
	if first {
		v.c.Log.Error("the first I/O error of this export; status counts the others", "export", v.c.Name, "error", err)
	}
	return err
}

// outstanding fails while device calls that were given up are not back.
func (v *volume) outstanding() error {
	if n := v.now.Load().dev.Pending(); n > 0 && !v.c.ReadOnly {
		return fmt.Errorf("%w: %d device calls: keep the lease until they are back", blockdev.ErrOutcomeUnknown, n)
	}
	return nil
}

// status is all but what the server knows.
func (v *volume) status() Status {
	s := v.space.status()
	s.Pending = v.now.Load().dev.Pending()
	v.mu.Lock()
	defer v.mu.Unlock()
	s.LeaseErrors, s.DeviceErrors, s.LastError = v.errs.lease, v.errs.device, v.errs.last
	return s
}
