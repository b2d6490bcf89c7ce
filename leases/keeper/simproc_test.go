package keeper

import (
	"errors"
	"math/bits"
	"sync"
	"time"
)

// errSimOver ends what is left of dead processes when a run is over.
var errSimOver = errors.New("simulation is over")

// mix is a hash of its arguments: the source of every number that must not depend on the order of goroutines.
func mix(vs ...uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, v := range vs {
		hi, lo := bits.Mul64(h^v, 0xd6e8feb86659fd93)
		h = hi ^ lo ^ bits.RotateLeft64(v, 29)
		h ^= h >> 32
		h *= 0xbf58476d1ce4e5b9
		h ^= h >> 29
	}
	return h
}

// upTo turns a hash into a time from a to b, to the nanosecond.
func upTo(h uint64, a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + time.Duration(h%uint64(b-a))
}

// simProc is a process: it can be stopped, as by SIGSTOP or in suspend, and killed. What it runs goes on up to the next
// thing that others could see, an I/O or a message, and stands still there. The dead stand still for ever.
type simProc struct {
	name string

	mu    sync.Mutex // guards all below
	stops int
	gaps  int // writes between their last check and their submission
	dead  bool
	over  bool
	wake  chan struct{} // closed at every change
	held  []func()      // messages to be sent when it runs on
	died  chan struct{}
}

func newSimProc(name string) *simProc {
	return &simProc{name: name, wake: make(chan struct{}), died: make(chan struct{})}
}

// gate lets a running process through.
func (p *simProc) gate() error {
	for {
		p.mu.Lock()
		over, still, wake := p.over, p.stops > 0 || p.dead, p.wake
		p.mu.Unlock()
		if over {
			return errSimOver
		}
		if !still {
			return nil
		}
		<-wake
	}
}

func (p *simProc) change(f func()) {
	p.mu.Lock()
	f()
	close(p.wake)
	p.wake = make(chan struct{})
	var out []func()
	if p.stops == 0 && !p.dead {
		out, p.held = p.held, nil
	}
	p.mu.Unlock()
	for _, send := range out {
		send()
	}
}

// stop makes the process stand still for d.
func (p *simProc) stop(d time.Duration) {
	p.change(func() { p.stops++ })
	time.AfterFunc(d, func() { p.change(func() { p.stops-- }) })
}

func (p *simProc) kill() {
	p.change(func() {
		if !p.dead {
			p.dead, p.gaps = true, 0
			close(p.died)
		}
	})
}

// end lets the goroutines of a dead process run out.
func (p *simProc) end() { p.change(func() { p.over = true }) }

// inGap counts a write that was checked and is not submitted yet.
func (p *simProc) inGap(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead {
		p.gaps += n
	}
}

// state says what a watchdog wants to know.
func (p *simProc) state() (runs, gaps bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.dead && p.stops == 0, p.gaps > 0
}

func (p *simProc) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// say does what others will notice: now, when the process runs on, or never.
func (p *simProc) say(f func()) {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return
	}
	if p.stops > 0 {
		p.held = append(p.held, f)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	f()
}

// simClock is a machine's boot clock: it started at another moment than the others' and runs at a rate of its own.
type simClock struct {
	start time.Time
	zero  time.Duration
	ppm   int64
}

// Boot implements clock.Clock.
func (c *simClock) Boot() time.Duration {
	d := time.Since(c.start)
	return c.zero + d + d*time.Duration(c.ppm)/1_000_000
}

// when is the moment at which the clock shows boot.
func (c *simClock) when(boot time.Duration) time.Time {
	d := boot - c.zero
	return c.start.Add(time.Duration(float64(d) / (1 + float64(c.ppm)/1e6)))
}
