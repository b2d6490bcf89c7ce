package check

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// linearTimeout bounds the search of one partition. One that is not decided by then fails: nothing was proved. A variable
// for the test of that.
var linearTimeout = 30 * time.Second

// step is one operation as a model sees it. apply gives the states that the operation may leave; none: it cannot have
// been answered that way in this state. The states of a model are comparable values.
type step[S comparable] struct {
	what  string
	apply func(S) []S
}

// part is the history of one object.
type part[S comparable] struct {
	name string
	init S
	ops  []porcupine.Operation
}

// add puts an operation into the history. One that is open stays so for ever: it may have its effect at any later time, or
// never, and its step must allow both.
func (p *part[S]) add(op history.Op, open bool, what string, apply func(S) []S) {
	end := int64(op.Return)
	if open || op.Outcome == history.Unknown {
		end = math.MaxInt64
	}
	p.ops = append(p.ops, porcupine.Operation{ClientId: len(p.ops), Call: int64(op.Call), Return: end,
		Input: step[S]{what: what, apply: apply}})
}

// maybe is the effect of an operation whose outcome nobody knows.
func maybe[S comparable](apply func(S) []S) func(S) []S {
	return func(s S) []S { return append(apply(s), s) }
}

// model is the sequential specification: a set of states that are possible so far.
func (p *part[S]) model() porcupine.Model {
	nm := porcupine.NondeterministicModel{
		Init: func() []any { return []any{p.init} },
		Step: func(state, input, _ any) []any {
			var next []any
			for _, s := range input.(step[S]).apply(state.(S)) {
				next = append(next, s)
			}
			return next
		},
	}
	return nm.ToModel()
}

// check searches an order of the operations that explains every answer.
func (p *part[S]) check() string {
	switch result := porcupine.CheckOperationsTimeout(p.model(), p.ops, linearTimeout); result {
	case porcupine.Ok:
		return ""
	case porcupine.Unknown:
		return fmt.Sprintf("%s: not decided within %s, %d operations", p.name, linearTimeout, len(p.ops))
	}
	return fmt.Sprintf("%s: no order of its %d operations explains the answers; %s", p.name, len(p.ops), p.shortest())
}

// shortest is the earliest moment at which the history cannot be explained any more: up to which answer, and what came
// around it. It searches each prefix by halving, so that a long history stays cheap.
func (p *part[S]) shortest() string {
	ends := slices.SortedFunc(slices.Values(p.ops), func(a, b porcupine.Operation) int {
		return int(min(max(a.Return-b.Return, -1), 1))
	})
	low, high := 0, len(ends)-1
	for low < high {
		mid := (low + high) / 2
		if p.explained(ends[mid].Return) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	at := ends[low]
	return fmt.Sprintf("the first that does not fit ends at %s: %s", time.Duration(at.Return).Round(time.Millisecond), at.Input.(step[S]).what)
}

// explained tells whether what was known at a moment can be explained. An operation without an answer by then may still
// have had any effect, so it is only left out if it was called later.
func (p *part[S]) explained(until int64) bool {
	q := part[S]{init: p.init}
	for _, op := range p.ops {
		if op.Call > until {
			continue
		}
		if op.Return > until {
			st := op.Input.(step[S])
			st.apply = maybe(st.apply)
			op.Return, op.Input = math.MaxInt64, st
		}
		q.ops = append(q.ops, op)
	}
	return porcupine.CheckOperationsTimeout(q.model(), q.ops, linearTimeout) == porcupine.Ok
}

// linear checks all parts, some at a time.
func linear[S comparable](checker string, parts []*part[S]) history.Verdict {
	results := make([]string, len(parts))
	turns := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	ops := 0
	for i, p := range parts {
		ops += len(p.ops)
		turns <- struct{}{}
		wg.Go(func() {
			results[i] = p.check()
			<-turns
		})
	}
	wg.Wait()
	found := slices.DeleteFunc(results, func(s string) bool { return s == "" })
	return judged(checker, found, "%d operations on %d objects", ops, len(parts))
}
