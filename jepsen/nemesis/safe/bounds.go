package safe

import (
	"slices"
	"time"
)

// Bounds is what was measured of one kind of fault: the longest times without a volume made, and without an answer.
type Bounds struct {
	Kind    string   `json:"kind"`
	Faults  int      `json:"faults"`
	Failed  int      `json:"failed"` // could not be injected
	Creates Spread   `json:"creates"`
	Reads   Spread   `json:"reads"`
	Errors  []string `json:"errors,omitempty"`

	creates, reads []time.Duration
}

// Spread is the distribution of some times, in milliseconds.
type Spread struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// spreadOf is all zero for no times. The percentile is a time that occurred: the smallest that enough others do not exceed.
func spreadOf(d []time.Duration) Spread {
	if len(d) == 0 {
		return Spread{}
	}
	d = slices.Sorted(slices.Values(d))
	at := func(percent int) float64 {
		i := max(0, (len(d)*percent+99)/100-1)
		return float64(d[i].Microseconds()) / 1000
	}
	return Spread{P50: at(50), P99: at(99), Max: at(100)}
}

// add takes one fault.
func (b *Bounds) add(creates, reads time.Duration) {
	b.Faults++
	b.creates, b.reads = append(b.creates, creates), append(b.reads, reads)
	b.Creates, b.Reads = spreadOf(b.creates), spreadOf(b.reads)
}

// fail takes a fault that could not be injected.
func (b *Bounds) fail(err error) {
	b.Failed++
	if len(b.Errors) < 5 {
		b.Errors = append(b.Errors, err.Error())
	}
}
