package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/apitest"
)

// pool is a few hosts whose handlers reach each other without a network.
type pool struct {
	mu       sync.Mutex
	spm      httpapi.Target // as the cluster knows it; Self is filled in for each host
	leader   string
	changed  chan struct{}
	handlers map[string]http.Handler
	fakes    map[string]*apitest.Fake
	serving  map[string]bool // hosts that really serve as SPM
	breaks   map[string]func(http.Handler, *http.Request) (*http.Response, error)
	seen     []string
}

func newPool(names ...string) *pool {
	p := &pool{
		changed: make(chan struct{}), handlers: map[string]http.Handler{}, fakes: map[string]*apitest.Fake{},
		serving: map[string]bool{}, breaks: map[string]func(http.Handler, *http.Request) (*http.Response, error){},
	}
	for _, n := range names {
		f := apitest.New()
		b := f.Backend()
		b.Forwarder = view{p, n}
		h := httpapi.New(httpapi.Config{Host: n}, b)
		p.fakes[n], p.handlers[n] = f, h.For(httpapi.Peers())
		p.handlers["api:"+n] = h.For(httpapi.Local("test"))
	}
	return p
}

// set changes who is SPM; a host that the cluster names serves.
func (p *pool) set(host string, epoch uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spm = httpapi.Target{Host: host, Epoch: epoch}
	p.serving = map[string]bool{host: true}
	close(p.changed)
	p.changed = make(chan struct{})
}

// view is what one host knows.
type view struct {
	p    *pool
	host string
}

func (v view) SPM() httpapi.Target {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	t := v.p.spm
	t.Self = t.Host == v.host && v.p.serving[v.host]
	if t.Host == v.host && !t.Self {
		t = httpapi.Target{}
	}
	return t
}

func (v view) Leader() httpapi.Target {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	return httpapi.Target{Host: v.p.leader, Self: v.p.leader == v.host}
}

func (v view) Changed() <-chan struct{} {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	return v.p.changed
}

func (v view) RoundTripper(host string) http.RoundTripper {
	return tripper(func(r *http.Request) (*http.Response, error) {
		v.p.mu.Lock()
		h, broken := v.p.handlers[host], v.p.breaks[host]
		v.p.seen = append(v.p.seen, host)
		v.p.mu.Unlock()
		if broken != nil {
			return broken(h, r)
		}
		return deliver(h, r)
	})
}

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func deliver(h http.Handler, r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	r.RequestURI = r.URL.RequestURI()
	h.ServeHTTP(rec, r)
	return rec.Result(), nil
}

var (
	errDial  = &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	errReset = &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
)

func unreachable(http.Handler, *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("reaching the host: %w", errDial)
}

// loseAnswer lets the host do the work and loses the answer.
func loseAnswer(h http.Handler, r *http.Request) (*http.Response, error) {
	if _, err := deliver(h, r); err != nil {
		return nil, err
	}
	return nil, errReset
}

// sentThenDialled is what package http does with a request that it may send again: the first time the host does the work and ends, and
// then it cannot be dialled.
func sentThenDialled(h http.Handler, r *http.Request) (*http.Response, error) {
	if _, err := deliver(h, r); err != nil {
		return nil, err
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		trace.WroteHeaders()
	}
	return nil, errDial
}

// once breaks only the first request.
func (p *pool) once(host string, f func(http.Handler, *http.Request) (*http.Response, error)) {
	p.breaks[host] = func(h http.Handler, r *http.Request) (*http.Response, error) {
		p.mu.Lock()
		delete(p.breaks, host)
		p.mu.Unlock()
		return f(h, r)
	}
}

func (p *pool) judge(t *testing.T, host string) *judge { return newJudge(t, p.handlers["api:"+host]) }

func (p *pool) creates() int {
	n := 0
	for _, f := range p.fakes {
		n += f.Creates()
	}
	return n
}

func create(t *testing.T) *http.Request {
	return request(t, "POST", "/v1/volumes", api.VolumeCreate{Name: "v", Size: 1 << 30})
}

func TestForward_toTheSPM(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	resp := p.judge(t, "h1").send(t, create(t))
	want[api.VolumeCreated](t, resp, 201)
	if got := resp.Header.Get(api.HeaderHost); got != "h2" || p.fakes["h2"].Creates() != 1 || p.fakes["h1"].Creates() != 0 {
		t.Errorf("done by %s", got)
	}
}

func TestForward_hereWhenThisHostServes(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h1", 3)
	want[api.VolumeCreated](t, p.judge(t, "h1").send(t, create(t)), 201)
	if len(p.seen) != 0 {
		t.Errorf("asked %v", p.seen)
	}
}

func TestForward_consistentReadsGoToTheLeader(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2", "h3")
	p.leader = "h3"
	j := p.judge(t, "h1")
	if got := j.send(t, request(t, "GET", "/v1/volumes?consistent", nil)).Header.Get(api.HeaderHost); got != "h3" {
		t.Errorf("answered by %s", got)
	}
	if got := j.send(t, request(t, "GET", "/v1/volumes", nil)).Header.Get(api.HeaderHost); got != "h1" {
		t.Errorf("answered by %s", got)
	}
}

func TestForward_waitsForTheRole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool("h1", "h2")
		go func() {
			time.Sleep(7 * time.Second)
			p.set("h2", 4)
		}()
		start := time.Now()
		want[api.VolumeCreated](t, p.judge(t, "h1").send(t, create(t)), 201)
		if time.Since(start) != 7*time.Second {
			t.Errorf("took %s", time.Since(start))
		}
	})
}

func TestForward_givesUpWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool("h1", "h2")
		start := time.Now()
		e := wantCode(t, p.judge(t, "h1").send(t, create(t)), api.CodeNoSPM)
		if time.Since(start) != 25*time.Second || e.NextStep == "" || e.RetryAfter == 0 {
			t.Errorf("after %s: %+v", time.Since(start), e)
		}
	})
}

// The role moves while the request is on its way to the old holder.
func TestForward_retriesOnceOnTheNewSPM(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool("h1", "h2", "h3")
		p.set("h2", 3)
		p.fakes["h2"].Fail(&api.Error{Code: api.CodeNotSPM, Message: "the role is being handed over", Holder: "h3"})
		go func() {
			time.Sleep(40 * time.Millisecond)
			p.set("h3", 4)
		}()
		resp := p.judge(t, "h1").send(t, create(t))
		want[api.VolumeCreated](t, resp, 201)
		if resp.Header.Get(api.HeaderHost) != "h3" || strings.Join(p.seen, " ") != "h2 h3" {
			t.Errorf("asked %v", p.seen)
		}
	})
}

// A holder that refuses for good is not asked for ever.
func TestForward_refusedForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool("h1", "h2")
		p.set("h2", 3)
		p.fakes["h2"].Fail(&api.Error{Code: api.CodeNotSPM, Message: "not me"})
		begun := time.Now()
		wantCode(t, p.judge(t, "h1").send(t, create(t)), api.CodeNotSPM)
		if len(p.seen) != 10 || time.Since(begun) != 9*time.Second {
			t.Errorf("asked %v in %v", p.seen, time.Since(begun))
		}
	})
}

// A role that takes seconds to be handed over, and has gone on when the request gets there, fails no call.
func TestForward_slowHandover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool("h1", "h2", "h3")
		p.set("h2", 3)
		leaves := &api.Error{Code: api.CodeNotSPM, Message: "the role is being given up"}
		p.fakes["h2"].Fail(leaves)
		p.fakes["h3"].Fail(leaves)
		go func() {
			time.Sleep(3500 * time.Millisecond)
			p.set("h3", 4)
			time.Sleep(2500 * time.Millisecond)
			p.set("h1", 5)
		}()
		resp := p.judge(t, "h1").send(t, create(t))
		want[api.VolumeCreated](t, resp, 201)
		if by := resp.Header.Get(api.HeaderHost); by != "h1" {
			t.Errorf("made by %s; asked %v", by, p.seen)
		}
	})
}

// A killed host refuses connections; the request waits for the next SPM instead of failing.
func TestForward_deadHostIsDialledUntilTheRoleMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool("h1", "h2", "h3")
		p.set("h2", 3)
		p.breaks["h2"] = unreachable
		go func() {
			time.Sleep(4 * time.Second)
			p.set("h3", 4)
		}()
		want[api.VolumeCreated](t, p.judge(t, "h1").send(t, create(t)), 201)
		if p.creates() != 1 {
			t.Errorf("%d volumes", p.creates())
		}
	})
}

func TestForward_deadHostForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool("h1", "h2")
		p.set("h2", 3)
		p.breaks["h2"] = unreachable
		e := wantCode(t, p.judge(t, "h1").send(t, create(t)), api.CodeNoSPM)
		if e.Holder != "h2" || e.Epoch != 3 {
			t.Errorf("got %+v", e)
		}
	})
}

func TestForward_lostAnswerGivesTheSameVolume(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	p.once("h2", loseAnswer)
	want[api.VolumeCreated](t, p.judge(t, "h1").send(t, create(t)), 201)
	if p.creates() != 1 || len(p.seen) != 2 {
		t.Errorf("%d volumes, asked %v", p.creates(), p.seen)
	}
}

func TestForward_lostTwiceIsUnknown(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	p.breaks["h2"] = loseAnswer
	wantCode(t, p.judge(t, "h1").send(t, create(t)), api.CodeOutcomeUnknown)
}

// A dial that fails after the request was sent once is no proof that nothing happened.
func TestForward_sentThenDialledIsALostAnswer(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	p.fakes["h2"].Fail(&api.Error{Code: api.CodeNotSPM, Message: "not me"})
	p.once("h2", sentThenDialled)
	wantCode(t, p.judge(t, "h1").send(t, create(t)), api.CodeOutcomeUnknown)
}

// After a lost answer a refusal elsewhere does not say what became of the first request.
func TestForward_lostThenRefusedIsUnknown(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	p.fakes["h2"].Fail(&api.Error{Code: api.CodeNotSPM, Message: "not me"})
	p.once("h2", loseAnswer)
	wantCode(t, p.judge(t, "h1").send(t, create(t)), api.CodeOutcomeUnknown)
}

// Nor does a failure: the first delivery may still have its effect.
func TestForward_lostThenFailedIsUnknown(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	p.fakes["h2"].Fail(&api.Error{Code: api.CodeUnavailable, Message: "the LUN does not answer"})
	p.once("h2", loseAnswer)
	wantCode(t, p.judge(t, "h1").send(t, create(t)), api.CodeOutcomeUnknown)
}

// Nor does "name taken": somebody may have deleted the volume that the first delivery made, and somebody else made one of that name.
func TestForward_lostThenNameTakenIsUnknown(t *testing.T) {
	t.Parallel()
	for _, code := range []string{api.CodeNameTaken, api.CodeConflict, api.CodeNoSpace, api.CodeLimit, api.CodeNotFound, api.CodeForbidden} {
		p := newPool("h1", "h2")
		p.set("h2", 3)
		p.fakes["h2"].Fail(&api.Error{Code: code, Message: "refused the second time"})
		p.once("h2", loseAnswer)
		e := wantCode(t, p.judge(t, "h1").send(t, create(t)), api.CodeOutcomeUnknown)
		if !strings.Contains(e.Message, "refused the second time") {
			t.Errorf("%s is not told: %s", code, e.Message)
		}
	}
}

// "Not found" may be the work of the delivery whose answer was lost: whoever is told so would believe that somebody else
// deleted the volume.
func TestForward_lostThenNotFoundIsUnknownForADelete(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	p.once("h2", loseAnswer)
	wantCode(t, p.judge(t, "h1").send(t, request(t, "DELETE", "/v1/volumes/"+apitest.VolumeID, nil)), api.CodeOutcomeUnknown)
	if len(p.seen) != 2 {
		t.Errorf("asked %v", p.seen)
	}
}

// The SPM loses its network in the middle of a request, and another host takes the role: the caller gets the answer of that one, not his
// own time-out.
func TestForward_roleMovesWhileNobodyAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool("h1", "h2", "h3")
		p.set("h2", 3)
		p.breaks["h2"] = func(_ http.Handler, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		go func() {
			time.Sleep(2 * time.Second)
			p.set("h3", 4)
		}()
		begun := time.Now()
		want[api.VolumeCreated](t, p.judge(t, "h1").send(t, create(t)), 201)
		if took := time.Since(begun); took > 4*time.Second {
			t.Errorf("it took %v", took)
		}
		if !slices.Equal(p.seen, []string{"h2", "h3"}) {
			t.Errorf("asked %v", p.seen)
		}
	})
}

// As long as the role stays where it is an answer may take its time.
func TestForward_slowAnswerOfTheHolder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool("h1", "h2")
		p.set("h2", 3)
		p.breaks["h2"] = func(h http.Handler, r *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			p.set("h2", 4) // it has the role once more, and goes on
			time.Sleep(10 * time.Second)
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			return deliver(h, r)
		}
		want[api.VolumeCreated](t, p.judge(t, "h1").send(t, create(t)), 201)
		if len(p.seen) != 1 {
			t.Errorf("asked %v", p.seen)
		}
	})
}

// A volume's name may mean another volume by the time of a second delivery, and a lease's id another lease: a delete that was carried
// out and is not answered would take two.
func TestForward_deleteByNameIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/volumes/web-1", "/v1/domains/" + apitest.DomainID + "/leases/" + apitest.VolumeID} {
		p := newPool("h1", "h2")
		p.set("h2", 3)
		p.breaks["h2"] = loseAnswer
		wantCode(t, p.judge(t, "h1").send(t, request(t, "DELETE", path, nil)), api.CodeOutcomeUnknown)
		if len(p.seen) != 1 {
			t.Errorf("%s: asked %v", path, p.seen)
		}
	}
}

// An update that was carried out, then overwritten by somebody, must not be carried out once more.
func TestForward_updateIsNotRepeated(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	p.breaks["h2"] = loseAnswer
	r := request(t, "PATCH", "/v1/volumes/"+apitest.VolumeID, api.VolumeUpdate{Name: new("x")})
	r.Header.Set(api.HeaderIdempotency, "k1")
	wantCode(t, p.judge(t, "h1").send(t, r), api.CodeOutcomeUnknown)
	if len(p.seen) != 1 {
		t.Errorf("asked %v", p.seen)
	}
}

func TestForward_moveIsNotRepeated(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.leader = "h2"
	p.breaks["h2"] = loseAnswer
	wantCode(t, p.judge(t, "h1").send(t, request(t, "POST", "/v1/spm/move", api.SPMMove{})), api.CodeOutcomeUnknown)
	if len(p.seen) != 1 {
		t.Errorf("asked %v", p.seen)
	}
}

// Two hosts that each believe the other has the role must not play ball.
func TestForward_oneHopOnly(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2", "h3")
	p.set("h2", 3)
	p.serving = map[string]bool{"h3": true}
	r := create(t)
	r.Header.Set(api.HeaderForwarded, "h3")
	r.Header.Set(api.HeaderRole, api.RoleAdmin)
	j := newJudge(t, p.handlers["h1"])
	e := wantCode(t, j.send(t, r), api.CodeNotSPM)
	if e.Holder != "h2" || len(p.seen) != 0 {
		t.Errorf("got %+v, asked %v", e, p.seen)
	}
}

// A caller cannot pretend to be a passing host.
func TestForward_headersOfStrangersAreIgnored(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	r := create(t)
	r.Header.Set(api.HeaderForwarded, "h3")
	want[api.VolumeCreated](t, p.judge(t, "h1").send(t, r), 201)
}

func TestForward_roleTravels(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.leader = "h2"
	var role string
	p.breaks["h2"] = func(h http.Handler, r *http.Request) (*http.Response, error) {
		role = r.Header.Get(api.HeaderRole)
		return deliver(h, r)
	}
	b := p.fakes["h1"].Backend()
	b.Forwarder = view{p, "h1"}
	h := httpapi.New(httpapi.Config{Host: "h1"}, b).For(asRole(api.RoleRead))
	want[[]api.Volume](t, newJudge(t, h).send(t, request(t, "GET", "/v1/volumes?consistent", nil)), 200)
	if role != api.RoleRead {
		t.Errorf("role %q", role)
	}
}

func TestForward_nonsenseDoesNotTravel(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	r := create(t)
	r.Header.Set(api.HeaderIdempotency, "a b")
	wantCode(t, p.judge(t, "h1").send(t, r), api.CodeInvalid)
	wantCode(t, p.judge(t, "h1").send(t, request(t, "POST", "/v1/volumes", strings.Repeat("x", 70000))), api.CodeTooLarge)
	if len(p.seen) != 0 {
		t.Errorf("asked %v", p.seen)
	}
}

func TestForward_brokenAnswer(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2")
	p.set("h2", 3)
	p.once("h2", func(h http.Handler, r *http.Request) (*http.Response, error) {
		resp, err := deliver(h, r)
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"id":`), broken{}))
		return resp, err
	})
	want[api.VolumeCreated](t, p.judge(t, "h1").send(t, create(t)), 201)
	if p.creates() != 1 {
		t.Errorf("%d volumes", p.creates())
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestForward_deadlineIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool("h1", "h2")
		p.set("h2", 3)
		p.breaks["h2"] = func(_ http.Handler, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, context.Cause(r.Context())
		}
		wantCode(t, p.judge(t, "h1").send(t, create(t)), api.CodeOutcomeUnknown)
	})
}

// A request about an attached volume goes to the host that it names, and to no other.
func TestForward_toTheHostThatIsNamed(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2", "h3")
	j := p.judge(t, "h1")
	attach := func(query string) *http.Request {
		return request(t, "POST", "/v1/volumes/web1/attach"+query, api.VolumeAttach{})
	}
	for query, host := range map[string]string{"": "h1", "?host=h1": "h1", "?host=h2": "h2"} {
		resp := j.send(t, attach(query))
		want[api.Attachment](t, resp, 200)
		if got := resp.Header.Get(api.HeaderHost); got != host {
			t.Errorf("%q: done by %s", query, got)
		}
	}
	wantCode(t, j.send(t, attach("?host=h9")), api.CodeNotFound)
	wantCode(t, j.send(t, attach("?host=-")), api.CodeInvalid)
	wantCode(t, j.send(t, attach("?where=h2")), api.CodeInvalid)
	detach := request(t, "POST", "/v1/volumes/web1/detach?host=h3", api.VolumeDetach{Force: true})
	if got := j.send(t, detach).Header.Get(api.HeaderHost); got != "h3" {
		t.Errorf("detached by %s", got)
	}
}

// What is attached is asked of every host, and those that do not answer are named.
func TestAttachments_ofAllHosts(t *testing.T) {
	t.Parallel()
	p := newPool("h1", "h2", "h3")
	j := p.judge(t, "h1")
	all := want[api.Attachments](t, j.send(t, request(t, "GET", "/v1/attachments", nil)), 200)
	if len(all.Attachments) != 3 || len(all.Silent) != 0 {
		t.Errorf("%d, silent %v", len(all.Attachments), all.Silent)
	}
	p.breaks["h2"] = unreachable
	all = want[api.Attachments](t, j.send(t, request(t, "GET", "/v1/attachments", nil)), 200)
	if len(all.Attachments) != 2 || !slices.Equal(all.Silent, []string{"h2"}) {
		t.Errorf("%d, silent %v", len(all.Attachments), all.Silent)
	}
	one := want[api.Attachments](t, j.send(t, request(t, "GET", "/v1/attachments?host=h3", nil)), 200)
	if len(one.Attachments) != 1 || len(one.Silent) != 0 {
		t.Errorf("of one host: %+v", one)
	}
}
