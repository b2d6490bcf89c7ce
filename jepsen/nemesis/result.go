package nemesis

import (
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Result is what became of a Schedule.
type Result struct {
	Planned  int
	Injected map[string]int // by kind
	Missed   []string       // could not be injected, and why
	Late     []string       // could not be healed in time; it was tried again at the end
}

// Total is how many faults were injected.
func (r Result) Total() (n int) {
	for _, k := range r.Injected {
		n += k
	}
	return n
}

// Verdict says whether enough of the plan was carried out for the run to prove something. share is between 0 and 1.
func (r Result) Verdict(share float64) history.Verdict {
	v := history.Verdict{Checker: "nemesis", Faults: slices.Concat(r.Missed, r.Late)}
	n := r.Total()
	v.OK = n > 0 && float64(n) >= share*float64(r.Planned)
	v.Summary = fmt.Sprintf("%d of %d planned faults of %d kinds were injected", n, r.Planned, len(r.Injected))
	if !v.OK {
		v.Summary += fmt.Sprintf(": too few, %.0f %% must be", share*100)
	}
	return v
}
