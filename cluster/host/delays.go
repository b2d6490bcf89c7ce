package host

import (
	"math"
	"slices"
	"time"
)

// maxDelays is how many read times a monitor remembers: an hour and more of them at the slowest cycle.
const maxDelays = 512

// delays are the read times of one domain: all of them in number and sum, the last ones one by one.
type delays struct {
	count uint64
	sum   time.Duration
	ring  []time.Duration
	at    int // where the next one goes once the ring is full
}

// add notes one.
func (d *delays) add(t time.Duration) {
	d.count++
	d.sum += t
	if len(d.ring) < maxDelays {
		d.ring = append(d.ring, t)
		return
	}
	d.ring[d.at] = t
	d.at = (d.at + 1) % maxDelays
}

// quantiles are the times that these shares of the last reads did not exceed; nil before the first one.
func (d *delays) quantiles(shares ...float64) map[float64]time.Duration {
	if len(d.ring) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(d.ring))
	out := make(map[float64]time.Duration, len(shares))
	for _, q := range shares {
		i := int(math.Ceil(q*float64(len(sorted)))) - 1
		out[q] = sorted[min(max(i, 0), len(sorted)-1)]
	}
	return out
}
