package nemesis

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// apiPool answers over HTTP for hosts; the rest of it is a fakePool.
type apiPool struct {
	*fakePool
	clients map[string]*client.Client

	mu     sync.Mutex
	status map[string]api.Status
	member map[string]bool
	asked  []string // HOST METHOD PATH BODY
}

func newAPIPool(t *testing.T, n int) *apiPool {
	p := &apiPool{fakePool: newFakePool(n), clients: map[string]*client.Client{}, status: map[string]api.Status{}, member: map[string]bool{}}
	for _, h := range p.hosts {
		p.member[h] = true
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { p.answer(h, w, q) }))
		t.Cleanup(srv.Close)
		c, err := client.New(client.Config{Address: srv.URL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		p.clients[h] = c
	}
	return p
}

func (p *apiPool) Client(h string) *client.Client { return p.clients[h] }

func (p *apiPool) answer(h string, w http.ResponseWriter, q *http.Request) {
	var body json.RawMessage
	_ = json.NewDecoder(q.Body).Decode(&body) // a GET has none
	p.mu.Lock()
	defer p.mu.Unlock()
	var out any
	switch q.URL.Path {
	case "/healthz":
		out = api.Health{OK: true, Member: p.member[h]}
	case "/v1/status":
		st, ok := p.status[h]
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		out = st
	case "/v1/spm/move":
		out = api.SPM{}
	case "/v1/operator/raft/transfer":
		out = []api.RaftPeer{}
	case "/v1/operator/tokens":
		out = api.TokenCreated{Secret: "by " + h}
	case "/v1/leave":
		p.member[h] = false
		out = api.Member{Left: true}
	case "/v1/join":
		p.member[h] = true
		out = api.Member{Host: h}
	}
	if q.Method != http.MethodGet {
		p.asked = append(p.asked, h+" "+q.URL.Path+" "+string(body))
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		panic(err)
	}
}

func statusOf(spm string, epoch uint64, leader string, term uint64) api.Status {
	st := api.Status{SPM: api.SPM{Host: spm, Epoch: epoch}, Raft: api.Raft{Leader: leader, Term: term}}
	for _, h := range []string{"h1", "h2", "h3"} {
		st.Hosts = append(st.Hosts, api.Host{Name: h, Address: h + ":7420"})
	}
	return st
}

func short(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// The newest word counts, not the first; who does not answer is not alive.
func TestAdmin_look(t *testing.T) {
	t.Parallel()
	p := newAPIPool(t, 4)
	p.status["h1"], p.status["h2"], p.status["h3"] = statusOf("h1", 4, "h1", 9), statusOf("h3", 7, "h1", 2), statusOf("", 0, "h2", 11)
	v := viaClients{p}.look(short(t))
	if v.spm != "h3" || v.leader != "h2" || !slices.Equal(v.alive, []string{"h1", "h2", "h3"}) || v.address["h2"] != "h2:7420" {
		t.Errorf("%+v", v)
	}
}

func TestAdmin_rejoin(t *testing.T) {
	t.Parallel()
	p := newAPIPool(t, 3)
	p.status["h2"], p.status["h3"] = statusOf("h3", 7, "h2", 2), statusOf("h3", 7, "h2", 2)
	n, err := Select(Catalogue(), []string{"member.rejoin"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := n[0].Inject(short(t), p, devBounds, time.Second, p.hosts, newRunning(p.fakePool, 1).rand)
	if err != nil || p.member["h1"] {
		t.Fatalf("%v, member %v", err, p.member)
	}
	if err := r.Heal(short(t)); err != nil || !p.member["h1"] {
		t.Errorf("%v, member %v", err, p.member)
	}
	if err := n[0].Setup(short(t), p); err != nil {
		t.Error(err)
	}
	want := []string{"h1 /v1/leave", "h2 /v1/operator/tokens", `h1 /v1/join {"address":"h2:7420","token":"by h2"}`}
	p.mustAsk(t, want...)
}

// mustAsk compares what was asked, in order, with the beginnings of lines.
func (p *apiPool) mustAsk(t *testing.T, want ...string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	ok := len(p.asked) == len(want)
	for i := range min(len(p.asked), len(want)) {
		ok = ok && strings.HasPrefix(p.asked[i], want[i])
	}
	if !ok {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(p.asked, "\n"), strings.Join(want, "\n"))
	}
}

// Roles go to somebody who answers and does not have them.
func TestAdmin_rolesMove(t *testing.T) {
	t.Parallel()
	p := newAPIPool(t, 3)
	p.status["h1"], p.status["h3"] = statusOf("h3", 7, "h1", 2), statusOf("h3", 7, "h1", 2)
	for _, n := range roles()[:2] {
		r, err := n.Inject(short(t), p, devBounds, 0, p.hosts, newRunning(p.fakePool, 1).rand)
		if err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
		if targets, detail := r.told(); len(targets) != 1 || !strings.Contains(detail, " to ") {
			t.Errorf("%s: %v, %q", n.Name, targets, detail)
		}
	}
	if len(p.asked) != 2 || !strings.Contains(p.asked[0], `"to":"h1"`) || !strings.Contains(p.asked[1], `"to":"h3"`) {
		t.Errorf("asked %q", p.asked)
	}
	p.status = map[string]api.Status{"h3": statusOf("h3", 7, "h3", 2)}
	for _, n := range roles()[:2] {
		if _, err := n.Inject(short(t), p, devBounds, 0, p.hosts, newRunning(p.fakePool, 1).rand); err == nil {
			t.Errorf("%s with nobody to move to", n.Name)
		}
	}
}
