package qmp

import (
	"context"
	"math"
	"sync"
	"time"
)

// Status is what is known of a volume.
type Status struct {
	// Seq counts the events: space became low, the guest was paused for lack of space or goes on, the volume grew, the connection
	// to QEMU came or went. Two equal numbers of one Volume mean that none came between.
	Seq uint64
	// MaxBytes is the most that the volume may grow to, AllocatedBytes what it has.
	MaxBytes, AllocatedBytes int64
	// HighBytes is the end of the highest write known of. WantBytes is above AllocatedBytes when a write did not fit; by how much
	// QEMU does not say.
	HighBytes, WantBytes int64
	// Low says that less than the threshold is free and the volume may still grow.
	Low bool
	// Waiting is 1 while the guest is paused for lack of space on this volume. Denied counts the writes that did not fit.
	Waiting int
	Denied  uint64
	// GrowRate is by how much HighBytes rises, in bytes per second over some seconds.
	GrowRate int64
	// Connected says that QEMU is being watched. While it is not, HighBytes is old.
	Connected bool
	// LastError is why it is not, or what else went wrong.
	LastError string
	// Ended says that the monitor has ended, or the volume was removed from it.
	Ended bool
}

// rateWindow is the time over which the rate is averaged; what is older counts less and less.
const rateWindow = 5 * time.Second

// book has a volume's status.
type book struct {
	threshold int64

	mu      sync.Mutex // guards what follows
	st      Status
	rate    float64
	rated   time.Time
	grown   bool          // since the guest was let go on for the last time
	changed chan struct{} // closed by the next event
}

func newBook(c VolumeConfig) *book {
	b := &book{threshold: c.ThresholdBytes, changed: make(chan struct{}), rated: time.Now(),
		st: Status{Seq: 1, MaxBytes: c.MaxBytes, AllocatedBytes: c.AllocatedBytes, HighBytes: c.HighBytes}}
	b.st.Low = b.isLow()
	return b
}

// isLow tells whether more space should come; caller holds mu.
func (b *book) isLow() bool {
	return b.st.AllocatedBytes < b.st.MaxBytes && b.st.AllocatedBytes-b.st.HighBytes < b.threshold
}

// event wakes those who watch; caller holds mu.
func (b *book) event() {
	b.st.Seq++
	close(b.changed)
	b.changed = make(chan struct{})
}

// update changes the status, and is an event if f says so.
func (b *book) update(f func(*Status) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	low := b.st.Low
	event := f(&b.st)
	b.st.Low = b.isLow()
	if event || b.st.Low && !low {
		b.event()
	}
}

// note records how far the volume is written now.
func (b *book) note(high int64) {
	now := time.Now()
	b.update(func(s *Status) bool {
		risen := max(high-s.HighBytes, 0)
		b.rate = b.faded(now) + float64(risen)/rateWindow.Seconds()
		b.rated = now
		s.HighBytes += risen
		return false
	})
}

// faded is the rate at this moment; caller holds mu.
func (b *book) faded(now time.Time) float64 {
	return b.rate * math.Exp(-now.Sub(b.rated).Seconds()/rateWindow.Seconds())
}

// paused records whether the guest waits for space.
func (b *book) paused(yes bool) {
	b.update(func(s *Status) bool {
		was := s.Waiting
		s.Waiting, s.WantBytes = 0, 0
		if yes {
			s.Waiting, s.WantBytes = 1, s.AllocatedBytes+1
		}
		return was != s.Waiting
	})
}

// grow records a new size; a smaller one is old news.
func (b *book) grow(allocated int64) {
	b.update(func(s *Status) bool {
		if allocated <= s.AllocatedBytes {
			return false
		}
		s.AllocatedBytes, b.grown = allocated, true
		s.MaxBytes = max(s.MaxBytes, allocated)
		return true
	})
}

// takeGrown tells whether the volume has grown since the last call.
func (b *book) takeGrown() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.grown
	b.grown = false
	return was
}

// connected records whether QEMU can be asked.
func (b *book) connected(err error) {
	b.update(func(s *Status) bool {
		was := s.Connected
		s.Connected = err == nil
		if err != nil {
			s.LastError = err.Error()
		}
		return was != s.Connected
	})
}

func (b *book) status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.st
	s.GrowRate = int64(b.faded(time.Now()))
	return s
}

// alarm is the offset behind which a write makes the volume low; not ok when it is low, or as large as it may be.
func (b *book) alarm() (offset int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.st.Low || b.st.AllocatedBytes >= b.st.MaxBytes {
		return 0, false
	}
	return max(b.st.AllocatedBytes-b.threshold, 1), true
}

// watch returns when the number of events is not seq.
func (b *book) watch(ctx context.Context, seq uint64) (Status, error) {
	for {
		b.mu.Lock()
		now, changed, ended := b.st.Seq, b.changed, b.st.Ended
		b.mu.Unlock()
		switch {
		case ended:
			return b.status(), ErrEnded
		case now != seq:
			return b.status(), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Status{}, context.Cause(ctx)
		}
	}
}
