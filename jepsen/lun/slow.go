package lun

import "time"

// ramp is a delay that grows.
type ramp struct {
	from, to, over time.Duration
	began          time.Duration
}

// at is the delay of a request that came at a time.
func (r ramp) at(now time.Duration) time.Duration {
	elapsed := now - r.began
	if elapsed >= r.over {
		return r.to
	}
	return r.from + time.Duration(float64(r.to-r.from)*float64(elapsed)/float64(r.over))
}

// writeBack is the longest time for which a volatile cache keeps a write to itself.
const writeBack = 2 * time.Millisecond

// delay is how long a request waits before it lands; caller holds mu.
func (p *Path) delay(r *request) time.Duration {
	d := p.slow.at(r.came)
	if p.volatile && r.mutates() && r.cmd != cmdFlush && r.flags&flagFUA == 0 {
		d += time.Duration(p.dice.Int64N(int64(writeBack)))
	}
	return d
}

// Delayed is how many requests wait for their time to land.
func (p *Path) Delayed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delayed
}

// later carries out a request when its time has come.
func (p *Path) later(r *request, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.l.closing:
	}
	p.mu.Lock()
	p.delayed--
	a := p.arrive(r)
	p.mu.Unlock()
	a.send()
}
