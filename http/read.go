package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/mux"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/internal/plant"
)

const (
	defaultWait = 30 * time.Second
	maxWait     = 5 * time.Minute
)

// readParams are the query parameters every list and show understands.
var readParams = []string{"consistent", "wait", "timeout"}

// checkQuery refuses parameters that the route does not know, so that a typing error is not a wrong list.
func checkQuery(r *http.Request, known ...string) error {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "", "query string: %v", err)
	}
	for k, v := range q {
		if !slices.Contains(known, k) && !slices.Contains(readParams, k) {
			return api.Errorf(api.CodeInvalid, "see /v1/openapi.yaml", "unknown query parameter %q", k)
		}
		if len(v) > 1 {
			return api.Errorf(api.CodeInvalid, "", "query parameter %q is given %d times", k, len(v))
		}
	}
	return nil
}

// wantsConsistent reports ?consistent, with or without a value.
func wantsConsistent(r *http.Request) bool {
	if plant.On(plant.StaleRead) {
		return false // planted
	}
	q := r.URL.Query()
	return q.Has("consistent") && q.Get("consistent") != "false"
}

// waitOf is the time a ?wait= request may take longer than others.
func waitOf(r *http.Request) time.Duration {
	if !r.URL.Query().Has("wait") {
		return 0
	}
	_, d, err := waitParams(r)
	if err != nil {
		return 0
	}
	return d
}

func waitParams(r *http.Request) (after uint64, d time.Duration, err error) {
	q := r.URL.Query()
	d = defaultWait
	if s := q.Get("timeout"); s != "" {
		if d, err = time.ParseDuration(s); err != nil || d <= 0 || d > maxWait {
			return 0, 0, api.Errorf(api.CodeInvalid, "give a duration such as 30s", "timeout %q is not between 0 and %s", s, maxWait)
		}
	}
	if s := q.Get("wait"); q.Has("wait") {
		if after, err = strconv.ParseUint(s, 10, 64); err != nil {
			return 0, 0, api.Errorf(api.CodeInvalid, "give the X-Holdfast-Index of an earlier answer", "wait %q is not an index", s)
		}
	}
	return after, d, nil
}

// mirrored runs a read on a mirror that is as new as the request asks for.
func mirrored[T any](b *Backend, r *http.Request, role any, read func(ctx context.Context) (T, error), known ...string) (reply, error) {
	if err := checkQuery(r, known...); err != nil {
		return reply{}, err
	}
	if b.Mirror == nil || role == nil {
		return reply{}, notMember()
	}
	mark, err := syncMirror(b.Mirror, r)
	if err != nil {
		return reply{}, err
	}
	v, err := read(r.Context())
	if err != nil {
		return reply{}, err
	}
	return reply{body: v, mark: &mark}, nil
}

func syncMirror(m Mirror, r *http.Request) (Mark, error) {
	after, d, err := waitParams(r)
	if err != nil {
		return Mark{}, err
	}
	consistent := wantsConsistent(r)
	if after == 0 {
		return m.Sync(r.Context(), consistent, 0)
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	mark, err := m.Sync(ctx, consistent, after)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && r.Context().Err() == nil {
		return m.Sync(r.Context(), consistent, 0)
	}
	return mark, err
}

// pathVar is a part of the path, with its percent signs undone.
func pathVar(r *http.Request, name string) (string, error) {
	s, err := url.PathUnescape(mux.Vars(r)[name])
	if err != nil {
		return "", api.Errorf(api.CodeInvalid, "", "path: %v", err)
	}
	return s, nil
}

// noNil makes an empty list out of none, since JSON tells them apart.
func noNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
