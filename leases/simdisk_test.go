package leases

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// simPath is one host's way to the shared disk under virtual time: it delays, loses, and lands writes late.
type simPath struct {
	*blockdev.Mem
	n time.Duration // I/O timeout

	mu       sync.Mutex
	seed     uint64
	calls    map[simCall]uint64
	slow     bool // one write in ten lands after its deadline
	cutUntil time.Time
	stopped  time.Time // a paused host submits nothing before this
	dead     bool
	pending  int
}

func (p *simPath) Pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending
}

// set changes the path's state.
func (p *simPath) set(f func(*simPath)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

// simCall names a call by what it does, not by when: calls of one host in the same instant come in any order.
type simCall struct {
	off   int64
	write bool
}

// draw gives the random numbers of one call; the caller holds mu.
func (p *simPath) draw(off int64, write bool) *rand.Rand {
	c := simCall{off, write}
	p.calls[c]++
	bit := uint64(0)
	if write {
		bit = 1
	}
	return rand.New(rand.NewPCG(p.seed^uint64(off)<<1^bit, p.calls[c]))
}

// submit waits out a pause and says how long the I/O takes and whether it ever lands.
func (p *simPath) submit(off int64, write bool) (d time.Duration, lands bool, err error) {
	p.mu.Lock()
	wait, rng := time.Until(p.stopped), p.draw(off, write)
	p.mu.Unlock()
	time.Sleep(max(0, wait))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return 0, false, blockdev.ErrGone
	}
	d, lands = time.Duration(100_000+rng.Int64N(2_000_000)), true
	if p.slow && rng.IntN(10) == 0 {
		d = time.Duration(rng.Int64N(int64(3 * p.n / 2)))
	}
	if cut := time.Until(p.cutUntil); cut > 0 {
		d, lands = cut+d, !write || cut < p.n
	}
	p.pending++
	return d, lands, nil
}

func (p *simPath) landed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending--
}

// ReadAt takes its time; the data is that of its end.
func (p *simPath) ReadAt(ctx context.Context, b []byte, off int64) error {
	d, _, err := p.submit(off, false)
	if err != nil {
		return err
	}
	defer p.landed()
	if pause(ctx, d) != nil {
		return blockdev.ErrTimeout
	}
	return p.Mem.ReadAt(ctx, b, off)
}

// WriteAt lands at a moment of its own, whether the caller still waits or not, dead or alive.
func (p *simPath) WriteAt(ctx context.Context, b []byte, off int64) error {
	d, lands, err := p.submit(off, true)
	if err != nil {
		return err
	}
	return landLate(ctx, d, lands, p.Mem, b, off, p.landed)
}

// landLate carries a write out when its time has come, whether its caller still waits or not, or loses it.
func landLate(ctx context.Context, took time.Duration, lands bool, disk *blockdev.Mem, p []byte, off int64, landed func()) error {
	own, done := append([]byte(nil), p...), make(chan struct{})
	go func() {
		defer close(done)
		defer landed()
		time.Sleep(took)
		if lands {
			disk.SetBytes(off, own)
		}
	}()
	select {
	case <-done:
		if lands {
			return nil
		}
	case <-ctx.Done():
	}
	return blockdev.ErrOutcomeUnknown
}

// Flush is part of the write here.
func (p *simPath) Flush(context.Context) error { return nil }
