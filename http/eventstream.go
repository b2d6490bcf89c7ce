package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
)

// StreamConfig bounds streams of events. Zero values take the defaults.
type StreamConfig struct {
	// Heartbeat is the longest silence of a stream. Default 5 s. Clients take three times as long for a dead connection.
	Heartbeat time.Duration
	// Write bounds each write to a client. One that does not read loses its connection, and may continue where it was.
	// Default 10 s.
	Write time.Duration
	// Life is after how long a client has to connect again, which looks at its certificate or token anew. Default 30 min.
	Life time.Duration
	// Pause is the least time between two looks at a mirror that changes all the time. Default 50 ms.
	Pause time.Duration
	// Max is how many streams one agent serves. Default 128.
	Max int64
}

func (c StreamConfig) withDefaults() StreamConfig {
	c.Heartbeat = cmp.Or(c.Heartbeat, 5*time.Second)
	c.Write = cmp.Or(c.Write, 10*time.Second)
	c.Life = cmp.Or(c.Life, 30*time.Minute)
	c.Pause = cmp.Or(c.Pause, 50*time.Millisecond)
	c.Max = cmp.Or(c.Max, 128)
	return c
}

// pageEvents is how many events are in memory for one client at a time; the next ones are fetched when these are written.
const pageEvents = 64

// streamEvents serves events as they happen, as text/event-stream. It works on every host, from that host's mirror. There is
// no queue per client: each reads the mirror's history by itself, from where it is.
func streamEvents(h *Handler, w http.ResponseWriter, r *http.Request) {
	s, err := h.newStream(w, r)
	if err != nil {
		writeProblem(w, problemOf(err, r.Method))
		return
	}
	defer h.streams.Add(-1)
	s.begin()
	err = s.run(r.Context())
	h.cfg.Log.Debug("stream of events ended", "reason", err, "seen", s.seen, "request_id", requestIDOf(r.Context()))
}

// Streams is how many streams are open.
func (h *Handler) Streams() int64 { return h.streams.Load() }

// eventStream is one client's stream. Only its handler's goroutine touches it.
type eventStream struct {
	cfg    StreamConfig
	host   string
	b      *Backend
	w      http.ResponseWriter
	rc     *http.ResponseController
	filter EventFilter

	seen api.EventID // the client has everything up to here
	told api.EventID // the client knows that it has; at first no event's id, so that it learns where it begins
	last time.Time   // of the last write
	buf  bytes.Buffer
}

// newStream checks the request and takes a place among the streams, which the caller gives back when err is nil.
func (h *Handler) newStream(w http.ResponseWriter, r *http.Request) (*eventStream, error) {
	b := h.backend.Load()
	if err := exactly(r, "after", "kind", "host", "severity"); err != nil {
		return nil, err
	}
	f, err := eventFilter(r)
	if err != nil {
		return nil, err
	}
	if b.Mirror == nil || b.Events == nil {
		return nil, notMember()
	}
	s := &eventStream{cfg: h.cfg.Stream, host: h.cfg.Host, b: b, w: w, rc: http.NewResponseController(w), filter: f,
		told: api.EventID{Index: math.MaxUint64}}
	if err := s.position(r); err != nil {
		return nil, err
	}
	if h.streams.Add(1) > h.cfg.Stream.Max {
		h.streams.Add(-1)
		e := api.Errorf(api.CodeUnavailable, "ask another host, or end streams that nobody reads", "this host serves %d streams already", h.cfg.Stream.Max)
		e.RetryAfter = h.cfg.Stream.Heartbeat
		return nil, e
	}
	return s, nil
}

// exactly refuses query parameters other than the known ones.
func exactly(r *http.Request, known ...string) error {
	for _, p := range readParams {
		if r.URL.Query().Has(p) && !slices.Contains(known, p) {
			return invalid("leave it out: a stream always waits, and comes from the host that is asked", "query parameter %q means nothing here", p)
		}
	}
	return checkQuery(r, known...)
}

// position finds where the stream begins: after Last-Event-ID, which a client that was cut off sends by itself, or ?after=, or
// with what happens from now on.
func (s *eventStream) position(r *http.Request) (err error) {
	switch last, after := r.Header.Get(api.HeaderLastEvent), r.URL.Query().Get("after"); {
	case last != "":
		s.seen, err = eventID(api.HeaderLastEvent, last)
	case after != "":
		s.seen, err = eventID("after", after)
	default:
		if _, err := s.b.Mirror.Sync(r.Context(), false, 0); err != nil {
			return err
		}
		page, err := s.b.Events.Events(r.Context(), EventQuery{Newest: true, Limit: 1})
		s.seen = page.Seen
		return err
	}
	return err
}

// begin sends the header.
func (s *eventStream) begin() {
	h := s.w.Header()
	h.Set("Content-Type", api.StreamType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy that collects answers would hold events back
	h.Set("Connection", "close")     // its deadlines are not for another request
	s.w.WriteHeader(http.StatusOK)
}

// run writes until the client, the agent or the stream's life ends it. The error says which.
func (s *eventStream) run(ctx context.Context) error {
	ctx, stop := untilClosing(ctx)
	defer stop()
	mark, err := s.b.Mirror.Sync(ctx, false, 0)
	if err == nil {
		err = s.pulse(mark)
	}
	for err == nil {
		if err = s.catchUp(ctx); err == nil {
			mark, err = s.await(ctx, mark)
		}
	}
	return s.end(ctx, err)
}

// untilClosing makes a context that also ends when the agent stops. stop waits for what it started.
func untilClosing(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	closing, over := closingOf(parent), make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-closing: // nil never is
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); <-over }
}

// errStopping says that the agent stops.
var errStopping = errors.New("the agent stops")

// catchUp writes what the mirror has and the client has not.
func (s *eventStream) catchUp(ctx context.Context) error {
	for ctx.Err() == nil {
		page, err := s.b.Events.Events(ctx, EventQuery{After: s.seen, Limit: pageEvents, Filter: s.filter})
		if err != nil {
			return err
		}
		if err := s.writePage(page); err != nil {
			return err
		}
		if len(page.Events) < pageEvents {
			return nil
		}
	}
	return context.Cause(ctx)
}

func (s *eventStream) writePage(page EventPage) error {
	if page.Gap {
		s.put(api.StreamGap, "", api.EventGap{After: s.seen.String(), Oldest: page.Oldest.String()})
	}
	for _, e := range page.Events {
		s.put("", e.ID, e)
		s.told = e.Place()
	}
	s.seen = page.Seen
	return s.flush()
}

// await waits until the mirror is newer than mark, and lets the client hear that the stream lives meanwhile.
func (s *eventStream) await(ctx context.Context, mark Mark) (Mark, error) {
	if time.Since(s.last) >= s.cfg.Heartbeat { // a mirror that changes all the time never makes the wait below time out
		if err := s.pulse(mark); err != nil {
			return mark, err
		}
	}
	if err := wait(ctx, s.cfg.Pause); err != nil {
		return mark, err
	}
	for {
		left := s.cfg.Heartbeat - time.Since(s.last)
		next, err := s.newer(ctx, mark, left)
		switch {
		case err == nil && next.Index > mark.Index:
			return next, nil
		case ctx.Err() != nil:
			return mark, context.Cause(ctx)
		case err != nil:
			return mark, err
		}
		if err := s.pulse(next); err != nil {
			return mark, err
		}
	}
}

// newer waits for a mirror newer than mark for so long at most; then it answers with the mark as it is.
func (s *eventStream) newer(ctx context.Context, mark Mark, d time.Duration) (Mark, error) {
	if d > 0 {
		wctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		next, err := s.b.Mirror.Sync(wctx, false, mark.Index)
		if err == nil || wctx.Err() == nil {
			return next, err
		}
	}
	return s.b.Mirror.Sync(ctx, false, 0)
}

// pulse tells how new the stream is, and how far the client has come when events that it does not want went by.
func (s *eventStream) pulse(mark Mark) error {
	id := ""
	if s.seen != s.told {
		id, s.told = s.seen.String(), s.seen
	}
	s.put(api.StreamHeartbeat, id, api.EventPulse{Host: s.host, Index: mark.Index, AgeMS: mark.Age.Milliseconds()})
	return s.flush()
}

// end says why the stream ends, unless it is the client who went.
func (s *eventStream) end(ctx context.Context, err error) error {
	if errors.Is(err, errClient) {
		return err
	}
	e := api.EventEnd{Reason: "the stream has lived for " + s.cfg.Life.String()}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errStopping):
		e.Reason = errStopping.Error()
	case errors.Is(cause, context.DeadlineExceeded):
	case cause != nil:
		return cause // the client went
	default:
		p := problemOf(err, http.MethodGet)
		e = api.EventEnd{Reason: p.Message, Code: p.Code}
	}
	s.put(api.StreamEnd, "", e)
	return errors.Join(err, s.flush())
}

// put adds one message to what is written next. An empty id leaves the client's as it is.
func (s *eventStream) put(name, id string, v any) {
	data, err := json.Marshal(v) // strings, numbers and times: no error, and no line breaks
	if err != nil {
		return
	}
	if id != "" {
		fmt.Fprintf(&s.buf, "id: %s\n", id)
	}
	if name != "" {
		fmt.Fprintf(&s.buf, "event: %s\n", name)
	}
	fmt.Fprintf(&s.buf, "data: %s\n\n", data)
}

// errClient says that writing to the client failed.
var errClient = errors.New("the client does not read")

// flush writes what was put, within the time that a write may take.
func (s *eventStream) flush() error {
	if s.buf.Len() == 0 {
		return nil
	}
	defer s.buf.Reset()
	s.last = time.Now()
	if err := s.rc.SetWriteDeadline(s.last.Add(s.cfg.Write)); err != nil {
		return fmt.Errorf("%w: bounding a write: %w", errClient, err)
	}
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return fmt.Errorf("%w: %w", errClient, err)
	}
	if err := s.rc.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errClient, err)
	}
	return nil
}

// wait waits for a while, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
