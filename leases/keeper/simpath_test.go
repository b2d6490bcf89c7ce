package keeper

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// simPower is one life of a machine, from power on to off. I/O that it submitted belongs to it.
type simPower struct {
	mu       sync.Mutex // guards all below
	lost     bool       // reset: nothing that has not landed will
	inflight int        // submitted and not over
	slow     bool
	cutUntil time.Time
	trap     time.Duration // the next data write stops its process between the last check and the submission
	drag     time.Duration // the next renewal comes back late, and the path is cut for so long from then on
}

func (w *simPower) set(f func(*simPower)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

// idle says whether nothing of this life can reach the disk any more.
func (w *simPower) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost || w.inflight == 0
}

func (w *simPower) gone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// simPath is one opening of the shared disk in one process.
type simPath struct {
	m     *simMachine
	proc  *simProc
	power *simPower
	clock *simClock
	seed  uint64

	mu      sync.Mutex // guards all below
	calls   map[simCall]uint64
	pending int
	flying  int // submitted and not over
}

// count follows the I/O that is on its way.
func (p *simPath) count(n int) {
	p.mu.Lock()
	p.flying += n
	p.mu.Unlock()
	p.power.set(func(w *simPower) { w.inflight += n })
}

// over says whether nothing sent this way can reach the disk any more.
func (p *simPath) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flying == 0 || p.power.gone()
}

// simCall names a call by what it does, not by when: calls of one host in the same instant come in any order.
type simCall struct {
	off   int64
	write bool
}

// simStage is a moment in the life of an I/O.
type simStage struct {
	at time.Time
	do func()
}

var errSimIO = errors.New("I/O error")

func (p *simPath) Name() string                                    { return "lun" }
func (p *simPath) Size() int64                                     { return simLUNSize }
func (p *simPath) SectorSize() int                                 { return simSector }
func (p *simPath) Flush(context.Context) error                     { return nil }
func (p *simPath) WriteZeroes(context.Context, int64, int64) error { return blockdev.ErrNotSupported }
func (p *simPath) Discard(context.Context, int64, int64) error     { return blockdev.ErrNotSupported }
func (p *simPath) Close() error                                    { return nil }

// Pending implements blockdev.Device.
func (p *simPath) Pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending
}

// draw gives the number that decides what becomes of this call.
func (p *simPath) draw(off int64, write bool) uint64 {
	c := simCall{off, write}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[c]++
	w := uint64(0)
	if write {
		w = 1
	}
	return mix(p.seed, uint64(off), w, p.calls[c])
}

// enter is the way of every call up to its submission.
func (p *simPath) enter(ctx context.Context) error {
	if p.proc.gate() != nil {
		return blockdev.ErrGone
	}
	if _, ok := ctx.Deadline(); !ok {
		return blockdev.ErrNoDeadline
	}
	if ctx.Err() != nil {
		return blockdev.ErrTimeout
	}
	return nil
}

// ReadAt implements blockdev.Device. What is more than a sector is read in two parts, in either order: the disk may
// change in between.
func (p *simPath) ReadAt(ctx context.Context, b []byte, off int64) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	h := p.draw(off, false)
	at, _ := p.times(h, false)
	parts := []simStage{{at, func() { p.m.sim.lun.read(b, off) }}}
	if n := len(b) / simSector; n > 1 {
		cut := int(mix(h, 7)%uint64(n-1)+1) * simSector
		first, second := func() { p.m.sim.lun.read(b[:cut], off) }, func() { p.m.sim.lun.read(b[cut:], off+int64(cut)) }
		if mix(h, 8)%2 == 0 {
			first, second = second, first
		}
		parts = []simStage{{at, first}, {at.Add(upTo(mix(h, 9), 1000, 300*time.Microsecond)), second}}
	}
	p.count(1)
	if !p.carryOut(ctx, parts, false) {
		return p.answer(blockdev.ErrTimeout)
	}
	return p.answer(nil)
}

// WriteAt implements blockdev.Device. A write lands at a moment of its own, whether the caller still waits or not, dead
// or alive. Its sectors land one after the other.
func (p *simPath) WriteAt(ctx context.Context, b []byte, off int64) error {
	begun := p.clock.Boot()
	if err := p.enter(ctx); err != nil {
		return err
	}
	if err := blockdev.SubmitCheck(ctx); err != nil {
		return err
	}
	p.m.sim.admitted(p.m, b, off)
	h := p.draw(off, true)
	p.proc.inGap(1)
	p.gap(h, off)
	if p.proc.gate() != nil {
		return blockdev.ErrGone
	}
	p.count(1)
	p.proc.inGap(-1)
	own := append([]byte(nil), b...)
	at, end := p.times(h, true)
	if off < mib {
		end.at = p.dragged(h, end.at)
	}
	var stages []simStage
	for i := 0; !end.lost && i < len(own); i += simSector {
		stages = append(stages, simStage{at, func() { p.land(own[i:i+simSector], off+int64(i), begun) }})
		at = at.Add(upTo(mix(h, 10, uint64(i)), 1000, time.Millisecond))
	}
	if end.lost || end.at.After(at) {
		stages = append(stages, simStage{end.at, func() {}})
	}
	if !p.carryOut(ctx, stages, true) {
		return p.answer(blockdev.ErrOutcomeUnknown)
	}
	if end.lost {
		return p.answer(errSimIO)
	}
	return p.answer(nil)
}

// answer comes when the process runs.
func (p *simPath) answer(err error) error {
	if p.proc.gate() != nil {
		return blockdev.ErrGone
	}
	return err
}

// gap is what may lie between the last check and the submission: nothing, a little, or the stop of the process.
func (p *simPath) gap(h uint64, off int64) {
	if h%8 == 0 {
		time.Sleep(upTo(mix(h, 1), 100, 200*time.Microsecond))
	}
	var trap time.Duration
	if off >= simData {
		p.power.set(func(w *simPower) { trap, w.trap = w.trap, 0 })
	}
	if trap > 0 {
		p.proc.stop(trap)
	}
}

// simEnd is when and how an I/O comes back.
type simEnd struct {
	at   time.Time
	lost bool
}

// times decides when an I/O does its work and when it comes back.
func (p *simPath) times(h uint64, write bool) (at time.Time, end simEnd) {
	p.power.mu.Lock()
	slow, cut := p.power.slow, p.power.cutUntil
	p.power.mu.Unlock()
	now, n := time.Now(), p.m.profile.IOTimeout
	d := upTo(mix(h, 2), 80*time.Microsecond, 400*time.Microsecond)
	if write {
		d = upTo(mix(h, 2), 100*time.Microsecond, 1500*time.Microsecond)
	}
	late := time.Duration(0)
	if slow && mix(h, 3)%6 == 0 {
		if late = upTo(mix(h, 4), 0, 3*n/2); mix(h, 5)%2 == 0 {
			d, late = d+late, 0
		}
	}
	if cut.After(now) {
		back := cut.Sub(now) + d
		switch k := mix(h, 6) % 4; {
		case !write || k == 0:
			d = back
		case k == 1:
			return now.Add(d), simEnd{cut.Add(d), true}
		case k == 2:
			d = back + upTo(mix(h, 7), 0, 2*n)
		default:
			late = back
		}
	}
	return now.Add(d), simEnd{at: now.Add(d + late)}
}

// dragged is when a renewal comes back that is the last for a while.
func (p *simPath) dragged(h uint64, end time.Time) time.Time {
	late := upTo(mix(h, 11), p.m.profile.IOTimeout/2, 2*p.m.profile.IOTimeout)
	p.power.set(func(w *simPower) {
		if w.drag > 0 {
			end = end.Add(late)
			w.drag, w.cutUntil = 0, end.Add(w.drag)
			if all := p.m.sim.end; w.cutUntil.After(all) {
				w.cutUntil = all
			}
		}
	})
	return end
}

// carryOut goes through the stages. When the context ends first the rest happens without the caller; a read just ends.
func (p *simPath) carryOut(ctx context.Context, stages []simStage, write bool) bool {
	for i, s := range stages {
		t := time.NewTimer(time.Until(s.at))
		select {
		case <-t.C:
			s.do()
		case <-ctx.Done():
			t.Stop()
			p.mu.Lock()
			p.pending++
			p.mu.Unlock()
			p.detach(stages[i:], write)
			return false
		}
	}
	p.count(-1)
	return true
}

// detach carries out what is left of an I/O that nobody waits for.
func (p *simPath) detach(stages []simStage, write bool) {
	time.AfterFunc(time.Until(stages[0].at), func() {
		if write {
			stages[0].do()
		}
		if len(stages) > 1 {
			p.detach(stages[1:], write)
			return
		}
		p.mu.Lock()
		p.pending--
		p.mu.Unlock()
		p.count(-1)
	})
}

// land changes one sector of the disk.
func (p *simPath) land(b []byte, off int64, begun time.Duration) {
	if p.power.gone() {
		return
	}
	p.m.sim.landed(p.m, b, off, begun)
}
