package spm

import (
	"fmt"
	"slices"
	"time"
)

// OutOfSpaceError says that the domain has no room for an extension. It matches domain.ErrNoSpace.
type OutOfSpaceError struct {
	Domain string // name
	Queued bool   // the request is kept, and served when there is room
	Cause  error  // how much is missing
	text   string // as another host put it
}

// Error says what is missing, and what happens next.
func (e *OutOfSpaceError) Error() string {
	if e.text != "" {
		return e.text
	}
	what := "the request waits for space: add a LUN to the domain or delete volumes"
	if !e.Queued {
		what = "too many requests wait for space, so this one is not kept: ask again later"
	}
	return fmt.Sprintf("domain %s: %v; %s", e.Domain, e.Cause, what)
}

// Unwrap is what the writer said.
func (e *OutOfSpaceError) Unwrap() error { return e.Cause }

// Waiting is an extension that waits for space.
type Waiting struct {
	Domain        string    `json:"domain"` // UUID
	Volume        string    `json:"volume"`
	Size          int64     `json:"size"` // that the volume is to have
	Needed        int64     `json:"needed"`
	Paused        bool      `json:"paused"`
	SecondsToFull float64   `json:"seconds_to_full,omitempty"`
	Since         time.Time `json:"since"`
	Reason        string    `json:"reason"`
}

// waiting lists them, the most urgent first.
func (q *shortage) waiting() []Waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]*want, 0, len(q.list))
	for _, w := range q.list {
		list = append(list, w)
	}
	slices.SortFunc(list, urgency)
	out := make([]Waiting, 0, len(list))
	for _, w := range list {
		one := Waiting{Domain: q.d.id, Volume: w.req.Volume, Size: w.req.Size, Paused: w.req.Paused, SecondsToFull: w.req.SecondsToFull,
			Since: w.since, Reason: "not tried yet"}
		if v, ok := q.d.dom.Volume(w.req.Volume); ok {
			one.Needed = w.req.Size - v.AllocatedBytes
		}
		if w.cause != nil {
			one.Reason = w.cause.Error()
		}
		out = append(out, one)
	}
	return out
}
