package crash

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/holdfast-io/holdfast/blockdev"
)

// explorer judges states, each distinct one once.
type explorer struct {
	base   *base
	lim    limits
	cuts   int // at each write of a step so many recoveries are cut short too, of those that change something, and few others
	limit2 limits
	sample func(key) bool // which states the real programs get; nil: none

	seen  sync.Map // key
	count counts
}

// counts is what was explored.
type counts struct {
	sequences, states, distinct, recoveries, cutStates, cutDistinct, tools, bad atomic.Int64
}

func (c *counts) String() string {
	return fmt.Sprintf("%d sequences, %d crash states, %d of them distinct; %d recoveries cut short: %d states, %d distinct; "+
		"%d judged by lvm2, qemu-img and sanlock; %d unrecoverable or wrong", c.sequences.Load(), c.states.Load(), c.distinct.Load(),
		c.recoveries.Load(), c.cutStates.Load(), c.cutDistinct.Load(), c.tools.Load(), c.bad.Load())
}

// key names a state and what is expected of it.
type key struct{ state, before, after uint64 }

func (p point) key(sum uint64) key {
	k := key{state: sum, after: p.h.before[p.step+1].sum}
	if !p.acked {
		k.before = p.h.before[p.step].sum
	}
	return k
}

// finding is a state that is wrong, with its way there.
type finding struct {
	what string
	err  error
}

func (f finding) String() string { return f.what + ": " + f.err.Error() }

// exhibit is a state for the real programs, and what was made of it.
type exhibit struct {
	name             string
	crashed, settled *blockdev.Mem
	pages            map[int64]bool
}

// result is what a sequence brought.
type result struct {
	findings []finding
	exhibits []exhibit
}

// explore judges the states in which a crash during the last step of a sequence may leave the LUN; those of earlier
// steps belong to shorter sequences. Of the states it takes one in oneIn. It stops after a few findings.
func (x *explorer) explore(t *testing.T, kinds string, oneIn int, bug layer) (out result) {
	t.Helper()
	h, err := x.record(t, kinds, bug)
	if err != nil {
		return result{findings: []finding{{"recording " + kinds, err}}}
	}
	x.count.sequences.Add(1)
	x.last(t, h, oneIn, &out)
	return out
}

// record runs a sequence in a bubble of its own.
func (x *explorer) record(t *testing.T, kinds string, bug layer) (h *history, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { h, err = x.base.record(bubbleContext(t), kinds, bug) })
	return h, err
}

// judge judges a state in a bubble of its own: the timers of a bubble, and what hangs on them, live as long as it does.
func (p point) judge(t *testing.T, lun *blockdev.Mem) (r *recovered, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { r, err = p.recover(bubbleContext(t), lun) })
	return r, err
}

// last explores the last step of a history.
func (x *explorer) last(t *testing.T, h *history, oneIn int, out *result) {
	i := len(h.steps) - 1
	s := h.steps[i]
	rnd := rand.New(rand.NewPCG(uint64(len(h.name)), uint64(s.end)))
	w := x.base.newWrites(h.rec, x.base.mem, 0, nil)
	for n := s.begin; n <= s.end; n++ {
		p, cuts := point{h: h, step: i, acked: n == s.end}, x.cuts
		w.at(n, n == s.end, x.lim, rnd, func(st *state) {
			if len(out.findings) >= 3 || oneIn > 1 && rnd.IntN(oneIn) > 0 {
				return
			}
			x.count.states.Add(1)
			x.visit(t, p, st, &cuts, out)
		})
	}
}

// visit judges one state, and cuts its recovery short where that is worth while.
func (x *explorer) visit(t *testing.T, p point, st *state, cuts *int, out *result) {
	lun := st.build()
	k := p.key(st.sum(lun))
	if _, seen := x.seen.LoadOrStore(k, true); seen {
		return
	}
	nth := x.count.distinct.Add(1)
	crashed := lun.Clone()
	r, err := p.judge(t, lun)
	name := p.h.name + ", " + st.String()
	if err != nil {
		x.count.bad.Add(1)
		out.findings = append(out.findings, finding{name, err})
		return
	}
	if x.sample != nil && x.sample(k) {
		out.exhibits = append(out.exhibits, exhibit{name, crashed, lun, x.pagesOf(p.h, r)})
	}
	if *cuts > 0 && (r.changed || nth%64 == 0) {
		*cuts--
		x.cutShort(t, p, name, crashed, k.state, r, out)
	}
}

// pagesOf are the pages that a history and a recovery may have changed.
func (x *explorer) pagesOf(h *history, r *recovered) map[int64]bool {
	pages := maps.Clone(h.pages)
	for _, e := range r.rec.Log() {
		pagesOf(e, pages)
	}
	return pages
}

// cutShort crashes a recovery at each of its writes, and recovers again.
func (x *explorer) cutShort(t *testing.T, p point, name string, crashed *blockdev.Mem, sum uint64, r *recovered, out *result) {
	x.count.recoveries.Add(1)
	w := x.base.newWrites(r.rec, crashed, sum, p.h.pages)
	for n := range r.start + 1 {
		w.at(n, n == r.start, x.limit2, rand.New(rand.NewPCG(uint64(n), 2)), func(st *state) {
			if len(out.findings) >= 3 {
				return
			}
			x.count.cutStates.Add(1)
			lun := st.build()
			if _, seen := x.seen.LoadOrStore(p.key(st.sum(lun)), true); seen {
				return
			}
			x.count.cutDistinct.Add(1)
			if _, err := p.judge(t, lun); err != nil {
				x.count.bad.Add(1)
				out.findings = append(out.findings, finding{name + "; then, recovering, " + st.String(), err})
			}
		})
	}
}
