package lun

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Path is one host's way to the LUN. It is safe for concurrent use. Its requests land one at a time and under its lock, so
// that a fault has a sharp beginning: what a fault forbids does not happen after the call that injected it returned.
type Path struct {
	l    *LUN
	host string

	mu         sync.Mutex // guards all below
	conns      map[*conn]struct{}
	dice       *rand.Rand
	cut        bool
	gone       bool
	hung       bool
	thaw       chan struct{} // closed when what hangs goes on; not nil while hung
	held       []*request    // came while it hung, or stuck alone
	stick      int           // one in so many hangs; 0: none
	slow       ramp
	delayed    int // requests that wait for their time
	cuts       int // how often the connections were broken: what waited for its time then never lands
	failReads  int // one in so many fails; 0: none
	failWrites int
	torn       chan struct{} // not nil: the next write of several sectors is torn
	volatile   bool
}

// Host is whose path it is.
func (p *Path) Host() string { return p.host }

// Cut drops the connections and refuses new ones until Join. What came and did not land never lands; what hangs still hangs.
func (p *Path) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.dropAll()
}

// Join ends Cut, and what a torn write or Drop did to the path.
func (p *Path) Join() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

func (p *Path) setGone(gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = gone
	if gone {
		p.dropAll()
	}
}

// down tells whether there is no path; caller holds mu.
func (p *Path) down() bool { return p.cut || p.gone }

// dropAll breaks the connections; caller holds mu.
func (p *Path) dropAll() {
	p.cuts++
	for c := range p.conns {
		c.drop()
	}
	clear(p.conns)
}

// Slow delays every request, by from in the beginning and, growing evenly, by to when over has passed.
func (p *Path) Slow(from, to, over time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = ramp{from: max(from, 0), to: max(to, 0), over: over, began: p.l.now()}
}

// Fast ends Slow. Requests under way keep their delay.
func (p *Path) Fast() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = ramp{}
}

// FailReads answers one read in n with EIO; 0 ends that.
func (p *Path) FailReads(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failReads = n
}

// FailWrites answers one mutation or flush in n with EIO; the dice say whether it lands all the same. 0 ends that.
func (p *Path) FailWrites(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failWrites = n
}

// TearNext is a power loss in the middle of the next write of more than one sector: it lands up to some sector, and in the
// same moment the path is cut, until Join. The channel is closed when that has happened; Heal before it takes the order back.
func (p *Path) TearNext() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.torn == nil {
		p.torn = make(chan struct{})
	}
	return p.torn
}

// Volatile puts a cache without a battery before the LUN: writes without FUA land after a moment, so those under way at once
// land in any order, and what no flush covers is lost by Drop. Writes of more than 1 MiB go past the cache. Turning it off
// flushes.
func (p *Path) Volatile(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.volatile = on
	if !on {
		p.l.disk.cache.forget(func(u unflushed) bool { return u.p == p })
	}
}

// Drop is a power loss: of the path's writes that no flush covers, a choice of sectors goes back to what they were, half the
// time all, and the path is cut until Join. It returns how many sectors.
func (p *Path) Drop() (lost int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.dropAll()
	all := p.dice.IntN(2) == 0
	for _, at := range p.l.disk.cache.of(p) {
		if (all || p.dice.IntN(2) == 0) && p.l.disk.lose(at, p) {
			lost++
		}
	}
	p.l.disk.cache.forget(func(u unflushed) bool { return u.p == p }) // the rest made it
	return lost
}

// lose brings back what a sector was before it was written and not flushed.
func (d *disk) lose(at int64, p *Path) bool {
	defer d.stripes.own(at, Sector)()
	u, ok := d.cache.take(at, p)
	if !ok {
		return false
	}
	now := d.now()
	if _, err := d.f.WriteAt(u.old[:], at); err != nil {
		_ = d.broken("writing", err) // Close says so
		return false
	}
	d.record(history.Entry{Host: p.host, Kind: history.Lost, Off: at, Len: Sector, Sum: checksum(u.old[:]), Data: u.old[:], Came: now, Landed: now})
	return true
}

// Heal ends every fault of the path. What hangs lands and is answered.
func (p *Path) Heal() {
	p.Join()
	p.Fast()
	p.FailReads(0)
	p.FailWrites(0)
	p.Volatile(false)
	p.Stick(0)
	p.mu.Lock()
	p.torn = nil
	p.mu.Unlock()
	p.Release(true)
}

// end is the end of the run: nothing lands any more.
func (p *Path) end() {
	p.Cut()
	p.Release(false)
}

// acceptPause is how long a listener that failed rests; only a machine without file descriptors gets there.
const acceptPause = 10 * time.Millisecond

// accept takes connections until the listener is closed.
func (p *Path) accept(ln net.Listener) {
	for {
		sock, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			p.l.fail(err)
			select {
			case <-p.l.closing:
			case <-time.After(acceptPause):
			}
		default:
			p.welcome(sock)
		}
	}
}

// welcome serves a connection, or refuses it.
func (p *Path) welcome(sock net.Conn) {
	c := newConn(p, sock)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down() {
		c.drop()
		return
	}
	p.conns[c] = struct{}{}
	p.l.running.Go(c.serve)
}

// leave forgets a connection that ended.
func (p *Path) leave(c *conn) {
	c.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}
