package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/apitest"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// streamed is an agent that serves streams, in a network in memory under virtual time.
type streamed struct {
	t    *testing.T
	fake *apitest.Fake
	http *http.Client
	stop func() // as the agent would; waits
}

// inStream runs a test with such an agent.
func inStream(t *testing.T, cfg httpapi.StreamConfig, test func(s *streamed)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network, f := testutil.NewPipeNet(), apitest.New()
		l := network.Listen("h1:80")
		h := httpapi.New(httpapi.Config{Host: "h1", Stream: cfg}, f.Backend()).For(httpapi.Local("test"))
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- httpapi.Serve(ctx, l, h, slog.New(slog.DiscardHandler)) }()
		tr := &http.Transport{DialContext: network.Dial}
		s := &streamed{t: t, fake: f, http: &http.Client{Transport: tr}, stop: func() {
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
			served <- nil
		}}
		defer l.Cut()
		defer tr.CloseIdleConnections()
		defer s.stop()
		test(s)
	})
}

// open opens a stream.
func (s *streamed) open(query string, header ...string) *reader {
	s.t.Helper()
	r := s.try(query, header...)
	if r.resp.StatusCode != http.StatusOK || r.resp.Header.Get("Content-Type") != api.StreamType {
		s.t.Fatalf("%s: %s", query, r.resp.Status)
	}
	return r
}

func (s *streamed) try(query string, header ...string) *reader {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://h1:80/v1/events/stream?"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	req.Host = "localhost"
	resp, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return &reader{t: s.t, resp: resp, lines: bufio.NewScanner(resp.Body), close: func() { cancel(); _ = resp.Body.Close() }}
}

// reader reads a stream line by line: what goes over the wire is what counts here.
type reader struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Scanner
	close func()
}

// block is the next message, its lines joined by blanks; empty at the end.
func (r *reader) block() string {
	var l []string
	for r.lines.Scan() {
		if r.lines.Text() == "" {
			break
		}
		l = append(l, r.lines.Text())
	}
	return strings.Join(l, " ")
}

// want reads the next message and compares its beginning.
func (r *reader) want(format string, args ...any) string {
	r.t.Helper()
	want, got := fmt.Sprintf(format, args...), r.block()
	if !strings.HasPrefix(got, want) {
		r.t.Fatalf("the stream says %q, not %q", got, want)
	}
	return got
}

// wantEvent reads an event.
func (r *reader) wantEvent(e api.Event) {
	r.t.Helper()
	var got api.Event
	line := r.want("id: %s data: ", e.ID)
	if err := json.Unmarshal([]byte(line[strings.Index(line, "data: ")+6:]), &got); err != nil || got != e {
		r.t.Errorf("%v: %+v, not %+v", err, got, e)
	}
}

func event(kind string) api.Event {
	return api.Event{Time: apitest.Now, Kind: kind, Severity: api.SeverityInfo, Host: "h2", Subject: "host", Message: kind + "\nhappened", Reason: "why", Evidence: "seen"}
}

func TestStream_whatHappensFromNowOn(t *testing.T) {
	inStream(t, httpapi.StreamConfig{}, func(s *streamed) {
		r := s.open("")
		defer r.close()
		r.want(`id: 6.0 event: heartbeat data: {"host":"h1","index":7,"age_ms":12}`)
		time.Sleep(time.Second)
		begun := time.Now()
		for _, e := range s.fake.Happen(event("a"), event("b.c")) {
			r.wantEvent(e)
		}
		if d := time.Since(begun); d > 100*time.Millisecond {
			t.Errorf("two events after %s", d)
		}
		begun = time.Now()
		r.want("event: heartbeat") // nothing new: no id
		if d := time.Since(begun); d < 4*time.Second || d > 6*time.Second {
			t.Errorf("a heartbeat after %s", d)
		}
		begun = time.Now()
		r.wantEvent(s.fake.Happen(event("d"))[0])
		if d := time.Since(begun); d > 100*time.Millisecond {
			t.Errorf("an event after %s", d)
		}
	})
}

// A client learns where it begins even when nothing has ever happened, or what happens before it connects again is lost.
func TestStream_emptyHistory(t *testing.T) {
	inStream(t, httpapi.StreamConfig{}, func(s *streamed) {
		s.fake.Forget(0)
		r := s.open("")
		defer r.close()
		r.want("id: 0.0 event: heartbeat")
		r.want("event: heartbeat")
	})
}

func TestStream_continues(t *testing.T) {
	inStream(t, httpapi.StreamConfig{}, func(s *streamed) {
		var all []api.Event
		for i := range 200 { // several pages
			all = append(all, s.fake.Happen(event(fmt.Sprint("k", i)), event("k"))...)
		}
		for name, c := range map[string]struct {
			query  string
			header []string
			first  int
		}{
			"all that is kept":             {"after=6.0", nil, 0},
			"after an event":               {"after=" + all[9].ID, nil, 10},
			"within an entry":              {"after=" + all[20].ID, nil, 21},
			"after an entry":               {fmt.Sprint("after=", all[20].Index), nil, 22},
			"the browser's word goes last": {"after=6.0", []string{api.HeaderLastEvent, all[300].ID}, 301},
		} {
			r := s.open(c.query, c.header...)
			r.want("id: ")
			for _, e := range all[c.first:] {
				r.wantEvent(e)
			}
			r.close()
			if t.Failed() {
				t.Fatal(name)
			}
		}
	})
}

func TestStream_filters(t *testing.T) {
	inStream(t, httpapi.StreamConfig{}, func(s *streamed) {
		loud := event("fence.done")
		loud.Severity = api.SeverityWarning
		r := s.open("kind=fence,spm&severity=warning&host=h2")
		defer r.close()
		r.want("id: 6.0 event: heartbeat")
		foreign := loud
		foreign.Host = "h3"
		s.fake.Happen(event("fence.begin"), event("fences"), foreign)
		wanted := s.fake.Happen(loud)[0]
		r.wantEvent(wanted)
		unwanted := s.fake.Happen(event("fence"))[0]
		r.want("id: %s event: heartbeat", unwanted.ID) // so that a client that comes back later does not ask for it again
		r.want("event: heartbeat")
	})
}

func TestStream_gap(t *testing.T) {
	inStream(t, httpapi.StreamConfig{}, func(s *streamed) {
		for range 50 {
			s.fake.Happen(event("old"))
		}
		s.fake.Forget(2)
		kept := s.fake.Happen(event("new"))[0]
		r := s.open("after=7.0")
		defer r.close()
		r.want("id: 7.0 event: heartbeat")
		r.want(`event: gap data: {"after":"7.0","oldest":"%d.0"}`, kept.Index-2)
		r.want("id: %d.0", kept.Index-2)
		r.want("id: %d.0", kept.Index-1)
		r.wantEvent(kept)
		again := s.open("after=" + kept.ID)
		defer again.close()
		again.want("id: %s event: heartbeat", kept.ID)
		again.want("event: heartbeat") // no gap for who has seen the oldest
	})
}

func TestStream_clientThatDoesNotRead(t *testing.T) {
	inStream(t, httpapi.StreamConfig{Max: 1, Write: 10 * time.Second}, func(s *streamed) {
		r := s.open("")
		for range 400 {
			s.fake.Happen(event(strings.Repeat("x", 200)))
		}
		full := s.try("")
		if full.resp.StatusCode != http.StatusServiceUnavailable || full.resp.Header.Get("Retry-After") == "" {
			t.Errorf("one stream too many: %s", full.resp.Status)
		}
		full.close()
		time.Sleep(time.Minute)
		synctest.Wait()
		next := s.open("after=6.0") // its place is free: the agent did not wait for the client
		next.want("id: 6.0")
		next.want("id: 8.0")
		next.close()
		r.close()
	})
}

func TestStream_endsWithTheAgent(t *testing.T) {
	inStream(t, httpapi.StreamConfig{}, func(s *streamed) {
		r := s.open("")
		r.want("id: 6.0 event: heartbeat")
		begun := time.Now()
		go s.stop()
		r.want(`event: end data: {"reason":"the agent stops"}`)
		if got := r.block(); got != "" {
			t.Errorf("after the end: %q", got)
		}
		r.close()
		s.stop()
		if d := time.Since(begun); d > 100*time.Millisecond {
			t.Errorf("the agent stopped after %s", d)
		}
	})
}

func TestStream_endsAfterItsLife(t *testing.T) {
	inStream(t, httpapi.StreamConfig{Life: time.Minute, Heartbeat: time.Hour}, func(s *streamed) {
		r := s.open("")
		defer r.close()
		r.want("id: 6.0")
		begun := time.Now()
		r.want(`event: end data: {"reason":"the stream has lived for 1m0s"}`)
		if d := time.Since(begun); d < 59*time.Second || d > 61*time.Second {
			t.Errorf("after %s", d)
		}
	})
}

func TestStream_endsWhenTheHistoryCannotBeRead(t *testing.T) {
	inStream(t, httpapi.StreamConfig{}, func(s *streamed) {
		r := s.open("")
		defer r.close()
		r.want("id: 6.0")
		s.fake.Fail(api.Errorf(api.CodeNotMember, "", "left the cluster"))
		s.fake.Advance()
		r.want(`event: end data: {"reason":"left the cluster","code":"not_member"}`)
	})
}

// A mirror that changes all the time, as one does while volumes are made, does not make streams look all the time.
func TestStream_busyMirror(t *testing.T) {
	inStream(t, httpapi.StreamConfig{Heartbeat: time.Second}, func(s *streamed) {
		r := s.open("")
		defer r.close()
		r.want("id: 6.0")
		begun, over := time.Now(), make(chan struct{})
		go func() {
			defer close(over)
			for range 3000 {
				s.fake.Advance()
				time.Sleep(time.Millisecond)
			}
		}()
		for range 2 {
			r.want("event: heartbeat") // and they are not forgotten over it
		}
		if d := time.Since(begun); d > 2500*time.Millisecond {
			t.Errorf("two heartbeats of one a second after %s", d)
		}
		<-over
		if n := s.fake.Looks(); n > 100 {
			t.Errorf("looked %d times in 3 s", n)
		}
	})
}

func TestStream_refusals(t *testing.T) {
	t.Parallel()
	for _, q := range []string{"after=x", "after=-1", "after=1.", "after=1.2.3", "after=18446744073709551616", "after=1.4294967296", "severity=loud", "kind=,", "wait=3",
		"limit=4", "consistent", "what=1", "after=1&after=2", "kind=" + strings.Repeat("a,", 40) + "a"} {
		j, _ := local(t)
		wantCode(t, j.send(t, request(t, http.MethodGet, "/v1/events/stream?"+q, nil)), api.CodeInvalid)
		if u, _ := url.ParseQuery(q); u.Has("limit") || u.Has("wait") || u.Has("consistent") {
			continue
		}
		wantCode(t, j.send(t, request(t, http.MethodGet, "/v1/events?"+q, nil)), api.CodeInvalid)
	}
	j, _ := local(t)
	r := request(t, http.MethodGet, "/v1/events/stream", nil)
	r.Header.Set(api.HeaderLastEvent, "x")
	wantCode(t, j.send(t, r), api.CodeInvalid)
}

func TestEvents_list(t *testing.T) {
	t.Parallel()
	j, f := local(t)
	for i := range 9 {
		e := event(fmt.Sprint("k.", i))
		e.Severity = []string{api.SeverityInfo, api.SeverityWarning, api.SeverityError}[i%3]
		f.Happen(e)
	}
	list := func(query string) (ids []string, gap string) {
		resp := j.send(t, request(t, http.MethodGet, "/v1/events?"+query, nil))
		for _, e := range want[[]api.Event](t, resp, http.StatusOK) {
			ids = append(ids, e.ID)
		}
		return ids, resp.Header.Get(api.HeaderGap)
	}
	for query, ids := range map[string]string{
		"":                             "[6.0 8.0 9.0 10.0 11.0 12.0 13.0 14.0 15.0 16.0]",
		"limit=2":                      "[15.0 16.0]",
		"after=0&limit=2":              "[15.0 16.0]",
		"after=0.0&limit=2":            "[6.0 8.0]",
		"after=9&limit=2":              "[10.0 11.0]",
		"after=9.0&severity=error":     "[10.0 13.0 16.0]",
		"severity=warning&limit=3":     "[13.0 15.0 16.0]",
		"kind=k.1,spm":                 "[6.0 9.0]",
		"kind=k&host=h2&limit=1":       "[16.0]",
		"host=h1":                      "[6.0]",
		"after=99.4":                   "[]",
		"after=18446744073709551615.1": "[]",
	} {
		if got, gap := list(query); fmt.Sprint(got) != ids || gap != "" {
			t.Errorf("%q: %v, not %s; gap %q", query, got, ids, gap)
		}
	}
	f.Forget(3)
	for query, gap := range map[string]string{"after=9.0": "14.0", "after=14.0": "", "": "", "after=13.9": "14.0"} {
		if _, got := list(query); got != gap {
			t.Errorf("%q: gap %q, not %q", query, got, gap)
		}
	}
}
