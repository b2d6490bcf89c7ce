package keeper

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// simPatience is how long porcupine may take over a history. A history that it does not finish is no proof, so it counts
// as broken.
const simPatience = time.Minute

// judgeHistory adds porcupine's judgement to that of the invariants.
func (s *sim) judgeHistory() {
	if err := s.linear(); err != nil {
		if len(s.broken) == 0 {
			s.until = len(s.trace)
		}
		s.broken = append(s.broken, err.Error())
	}
}

// linear judges the history of a run, and nothing else: nil, or what is wrong and where it is drawn.
func (s *sim) linear() error {
	history := s.said.operations()
	switch verdict(history) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("porcupine did not finish the history of %d operations in %v", len(history), simPatience)
	}
	_, info := porcupine.CheckOperationsVerbose(leaseModel, history, simPatience)
	return fmt.Errorf("the history of %d operations has no order that the model allows. %s. Drawn in %s",
		len(history), stuck(history, info), drawn(info, s.plan.seed))
}

// verdict is porcupine's.
func verdict(history []porcupine.Operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(leaseModel, history, simPatience)
}

// stuck names the operation before which the best order of a resource ends.
func stuck(history []porcupine.Operation, info porcupine.LinearizationInfo) string {
	for r, orders := range info.PartialLinearizations() {
		ops, best := byResource(history)[r], []int(nil)
		for _, order := range orders {
			if len(order) > len(best) {
				best = order
			}
		}
		if len(best) < len(ops) {
			op := firstLeft(ops, best)
			return fmt.Sprintf("Resource %d, %v to %v, machine %d: %s", r, time.Duration(op.Call), time.Duration(op.Return), op.ClientId,
				describe(op.Input.(leaseInput), op.Output.(leaseOutput)))
		}
	}
	return "No operation is to blame"
}

// firstLeft is the operation that ends first of those that have no place in an order.
func firstLeft(ops []porcupine.Operation, order []int) porcupine.Operation {
	left := slices.Clone(ops)
	for _, i := range order {
		left[i].Return = math.MaxInt64
	}
	return slices.MinFunc(left, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
}

// drawn writes the picture of a history that was refused and says where it is.
func drawn(info porcupine.LinearizationInfo, seed uint64) string {
	f, err := os.CreateTemp("", fmt.Sprintf("holdfast-sim-%d-*.html", seed))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	if err := porcupine.Visualize(leaseModel, info, f); err != nil {
		return err.Error()
	}
	return f.Name()
}

// operations is the history in porcupine's terms.
func (h *simHistory) operations() []porcupine.Operation {
	var all []porcupine.Operation
	for r := range simResources {
		for _, op := range append(settled(h.ops[r]), h.deaths(h.ops[r])...) {
			all = append(all, op.operation(r))
		}
	}
	return all
}

// operation translates what has come to something.
func (op *simOp) operation(r int) porcupine.Operation {
	in, out := leaseInput{resource: r, kind: op.kind}, leaseOutput{}
	switch op.kind {
	case opAcquire:
		in.life, in.brief, out.version = op.life, op.outcome == outcomeUnknown, op.version
	case opStatus:
		out = leaseOutput{life: op.life, version: op.version, state: op.state, takeable: op.takeable}
	default:
		in.life, in.version = op.life, op.version
	}
	return porcupine.Operation{ClientId: op.machine, Input: in, Call: int64(op.call), Output: out, Return: int64(op.ret)}
}

// deaths are the moments from which on silent holders may be taken for dead.
func (h *simHistory) deaths(ops []*simOp) []*simOp {
	var all []*simOp
	done := map[simLifeID]bool{}
	for _, op := range ops {
		if op.kind != opAcquire || done[op.life] {
			continue
		}
		done[op.life] = true
		if at, ok := h.bounds[op.life]; ok {
			all = append(all, &simOp{kind: opMayEnd, machine: op.machine, life: op.life, call: at, ret: at})
		}
	}
	return all
}

// settled replaces what has an unknown outcome by what is known of it, as etcd's robustness tests do: left open, each would
// double the number of orders to try.
//
//   - A release may take effect at any time after its call, and so may what ends a life: from there on the lease may end. The
//     next acquire or status decides.
//   - An acquire that a status saw took effect between its call and that status. One that nobody saw is left out: nobody relies
//     on it, and versions may leave gaps.
//   - A status without an answer says nothing.
func settled(ops []*simOp) []*simOp {
	var all []*simOp
	for _, op := range ops {
		switch {
		case op.outcome == outcomeDone:
			all = append(all, op)
		case op.kind == opRelease:
			all = append(all, &simOp{kind: opMayEnd, machine: op.machine, life: op.life, version: op.version, call: op.call, ret: op.call})
		}
	}
	return append(all, seenAcquires(ops)...)
}

// seenAcquires gives the acquires with unknown outcome that statuses saw the version they must have had. Of those of one
// life the earliest comes first: it leaves the most room.
func seenAcquires(ops []*simOp) []*simOp {
	var statuses, all []*simOp
	known := map[uint64]*simOp{}
	open := map[simLifeID][]*simOp{}
	for _, op := range ops {
		switch {
		case op.kind == opStatus && op.outcome == outcomeDone:
			statuses = append(statuses, op)
		case op.kind == opAcquire && op.outcome == outcomeDone && known[op.version] == nil:
			known[op.version] = op
		case op.kind == opAcquire && op.outcome == outcomeUnknown:
			open[op.life] = append(open[op.life], op)
		}
	}
	slices.SortStableFunc(statuses, func(a, b *simOp) int { return cmp.Compare(a.ret, b.ret) })
	for _, st := range statuses {
		if k := known[st.version]; k != nil && k.life == st.life && k.call <= st.ret {
			continue
		}
		if first := open[st.life]; len(first) > 0 && first[0].call <= st.ret {
			a := *first[0]
			a.version, a.ret = st.version, st.ret
			known[st.version], open[st.life] = &a, first[1:]
			all = append(all, &a)
		}
	}
	return all
}
