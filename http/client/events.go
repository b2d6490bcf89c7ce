package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
)

// EventFilter narrows events; empty fields match everything.
type EventFilter struct {
	Kinds    []string // each matches itself and everything below it: "fence" is also "fence.done"
	Host     string
	Severity string // the least one
}

func (f EventFilter) values() url.Values {
	q := url.Values{}
	for k, v := range map[string]string{"kind": strings.Join(f.Kinds, ","), "host": f.Host, "severity": f.Severity} {
		if v != "" {
			q.Set(k, v)
		}
	}
	return q
}

// EventQuery asks for a part of the history.
type EventQuery struct {
	// After is the id of the last event that was seen; empty asks for the newest.
	After  string
	Limit  int // 0 is the server's default
	Filter EventFilter
}

// EventList lists events, oldest first. Mark.Gap says that some may be missing before the first.
func (c *Client) EventList(ctx context.Context, e EventQuery, r Read) ([]api.Event, Mark, error) {
	q := r.values()
	for k, v := range e.Filter.values() {
		q[k] = v
	}
	if e.After != "" {
		q.Set("after", e.After)
	}
	if e.Limit > 0 {
		q.Set("limit", strconv.Itoa(e.Limit))
	}
	return get[[]api.Event](ctx, c, "/v1/events", q)
}

// Events lists up to limit events after an index, or the newest with 0; limit 0 is the server's default.
func (c *Client) Events(ctx context.Context, after uint64, limit int, r Read) ([]api.Event, Mark, error) {
	e := EventQuery{Limit: limit}
	if after > 0 {
		e.After = strconv.FormatUint(after, 10)
	}
	return c.EventList(ctx, e, r)
}

// openStream asks for the stream of events after an id; empty is from now on. The caller closes it.
func (c *Client) openStream(ctx context.Context, after string, f EventFilter) (io.ReadCloser, error) {
	req, err := c.request(ctx, call{method: http.MethodGet, path: "/v1/events/stream", query: f.values()})
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", api.StreamType)
	if after != "" {
		req.Header.Set(api.HeaderLastEvent, after)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	if mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); resp.StatusCode == http.StatusOK && mt == api.StreamType {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }() // the error says what is wrong
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	if err == nil && resp.StatusCode >= 400 {
		err = plain(readProblem(resp, b, nil))
	}
	if err == nil {
		err = api.Errorf(api.CodeInternal, "see whether the address is an agent's", "the answer is %s and no stream of events", resp.Status)
	}
	return nil, err
}

// parse reads the JSON of a message.
func parse[T any](m message) (v T, err error) {
	if err = json.Unmarshal(m.data, &v); err != nil {
		err = fmt.Errorf("reading a %q of the stream: %w", m.name, err)
	}
	return v, err
}
