package safe

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a pool of two hosts that are asked under one address.
type fake struct {
	url string
	srv *httptest.Server

	mu      sync.Mutex
	status  api.Status
	volumes map[string]string // id to name
	asked   map[string]int
	broken  bool // no volume can be made
	stopped bool

	// If set, a volume is made when it closes, whoever waits for it. The first request for one says so in began; a second one with
	// its key waits for its end, as with the real server.
	slow  chan struct{}
	began chan struct{}
	under map[string]chan struct{} // by key, closed when the volume is made
}

func newFake(t *testing.T) *fake {
	f := &fake{volumes: map[string]string{}, asked: map[string]int{}, status: api.Status{
		Host: "h1", Member: true, Pool: api.Pool{Name: "p", Profile: "dev", TestPool: true}, SPM: api.SPM{Host: "h1", State: api.SPMServing},
		Raft: api.Raft{Leader: "h2", Quorum: true}, Hosts: []api.Host{{Name: "h1", State: api.HostUp, Alive: true}, {Name: "h2", State: api.HostUp, Alive: true}},
	}}
	f.srv = httptest.NewServer(http.HandlerFunc(f.answer))
	t.Cleanup(f.srv.Close)
	f.url = f.srv.URL
	return f
}

func (f *fake) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Address: f.url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (f *fake) answer(w http.ResponseWriter, q *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[q.Method+" "+q.URL.Path]++
	var out any
	switch id := strings.TrimPrefix(q.URL.Path, "/v1/volumes/"); {
	case q.URL.Path == "/v1/status":
		out = f.status
	case q.Method == http.MethodDelete:
		delete(f.volumes, id)
		out = api.VolumeDeleted{}
	case q.URL.Path == "/v1/volumes" && q.Method == http.MethodPost:
		if f.broken || f.stopped {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var v api.VolumeCreate
		if json.NewDecoder(q.Body).Decode(&v) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		id = "v-" + v.Name // the name is the key
		f.create(id, v.Name)
		w.WriteHeader(http.StatusCreated)
		out = api.VolumeCreated{Volume: api.Volume{ID: id, Name: v.Name}}
	case q.URL.Path == "/v1/volumes":
		l := []api.Volume{}
		for id, name := range f.volumes {
			l = append(l, api.Volume{ID: id, Name: name})
		}
		out = l
	case q.URL.Path == "/v1/spm/move":
		f.status.SPM.Host = map[string]string{"h1": "h2", "h2": "h1"}[f.status.SPM.Host]
		out = f.status.SPM
	default:
		out = []api.RaftPeer{}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the other side may have given up
}

// create is called, and returns, with the lock held.
func (f *fake) create(id, name string) {
	if f.slow == nil {
		f.volumes[id] = name
		return
	}
	if made := f.under[id]; made != nil {
		f.mu.Unlock()
		<-made
		f.mu.Lock()
		return
	}
	made := make(chan struct{})
	f.under = map[string]chan struct{}{id: made}
	f.mu.Unlock()
	close(f.began)
	<-f.slow
	f.mu.Lock()
	f.volumes[id] = name
	close(made)
}

// Agent: while it is stopped, no volume can be made.
func (f *fake) Kill(context.Context) error { f.called("kill"); return nil }
func (f *fake) Stop() error                { f.called("stop"); f.stop(true); return nil }
func (f *fake) Continue() error            { f.stop(false); return nil }

func (f *fake) stop(s bool) { f.mu.Lock(); f.stopped = s; f.mu.Unlock() }
func (f *fake) called(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[what]++
}

func (f *fake) run(t *testing.T, names ...string) *Run {
	kinds, err := Choose(names, true)
	if err != nil {
		t.Fatal(err)
	}
	return &Run{Clients: []*client.Client{f.client(t)}, Agent: f, Kinds: kinds, Time: 8 * time.Second, Seed: 1, Say: t.Logf}
}

func TestRun_measuresEveryKind(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.volumes["mine"] = "of-somebody-else"
	rep, err := f.run(t).Do(t.Context())
	if err != nil || len(rep.Bounds) != 4 || rep.Created == 0 || rep.Read == 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	for _, b := range rep.Bounds {
		if b.Faults == 0 || b.Failed > 0 || b.Creates.Max < b.Creates.P50 {
			t.Errorf("%+v", b)
		}
		if b.Kind == "agent.stop" && (b.Creates.Max < 100 || b.Reads.Max > b.Creates.Max) {
			t.Errorf("volumes could not be made, and reads went on: %+v", b)
		}
	}
	if len(f.volumes) != 1 || f.volumes["mine"] == "" {
		t.Errorf("left behind: %v", f.volumes)
	}
	for _, want := range []string{"kill", "stop", "POST /v1/spm/move", "POST /v1/operator/raft/transfer"} {
		if f.asked[want] == 0 {
			t.Errorf("%s was not done", want)
		}
	}
}

// A volume that is being made when the run ends is listed only later, and is deleted all the same.
func TestPool_sweepsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.slow, f.began = make(chan struct{}), make(chan struct{})
	p := &pool{clients: []*client.Client{f.client(t)}, prefix: "nemesis-"}
	ended, end := context.WithCancel(t.Context())
	go func() {
		<-f.began
		end()
	}()
	if id, err := p.create(ended, 1); err == nil {
		t.Fatalf("made %s", id)
	}
	time.AfterFunc(50*time.Millisecond, func() { close(f.slow) }) // the sweep has begun
	err := p.sweep(t.Context())
	f.srv.Close() // waits for what is under way
	if err != nil || len(f.volumes) != 0 {
		t.Errorf("left behind: %v, %v", f.volumes, err)
	}
}

// What cannot be settled is said, and does not keep the rest from being deleted.
func TestPool_sweepsWithoutSettling(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.broken = true
	f.volumes["v"] = "nemesis-1"
	p := &pool{clients: []*client.Client{f.client(t)}, prefix: "nemesis-", unsure: []int{2, 3}}
	if err := p.sweep(t.Context()); err == nil || len(f.volumes) != 0 {
		t.Errorf("%v, left behind: %v", err, f.volumes)
	}
}

// The run hurts nobody who has not asked for it, nor somebody who is ill.
func TestRun_refuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *api.Status){
		"not a test pool": func(s *api.Status) { s.Pool.TestPool = false },
		"no member":       func(s *api.Status) { s.Member = false },
		"no SPM":          func(s *api.Status) { s.SPM.State = api.SPMNone },
		"no quorum":       func(s *api.Status) { s.Raft.Quorum = false },
		"a host is down":  func(s *api.Status) { s.Hosts[1].State = api.HostDown },
		"a silent host":   func(s *api.Status) { s.Hosts[0].Alive = false },
		"one host":        func(s *api.Status) { s.Hosts = s.Hosts[:1] },
	} {
		f := newFake(t)
		change(&f.status)
		if _, err := f.run(t).Do(t.Context()); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		if len(f.asked) != 1 {
			t.Errorf("%s: asked %v", name, f.asked)
		}
	}
}

// A run that is broken off lets the agent go on and cleans up.
func TestRun_brokenOff(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := f.run(t, "agent.stop")
	r.Say = func(format string, args ...any) { cancel() } // the first fault begins
	begun := time.Now()
	if _, err := r.Do(ctx); err != nil || time.Since(begun) > 20*time.Second {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped || len(f.volumes) > 0 {
		t.Errorf("stopped %v, volumes %v", f.stopped, f.volumes)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	if l, err := Choose(nil, false); err != nil || !slices.Equal(namesOf(l), []string{"spm.move", "raft.transfer"}) {
		t.Errorf("%v, %v", namesOf(l), err)
	}
	if _, err := Choose([]string{"agent.kill"}, false); err == nil || !strings.Contains(err.Error(), "socket") {
		t.Errorf("without an agent: %v", err)
	}
	for _, d := range []time.Duration{0, 500 * time.Millisecond, MaxTime + 1} {
		if CheckTime(d) == nil {
			t.Errorf("%s was accepted", d)
		}
	}
}

func TestProbe_gap(t *testing.T) {
	t.Parallel()
	t0 := time.Unix(1000, 0)
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	p := &probe{}
	for _, s := range []float64{1, 2, 2.5, 6, 6.5, 9} {
		p.done = append(p.done, at(s))
	}
	for _, tt := range []struct {
		from, to, want float64
	}{
		{3, 7, 3.5},     // from the last before to the first within
		{2.2, 2.4, 0.5}, // the one around it
		{6.1, 6.4, 0.5}, // the next is after it
		{9.5, 11, 2},    // nothing since
		{0, 0.5, 1},     // nothing before
	} {
		if got := p.gap(at(tt.from), at(tt.to)); got != time.Duration(tt.want*float64(time.Second)) {
			t.Errorf("between %v and %v: %s, want %v", tt.from, tt.to, got, tt.want)
		}
	}
}

func TestSpreadOf(t *testing.T) {
	t.Parallel()
	var d []time.Duration
	for i := range 200 {
		d = append(d, time.Duration(200-i)*time.Millisecond)
	}
	if got := spreadOf(d); got != (Spread{P50: 100, P99: 198, Max: 200}) {
		t.Errorf("%+v", got)
	}
	if got := spreadOf(d[:1]); got != (Spread{P50: 200, P99: 200, Max: 200}) || spreadOf(nil) != (Spread{}) {
		t.Errorf("%+v", got)
	}
}
