package fencing

import (
	"fmt"
	"time"
)

// Timing bounds how long Machine waits until an order shows in the status.
type Timing struct {
	// First is the wait before the second question after an order; the first comes at once. It doubles up to Longest.
	First time.Duration
	// Longest is the longest wait between two questions, and the wait after an answer that says nothing.
	Longest time.Duration
	// Polls is how often the status is asked after one order.
	Polls int
	// Unknowns is how many answers that say nothing, errors among them, are borne; one more ends the waiting.
	Unknowns int
	// OnOrders is how often on is ordered while the machine stays off. Off is ordered once: a second one tells nothing more.
	OnOrders int
	// Pause is the time between off and on of a restart: power supplies hold a charge.
	Pause time.Duration
}

// DefaultTiming waits about two minutes, and sees a switch that works within a quarter of a second.
func DefaultTiming() Timing {
	return Timing{First: 250 * time.Millisecond, Longest: 10 * time.Second, Polls: 19, Unknowns: 3, OnOrders: 2, Pause: 2 * time.Second}
}

// Validate refuses a timing without bounds, or without a single question.
func (t Timing) Validate() error {
	if t.First <= 0 || t.Longest < t.First || t.Polls < 1 || t.Unknowns < 0 || t.OnOrders < 1 || t.Pause < 0 {
		return fmt.Errorf("timing of power actions %+v: waits must be positive and growing, and at least one question asked: %w", t, ErrConfig)
	}
	return nil
}

// wait is the time before question number n (0, 1, ...) after an order.
func (t Timing) wait(n int) time.Duration {
	if n == 0 {
		return 0
	}
	d := t.First
	for range n - 1 {
		if d *= 2; d >= t.Longest {
			return t.Longest
		}
	}
	return min(d, t.Longest)
}
