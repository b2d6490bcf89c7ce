package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
)

const (
	defaultEvents = 100
	maxEvents     = 1000
)

// Events reads the pool's history.
type Events interface {
	Events(ctx context.Context, q EventQuery) (EventPage, error)
}

// EventQuery asks for a part of the history.
type EventQuery struct {
	// After is the last event that the reader has seen. With Newest it means nothing: the newest Limit are meant.
	After  api.EventID
	Newest bool
	Limit  int
	Filter EventFilter
}

// EventPage is a part of the history, from one moment.
type EventPage struct {
	Events []api.Event // those that match, oldest first
	// Seen is how far the history was looked at, whether or not it matched; After when nothing came after it. When fewer than
	// Limit events are in the page that is the last event there is.
	Seen api.EventID
	// Gap says that events between After and Oldest may be missing.
	Gap    bool
	Oldest api.EventID // zero: the history is empty
}

// EventFilter narrows events; empty fields match everything.
type EventFilter struct {
	Kinds    []string // each matches itself and everything below it: "fence" is also "fence.done"
	Host     string
	Severity string // the least one
}

// severityRank orders severities.
var severityRank = map[string]int{api.SeverityInfo: 1, api.SeverityWarning: 2, api.SeverityError: 3}

// Matches says whether e is wanted.
func (f EventFilter) Matches(e api.Event) bool {
	kind := len(f.Kinds) == 0 || slices.ContainsFunc(f.Kinds, func(k string) bool { return e.Kind == k || strings.HasPrefix(e.Kind, k+".") })
	return kind && (f.Host == "" || e.Host == f.Host) && severityRank[e.Severity] >= severityRank[f.Severity]
}

// eventParams are the query parameters of events.
var eventParams = []string{"after", "limit", "kind", "host", "severity"}

func listEvents(b *Backend, r *http.Request) (reply, error) {
	q, err := eventQuery(r)
	if err != nil {
		return reply{}, err
	}
	var page EventPage
	p, err := mirrored(b, r, b.Events, func(ctx context.Context) ([]api.Event, error) {
		page, err = b.Events.Events(ctx, q)
		return noNil(page.Events), err
	}, eventParams...)
	if page.Gap && !q.Newest {
		p.gap = page.Oldest.String()
	}
	return p, err
}

// eventQuery reads the parameters of a list. Without after, or with 0, the newest are meant.
func eventQuery(r *http.Request) (EventQuery, error) {
	q := EventQuery{Limit: defaultEvents}
	v := r.URL.Query()
	after := v.Get("after")
	q.Newest = after == "" || after == "0"
	var err error
	if !q.Newest {
		if q.After, err = eventID("after", after); err != nil {
			return q, err
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > maxEvents {
			return q, invalid("", "limit %q is not between 1 and %d", s, maxEvents)
		}
	}
	q.Filter, err = eventFilter(r)
	return q, err
}

func eventID(what, s string) (api.EventID, error) {
	id, err := api.ParseEventID(s)
	if err != nil {
		return id, invalid("give the id of an event", "%s: %v", what, err)
	}
	return id, nil
}

// maxKinds bounds the kinds of one filter.
const maxKinds = 32

func eventFilter(r *http.Request) (EventFilter, error) {
	v := r.URL.Query()
	f := EventFilter{Host: v.Get("host"), Severity: v.Get("severity")}
	if s := v.Get("kind"); s != "" {
		f.Kinds = strings.Split(s, ",")
	}
	switch {
	case f.Severity != "" && severityRank[f.Severity] == 0:
		return f, invalid("give info, warning or error", "severity %q does not exist", f.Severity)
	case slices.Contains(f.Kinds, ""):
		return f, invalid("separate kinds by single commas", "one of the kinds is empty")
	case len(f.Kinds) > maxKinds:
		return f, invalid("give fewer, or what they have in common", "%d kinds, at most %d are allowed", len(f.Kinds), maxKinds)
	}
	return f, nil
}
