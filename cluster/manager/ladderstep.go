package manager

import (
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// lastStep is the last step of an operation.
func lastStep(op fsm.FenceOp) (fsm.FenceStep, bool) {
	if len(op.Steps) == 0 {
		return fsm.FenceStep{}, false
	}
	return op.Steps[len(op.Steps)-1], true
}

// forced tells whether a person, or the power-saving policy for a host in maintenance, wants the operation whatever is seen of the host.
// It is its first step, so that every leader knows.
func forced(op fsm.FenceOp) bool {
	return (op.ByPerson || op.By == fsm.WishByPolicy) && len(op.Steps) > 0 && op.Steps[0].Rung == RungPerson && op.Steps[0].Result == fsm.StepOK
}

// isOrder tells whether a step is the intent of an order, and not the beginning of a wait.
func isOrder(st fsm.FenceStep) bool {
	return st.Result == fsm.StepIntent && st.Rung != RungLease && st.Rung != RungHandOver
}

// doomed tells whether a person has a host switched off whatever is seen of it: it gives the SPM role up while it can.
func doomed(view *fsm.State, host string) bool {
	op, open := view.OpenFence(host)
	return open && op.ByPerson && op.Action != fsm.FenceOn && forced(op)
}

// last is the last step on a rung.
func (s *Scene) last(rung string) (fsm.FenceStep, bool) {
	for _, st := range slices.Backward(s.Op.Steps) {
		if st.Rung == rung {
			return st, true
		}
	}
	return fsm.FenceStep{}, false
}

func (s *Scene) has(rung string) bool { _, ok := s.last(rung); return ok }

// triedThrough lists the proxies through which a group was used in this term, with any result.
func (s *Scene) triedThrough(label string) []string {
	var out []string
	for _, st := range s.Op.Steps {
		onRung := st.Rung == RungPower || st.Rung == RungOn
		if onRung && st.Device == label && st.Term == s.Op.Term && st.Result != fsm.StepIntent {
			out = append(out, st.Proxy)
		}
	}
	return out
}

// untried is the first proxy that was not tried, or the first of all.
func untried(proxies, tried []string) string {
	for _, p := range proxies {
		if !slices.Contains(tried, p) {
			return p
		}
	}
	return proxies[0]
}

// orderOf is the order of a group by its label; -1 when the devices have changed since.
func (s *Scene) orderOf(label string) int {
	for _, g := range s.Groups {
		if g.Label == label {
			return g.Order
		}
	}
	return -1
}

// step makes a move with a step on a rung.
func (s *Scene) step(do Do, rung, result, evidence string) Move {
	return Move{Do: do, Why: evidence, Step: fsm.FenceStep{Rung: rung, Result: result, Evidence: evidence, Time: s.Now.UnixNano(), Term: s.Term}}
}

// note makes a move that records what became of a rung; of is the intent that it answers, if there is one.
func (s *Scene) note(rung, result, evidence string, of fsm.FenceStep) Move {
	m := s.step(DoNote, rung, result, evidence)
	m.Step.Device, m.Step.Proxy = of.Device, of.Proxy
	return m
}

// skip makes a move that records why a rung is passed over.
func (s *Scene) skip(rung, why string) (Move, bool) {
	return s.step(DoNote, rung, fsm.StepSkipped, why), true
}

// elapsed is the time since a step. One by a former leader whose clock was ahead counts from the takeover, by this one's clock, so that
// every wait ends.
func (s *Scene) elapsed(st fsm.FenceStep) time.Duration {
	d := since(s.Now, st.Time)
	if last, ok := s.last(RungTakeover); ok && st.Term < last.Term {
		d = max(d, since(s.Now, last.Time))
	}
	return d
}

// waitSince waits for something that began with a step.
func (s *Scene) waitSince(begun fsm.FenceStep, bound time.Duration, what string) (Move, bool) {
	if s.elapsed(begun) >= bound {
		return Move{}, false
	}
	return Move{Do: DoWait, Why: what}, true
}

// opening climbs the rungs that need nothing to be done, up to the first intent: one entry of the log instead of six. It ends with
// the move that comes instead of an intent, when there is none.
func opening(s Scene) (steps []fsm.FenceStep, m Move) {
	op := s.Op
	for {
		s.Op = op
		m = Next(s)
		if m.Do != DoNote && m.Do != DoIntend || len(op.Steps) >= maxOpening {
			return op.Steps, m
		}
		op.Steps = append(slices.Clone(op.Steps), m.Step)
		if m.Do == DoIntend {
			return op.Steps, m
		}
	}
}

// maxOpening bounds what an operation begins with: two steps for each rung.
const maxOpening = 16
