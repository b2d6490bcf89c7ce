package main

import (
	"strings"

	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
)

// newestEvents are the last ones that match.
func newestEvents(st *fsm.State, q httpapi.EventQuery) httpapi.EventPage {
	page := eventsAfter(st, httpapi.EventQuery{Limit: fsm.MaxEvents, Filter: q.Filter})
	page.Gap = false
	page.Events = page.Events[max(0, len(page.Events)-q.Limit):]
	return page
}

// eventsAfter are the next ones that match, from one state.
func eventsAfter(st *fsm.State, q httpapi.EventQuery) httpapi.EventPage {
	page := httpapi.EventPage{Seen: q.After}
	if oldest, ok := st.OldestEvent(); ok {
		page.Oldest = api.EventID(oldest)
		// A history that was never full has dropped nothing.
		page.Gap = q.After.Compare(page.Oldest) < 0 && st.EventCount() >= fsm.MaxEvents
	}
	for e := range st.EventsFrom(fsm.EventID(q.After)) {
		if len(page.Events) == q.Limit {
			break
		}
		a := apiEvent(e)
		page.Seen = a.Place()
		if q.Filter.Matches(a) {
			page.Events = append(page.Events, a)
		}
	}
	return page
}

// maxEventText bounds what is sent of one text of an event. Readers refuse a message that is too long, and would be stuck before it.
const maxEventText = 16 << 10

// shortText cuts a text that is longer than any that a person reads.
func shortText(s string) string {
	if len(s) <= maxEventText {
		return s
	}
	return strings.ToValidUTF8(s[:maxEventText], "") + " ..."
}

// apiEvent is one line of history.
func apiEvent(e fsm.Event) api.Event {
	e.Message, e.Subject = shortText(e.Message), shortText(e.Subject)
	return api.Event{ID: e.ID().String(), Index: e.Index, Number: e.Number, Time: unixTime(e.Time), Kind: e.Kind, Severity: e.Severity, Host: e.Host,
		Subject: e.Subject, Message: e.Message, Reason: e.Reason, Evidence: e.Evidence, Epoch: e.Epoch}
}
