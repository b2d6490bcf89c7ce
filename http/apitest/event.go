package apitest

import (
	"context"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
)

// firstEvent is the pool's history so far.
func firstEvent() api.Event {
	return api.Event{ID: "6.0", Index: 6, Time: Now, Kind: "spm", Severity: api.SeverityInfo, Host: "h1", Subject: "spm",
		Message: "h1 serves at epoch 3", Reason: "nobody held the lease", Evidence: "lease version 3", Epoch: 3}
}

// Happen adds events to the history with the next index, and returns them with their ids.
func (f *Fake) Happen(l ...api.Event) []api.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range l {
		l[i].Index, l[i].Number = f.index+1, uint32(i)
		l[i].ID = l[i].Place().String()
	}
	f.history = append(f.history, l...)
	f.advance()
	return l
}

// Forget drops all events but the newest n.
func (f *Fake) Forget(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if drop := len(f.history) - n; drop > 0 {
		f.history, f.lost = append([]api.Event(nil), f.history[drop:]...), true
	}
}

// Looks says how often the history was read.
func (f *Fake) Looks() int { f.mu.Lock(); defer f.mu.Unlock(); return f.looks }

// Events implements httpapi.Events.
func (f *Fake) Events(_ context.Context, q httpapi.EventQuery) (httpapi.EventPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	page := httpapi.EventPage{Seen: q.After}
	if len(f.history) > 0 {
		page.Oldest = f.history[0].Place()
		page.Gap = f.lost && q.After.Compare(page.Oldest) < 0
	}
	if q.Newest {
		page.Seen = api.EventID{}
	}
	for _, e := range f.history {
		if !q.Newest && (e.Place().Compare(q.After) <= 0 || len(page.Events) == q.Limit) {
			continue
		}
		page.Seen = e.Place()
		if q.Filter.Matches(e) {
			page.Events = append(page.Events, e)
		}
	}
	if q.Newest {
		page.Events = page.Events[max(0, len(page.Events)-q.Limit):]
	}
	return page, f.err
}
