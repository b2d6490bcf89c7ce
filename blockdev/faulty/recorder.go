package faulty

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Entry is one mutation in a Recorder's log.
type Entry struct {
	Seq      int       // position in the log, from 0; the order in which calls came in
	Time     time.Time // when the call came in
	Op       Op
	Off, Len int64
	Data     []byte // a copy of what a write wrote; nil for the rest
	Begin    int    // moment the call came in, on a counter that Begin and End of all entries share
	End      int    // moment it came back; 0 while it has not
	Err      error  // what it came back with
}

// Stats counts what went through a Recorder.
type Stats struct {
	Reads, ReadBytes   int64
	Writes, WriteBytes int64 // writes only, not zeroes and discards
	Zeroes, Discards   int64
	Flushes            int64
}

// Recorder passes calls on and logs each mutation, so that a test can rebuild every state that a crash might have
// left. A call is logged when it comes in, whether or not it succeeds.
type Recorder struct {
	blockdev.Device

	mu     sync.Mutex // guards the fields below
	log    []Entry
	moment int
	stats  Stats
}

// NewRecorder records what goes to d.
func NewRecorder(d blockdev.Device) *Recorder { return &Recorder{Device: d} }

// Log returns a copy of the log; the Data slices are shared and must not be changed.
func (r *Recorder) Log() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Len is the length of the log.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.log)
}

// Stats returns the counters.
func (r *Recorder) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Reset empties the log and the counters. No call may be under way.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log, r.stats, r.moment = nil, Stats{}, 0
}

// ReadAt implements blockdev.Device.
func (r *Recorder) ReadAt(ctx context.Context, p []byte, off int64) error {
	r.mu.Lock()
	r.stats.Reads++
	r.stats.ReadBytes += int64(len(p))
	r.mu.Unlock()
	return r.Device.ReadAt(ctx, p, off)
}

// WriteAt implements blockdev.Device.
func (r *Recorder) WriteAt(ctx context.Context, p []byte, off int64) error {
	i := r.begin(Entry{Op: Write, Off: off, Len: int64(len(p)), Data: bytes.Clone(p)})
	return r.end(i, r.Device.WriteAt(ctx, p, off))
}

// WriteZeroes implements blockdev.Device.
func (r *Recorder) WriteZeroes(ctx context.Context, off, n int64) error {
	i := r.begin(Entry{Op: Zero, Off: off, Len: n})
	return r.end(i, r.Device.WriteZeroes(ctx, off, n))
}

// Discard implements blockdev.Device.
func (r *Recorder) Discard(ctx context.Context, off, n int64) error {
	i := r.begin(Entry{Op: Discard, Off: off, Len: n})
	return r.end(i, r.Device.Discard(ctx, off, n))
}

// Flush implements blockdev.Device.
func (r *Recorder) Flush(ctx context.Context) error {
	i := r.begin(Entry{Op: Flush})
	return r.end(i, r.Device.Flush(ctx))
}

func (r *Recorder) begin(e Entry) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moment++
	e.Seq, e.Time, e.Begin = len(r.log), time.Now(), r.moment
	r.log = append(r.log, e)
	r.count(e)
	return e.Seq
}

// count adds to the counters; caller holds mu.
func (r *Recorder) count(e Entry) {
	switch e.Op {
	case Write:
		r.stats.Writes++
		r.stats.WriteBytes += e.Len
	case Zero:
		r.stats.Zeroes++
	case Discard:
		r.stats.Discards++
	case Flush:
		r.stats.Flushes++
	}
}

func (r *Recorder) end(i int, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moment++
	r.log[i].End, r.log[i].Err = r.moment, err
	return err
}

// Replay returns base with the first n entries applied, and of entry n, if it is a write, its first tornSectors
// sectors. This is what a crash leaves on a device that carries out writes in order. The base stays as it is.
func (r *Recorder) Replay(base *blockdev.Mem, n, tornSectors int) *blockdev.Mem {
	log := r.Log()
	m := base.Clone()
	for _, e := range log[:n] {
		apply(m, e, e.Len)
	}
	if n < len(log) && log[n].Op == Write && tornSectors > 0 {
		apply(m, log[n], min(int64(tornSectors*m.SectorSize()), log[n].Len))
	}
	return m
}

// Sectors is the number of sectors of entry n if it is a write, else 0: tearing it makes sense below that.
func (r *Recorder) Sectors(n int) int {
	log := r.Log()
	if n >= len(log) || log[n].Op != Write {
		return 0
	}
	return int(log[n].Len) / r.SectorSize()
}

// Volatile lists the entries among the first n that a loss of power right after them may undo, in any combination:
// mutations that had not come back when the last flush that succeeded among the first n came in.
func (r *Recorder) Volatile(n int) []int {
	log := r.Log()[:n]
	flushed := 0
	for _, e := range log {
		if e.Op == Flush && e.End != 0 && e.Err == nil {
			flushed = max(flushed, e.Begin)
		}
	}
	var list []int
	for _, e := range log {
		if e.Op != Flush && (e.End == 0 || e.End > flushed) {
			list = append(list, e.Seq)
		}
	}
	return list
}

// ReplayKeep is Replay for a device with a volatile cache that writes back in any order: of the first n entries, the
// durable ones are applied, and of the volatile ones those that keep picks. With keep(seq) always true it is
// Replay(base, n, 0).
func (r *Recorder) ReplayKeep(base *blockdev.Mem, n int, keep func(seq int) bool) *blockdev.Mem {
	volatile := r.Volatile(n)
	m := base.Clone()
	for _, e := range r.Log()[:n] {
		if !slices.Contains(volatile, e.Seq) || keep(e.Seq) {
			apply(m, e, e.Len)
		}
	}
	return m
}

// apply does an entry, or the first n bytes of it. A call that failed is applied too: it may have landed.
func apply(m *blockdev.Mem, e Entry, n int64) {
	switch e.Op {
	case Write:
		m.SetBytes(e.Off, e.Data[:n])
	case Zero, Discard:
		m.SetZero(e.Off, n)
	}
}

// String is one line of the log for a failing test.
func (e Entry) String() string {
	return fmt.Sprintf("%d %s %d+%d", e.Seq, e.Op, e.Off, e.Len)
}
