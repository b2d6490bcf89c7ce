package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/holdfast-io/holdfast/http/api"
)

const (
	defaultEvents = 100
	maxEvents     = 1000
)

func listEvents(b *Backend, r *http.Request) (reply, error) {
	after, limit, err := eventParams(r)
	if err != nil {
		return reply{}, err
	}
	return mirrored(b, r, b.Events, func(ctx context.Context) ([]api.Event, error) {
		l, err := b.Events.Events(ctx, after, limit)
		return noNil(l), err
	}, "after", "limit")
}

func eventParams(r *http.Request) (after uint64, limit int, err error) {
	q, limit := r.URL.Query(), defaultEvents
	if s := q.Get("after"); s != "" {
		if after, err = strconv.ParseUint(s, 10, 64); err != nil {
			return 0, 0, api.Errorf(api.CodeInvalid, "give the index of an event", "after %q is not an index", s)
		}
	}
	if s := q.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > maxEvents {
			return 0, 0, api.Errorf(api.CodeInvalid, "", "limit %q is not between 1 and %d", s, maxEvents)
		}
	}
	return after, limit, nil
}
