package export

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// rateWindow is the time over which rates are averaged; what is older counts less and less.
const rateWindow = 2 * time.Second

// space is the book on how much of the volume is used and who waits for more.
type space struct {
	threshold int64
	max       int64

	mu        sync.Mutex // guards the fields below
	seq       uint64
	allocated int64
	high      int64
	want      int64 // the end of the furthest write that waited; nothing when not above allocated
	waiting   int
	waited    uint64
	denied    uint64
	low       bool
	write     rate
	grow      rate
	grown     chan struct{} // closed by the next extension
	changed   chan struct{} // closed by the next event
}

// rate is an average that forgets.
type rate struct {
	perSecond float64
	at        time.Time
}

func (r *rate) add(n int64, now time.Time) {
	r.perSecond = r.value(now) + float64(n)/rateWindow.Seconds()
	r.at = now
}

func (r *rate) value(now time.Time) float64 {
	if r.at.IsZero() {
		return 0
	}
	return r.perSecond * math.Exp(-now.Sub(r.at).Seconds()/rateWindow.Seconds())
}

func newSpace(c Config, allocated int64) *space {
	s := &space{threshold: c.ThresholdBytes, max: c.MaxBytes, allocated: allocated, high: min(c.HighBytes, c.MaxBytes),
		grown: make(chan struct{}), changed: make(chan struct{})}
	s.seq = 1
	s.low = s.isLow()
	return s
}

// isLow tells whether more space should come; caller holds mu.
func (s *space) isLow() bool { return s.allocated < s.max && s.allocated-s.high < s.threshold }

// event wakes those who watch; caller holds mu.
func (s *space) event() {
	s.seq++
	close(s.changed)
	s.changed = make(chan struct{})
}

// note records a write of n bytes that ends at end.
func (s *space) note(end, n int64) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write.add(n, now)
	if end <= s.high {
		return
	}
	s.grow.add(min(end-s.high, n), now)
	s.high = end
	if !s.low && s.isLow() {
		s.low = true
		s.event()
	}
}

// extend records that the mapping now ends at allocated.
func (s *space) extend(allocated int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allocated = allocated
	s.low = s.isLow()
	close(s.grown)
	s.grown = make(chan struct{})
	s.event()
}

// arrive enters a write that ends behind what is allocated; first: it has not waited before. With ok it need not wait.
func (s *space) arrive(end int64, first bool) (grown <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end <= s.allocated {
		return nil, true
	}
	s.waiting++
	if first {
		s.waited++
	}
	if end > s.want || s.waiting == 1 {
		s.want = max(s.want, end)
		s.event()
	}
	return s.grown, false
}

// leave ends a wait and tells whether there is space up to end now.
func (s *space) leave(end int64) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	return end <= s.allocated
}

// deny counts a write that was refused for lack of space.
func (s *space) deny() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied++
	s.event()
}

// await returns nil when bytes up to end are allocated, waiting no longer than patience or until stop is closed.
func (s *space) await(end int64, patience time.Duration, stop <-chan struct{}) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for first := true; ; first = false {
		grown, ok := s.arrive(end, first)
		if ok {
			return nil
		}
		var err error
		select {
		case <-grown:
		case <-timer.C:
			err = ErrNoSpace
		case <-stop:
			err = ErrDetached
		}
		switch ok = s.leave(end); {
		case ok:
			return nil
		case errors.Is(err, ErrNoSpace):
			s.deny()
			return err
		case err != nil:
			return err
		}
	}
}

// Status is what an export knows about itself.
type Status struct {
	// Seq counts the events: space became low, a write waits, a write was refused, the volume grew, the guard refused
	// a write, a device failed. Two equal numbers of one process mean that none came between.
	Seq uint64 `json:"seq"`
	// MaxBytes is the size that clients see, AllocatedBytes what of it has storage.
	MaxBytes       int64 `json:"max_bytes"`
	AllocatedBytes int64 `json:"allocated_bytes"`
	// HighBytes is the end of the highest write so far, WantBytes that of the furthest that lies or lay behind what
	// was allocated.
	HighBytes int64 `json:"high_bytes"`
	WantBytes int64 `json:"want_bytes"`
	// Low says that less than the threshold is free and the volume may still grow.
	Low bool `json:"low"`
	// Waiting writes wait for an extension now; Waited ones did so, ever; Denied ones of them got ENOSPC.
	Waiting int    `json:"waiting"`
	Waited  uint64 `json:"waited"`
	Denied  uint64 `json:"denied"`
	// WriteRate is all that is written, GrowRate what of it raises HighBytes, in bytes per second over some seconds.
	WriteRate int64 `json:"write_rate"`
	GrowRate  int64 `json:"grow_rate"`
	// Connections are the clients, Pending the device calls that were given up and are not back.
	Connections int `json:"connections"`
	Pending     int `json:"pending"`
	// LeaseErrors counts mutations that the guard refused, DeviceErrors other failed calls; LastError is the last one.
	LeaseErrors  uint64 `json:"lease_errors"`
	DeviceErrors uint64 `json:"device_errors"`
	LastError    string `json:"last_error,omitempty"`
	// Detached says that the export ends or has ended.
	Detached bool `json:"detached"`
}

// status is the part of a Status that space knows.
func (s *space) status() Status {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{
		Seq: s.seq, MaxBytes: s.max, AllocatedBytes: s.allocated, HighBytes: s.high, WantBytes: s.want,
		Low: s.low, Waiting: s.waiting, Waited: s.waited, Denied: s.denied,
		WriteRate: int64(s.write.value(now)), GrowRate: int64(s.grow.value(now)),
	}
}

// watch returns when the number of events is not seq, or when nothing can happen any more because stop is closed.
func (s *space) watch(ctx context.Context, seq uint64, stop <-chan struct{}) error {
	for {
		s.mu.Lock()
		now, changed := s.seq, s.changed
		s.mu.Unlock()
		if now != seq {
			return nil
		}
		select {
		case <-changed:
		case <-stop:
			return ErrDetached
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// poke is an event of somebody else's.
func (s *space) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.event()
}
