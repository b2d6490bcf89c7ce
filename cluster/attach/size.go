package attach

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const mib = 1 << 20

// Growth says when and by how much a volume is extended. Start from DefaultGrowth.
type Growth struct {
	// ChunkBytes is by how much a volume grows at least. Default 2.5 GiB, VDSM's.
	ChunkBytes int64
	// UtilizationPercent is how much of a chunk may be used before the next is asked for: a volume is extended when less than
	// the rest of a chunk is free. Default 20, VDSM's. Danger: with a high one fast writers wait for each extension.
	UtilizationPercent int
	// RequestTimeout bounds one request for more space. Default 30 s.
	RequestTimeout time.Duration
	// RetryMin and RetryMax bound the wait after a request that failed. Default 100 ms and 5 s.
	RetryMin, RetryMax time.Duration
}

// DefaultGrowth has VDSM's sizes.
func DefaultGrowth() Growth {
	return Growth{ChunkBytes: 2560 * mib, UtilizationPercent: 20, RequestTimeout: 30 * time.Second,
		RetryMin: 100 * time.Millisecond, RetryMax: 5 * time.Second}
}

// ErrGrowth says that the rules of growth make no sense.
var ErrGrowth = errors.New("invalid rules of growth")

// Validate refuses what cannot be meant.
func (g Growth) Validate() error {
	switch {
	case g.ChunkBytes < mib || g.ChunkBytes > 1<<40:
		return fmt.Errorf("%w: a chunk of %d bytes: want 1 MiB to 1 TiB", ErrGrowth, g.ChunkBytes)
	case g.UtilizationPercent < 0 || g.UtilizationPercent > 99:
		return fmt.Errorf("%w: utilization of %d %%: want 0 to 99", ErrGrowth, g.UtilizationPercent)
	case g.RequestTimeout <= 0 || g.RetryMin <= 0 || g.RetryMax < g.RetryMin:
		return fmt.Errorf("%w: times %v, %v, %v", ErrGrowth, g.RequestTimeout, g.RetryMin, g.RetryMax)
	}
	return nil
}

// Threshold is the free space below which more is asked for.
func (g Growth) Threshold() int64 { return g.ChunkBytes * int64(100-g.UtilizationPercent) / 100 }

// Target is the size to ask for: a chunk more; or what leaves the threshold free behind what is written and what will be
// written until an extension has come twice (p99 is how long one takes), if that is more. Never more than the volume can use.
func (g Growth) Target(st Status, p99 time.Duration) int64 {
	burst := float64(st.GrowRate) * p99.Seconds() * 2
	size := max(st.AllocatedBytes+g.ChunkBytes, clampAdd(max(st.HighBytes, st.WantBytes)+g.Threshold(), burst, st.SizeBytes))
	return min((size+mib-1)/mib*mib, st.SizeBytes)
}

// Less is what to ask for after so many refusals for lack of space: half as much more each time, so that a guest gets what is left of
// a domain before it has to stand still. The SPM keeps the first, larger request, and serves it when there is space again.
func (g Growth) Less(st Status, size int64, refusals int) int64 {
	least := max(st.AllocatedBytes+mib, min(st.WantBytes, size))
	more := (size - st.AllocatedBytes) >> min(refusals, 40)
	return min((max(st.AllocatedBytes+more, least)+mib-1)/mib*mib, st.SizeBytes)
}

// clampAdd adds a burst that may be absurd.
func clampAdd(a int64, burst float64, limit int64) int64 {
	if burst >= float64(limit) {
		return limit
	}
	return a + int64(max(burst, 0))
}

// needsMore says whether a volume should be extended.
func needsMore(st Status) bool {
	return st.AllocatedBytes < st.SizeBytes && (st.Low || st.Waiting > 0 && st.WantBytes > st.AllocatedBytes)
}

// firstLatency is what an extension is taken to last before any has come.
const firstLatency = time.Second

// latencies remembers how long the last extensions of this host took.
type latencies struct {
	mu   sync.Mutex // guards last
	last []time.Duration
}

// maxLatencies is how many count.
const maxLatencies = 128

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == maxLatencies {
		l.last = append(l.last[:0], l.last[1:]...)
	}
	l.last = append(l.last, d)
}

// p99 is the time that 99 of 100 took no longer than.
func (l *latencies) p99() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == 0 {
		return firstLatency
	}
	s := slices.Sorted(slices.Values(l.last))
	return s[(len(s)*99+99)/100-1]
}
