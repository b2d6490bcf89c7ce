package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/apitest"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// followed is a pool whose hosts have the same history, each as far as it has heard of it.
type followed struct {
	t     *testing.T
	net   *testutil.PipeNet
	hosts []*followedHost
	log   []api.Event // the whole history
	named []string    // what hosts say that the addresses are; nil: the right ones
}

// followedHost is one host of it.
type followedHost struct {
	p    *followed
	name string
	fake *apitest.Fake
	knew int          // events of the log that it has applied
	age  atomic.Int64 // of its mirror, as a time.Duration
	// skips is a planted mistake: the event with this number in the log is never sent.
	skips int
	deny  error // what every request is answered

	listener *testutil.PipeListener
	cancel   context.CancelFunc
	served   chan error
}

// inPool runs a test with a pool under virtual time.
func inPool(t *testing.T, hosts int, test func(p *followed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &followed{t: t, net: testutil.NewPipeNet()}
		for i := range hosts {
			h := &followedHost{p: p, name: fmt.Sprint("h", i+1), fake: apitest.New(), skips: -1}
			p.hosts = append(p.hosts, h)
			h.start()
		}
		defer func() {
			for _, h := range p.hosts {
				h.kill()
			}
		}()
		test(p)
	})
}

func (h *followedHost) addr() string { return "http://" + h.name + ":80" }

// start starts the host's agent, with what it knew before.
func (h *followedHost) start() {
	h.kill()
	b := h.fake.Backend()
	b.Hosts, b.Mirror, b.Events = peers{b.Hosts, h.p}, aged{b.Mirror, h}, skipping{b.Events, h}
	cfg := httpapi.Config{Host: h.name}
	handler := httpapi.New(cfg, b).For(httpapi.Local("test"))
	local := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { r.Host = "localhost"; handler.ServeHTTP(w, r) })
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.p.t.Context()))
	l, served := h.p.net.Listen(h.name+":80"), make(chan error, 1)
	go func() { served <- httpapi.Serve(ctx, l, local, slog.New(slog.DiscardHandler)) }()
	h.listener, h.cancel, h.served = l, cancel, served
}

// stop stops the agent in order, kill without a word.
func (h *followedHost) stop() {
	if h.cancel != nil {
		h.cancel()
		<-h.served
		h.cancel = nil
	}
}

func (h *followedHost) kill() {
	if h.cancel != nil {
		h.listener.Cut()
		h.stop()
	}
}

// catchUp lets the host hear of the history up to n.
func (h *followedHost) catchUp(n int) {
	for ; h.knew < n; h.knew++ {
		h.fake.Happen(h.p.log[h.knew])
	}
}

// happen adds to the history; hosts that are told hear of it at once.
func (p *followed) happen(told ...*followedHost) api.Event {
	n := len(p.log)
	id := api.EventID{Index: uint64(n) + 8} // as apitest counts
	p.log = append(p.log, api.Event{ID: id.String(), Index: id.Index, Time: apitest.Now, Kind: "k", Severity: api.SeverityInfo, Message: fmt.Sprint(n)})
	for _, h := range told {
		h.catchUp(n + 1)
	}
	return p.log[n]
}

// peers names the pool's hosts.
type peers struct {
	hostsRole
	p *followed
}

// Roles under another name, since a field must not be called as a method.
type (
	hostsRole  interface{ httpapi.Hosts }
	eventsRole interface{ httpapi.Events }
)

// Hosts implements httpapi.Hosts.
func (s peers) Hosts(context.Context) ([]api.Host, error) {
	var l []api.Host
	for _, addr := range s.p.named {
		l = append(l, api.Host{Name: "named", HTTP: addr})
	}
	if l != nil {
		return l, nil
	}
	for _, h := range s.p.hosts {
		l = append(l, api.Host{Name: h.name, HTTP: h.addr()})
	}
	return l, nil
}

// aged is a mirror whose age a test sets.
type aged struct {
	httpapi.Mirror
	h *followedHost
}

// Sync implements httpapi.Mirror.
func (a aged) Sync(ctx context.Context, consistent bool, after uint64) (httpapi.Mark, error) {
	if a.h.deny != nil {
		return httpapi.Mark{}, a.h.deny
	}
	m, err := a.Mirror.Sync(ctx, consistent, after)
	m.Age = time.Duration(a.h.age.Load())
	return m, err
}

// skipping is a history with a planted mistake.
type skipping struct {
	eventsRole
	h *followedHost
}

// Events implements httpapi.Events.
func (s skipping) Events(ctx context.Context, q httpapi.EventQuery) (httpapi.EventPage, error) {
	page, err := s.eventsRole.Events(ctx, q)
	page.Events = slices.DeleteFunc(page.Events, func(e api.Event) bool { return e.Kind == "k" && e.Message == fmt.Sprint(s.h.skips) })
	return page, err
}

// following is a follower at work, and what it has handed on.
type following struct {
	mu   sync.Mutex // guards the fields below
	got  []client.Followed
	news []string
	err  error

	cancel context.CancelFunc
	done   chan struct{}
}

func (p *followed) follow(change func(c *client.FollowerConfig)) *following {
	p.t.Helper()
	fl := &following{done: make(chan struct{})}
	cfg := client.FollowerConfig{Config: client.Config{Address: p.hosts[0].addr(), Dial: p.net.Dial}, After: "6.0", Notify: fl.notify}
	change(&cfg)
	f, err := client.NewFollower(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	fl.cancel = cancel
	go func() {
		defer close(fl.done)
		err := f.Run(ctx, fl.take)
		fl.mu.Lock()
		defer fl.mu.Unlock()
		fl.err = err
	}()
	return fl
}

func (f *following) take(g client.Followed) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, g)
	return nil
}

func (f *following) notify(address string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.news = append(f.news, fmt.Sprint(address, " ", err))
}

// stop ends it and returns what it has handed on.
func (f *following) stop() []client.Followed {
	f.cancel()
	<-f.done
	return f.got
}

// defects holds what was handed on against the history: in order, none twice, and none missing but behind a gap that says so,
// up to the last one.
func defects(got []client.Followed, log []api.Event) (l []string) {
	next, gap := 0, false
	for _, g := range got {
		if g.Gap != nil {
			gap = true
			continue
		}
		at := slices.IndexFunc(log, func(e api.Event) bool { return e.ID == g.Event.ID })
		switch {
		case at < 0:
			l = append(l, "never happened: "+g.Event.ID)
			continue
		case at < next:
			l = append(l, "again, or out of order: "+g.Event.ID)
		case at > next && !gap:
			l = append(l, fmt.Sprintf("lost before %s: %d", g.Event.ID, at-next))
		}
		next, gap = at+1, false
	}
	if next < len(log) {
		l = append(l, fmt.Sprintf("%d of the last are missing", len(log)-next))
	}
	return l
}

func TestDefects_catchesMistakes(t *testing.T) {
	t.Parallel()
	var log []api.Event
	var got []client.Followed
	for i := range 6 {
		e := api.Event{ID: fmt.Sprintf("%d.0", i)}
		log, got = append(log, e), append(got, client.Followed{Event: &e})
	}
	if d := defects(got, log); d != nil {
		t.Errorf("all is well, but %q", d)
	}
	gap := client.Followed{Gap: &api.EventGap{}}
	if d := defects(slices.Concat(got[:2], []client.Followed{gap}, got[4:]), log); d != nil {
		t.Errorf("a gap was told, but %q", d)
	}
	for name, bad := range map[string][]client.Followed{
		"lost":                           slices.Concat(got[:2], got[3:]),
		"double":                         slices.Concat(got[:3], got[2:]),
		"order":                          {got[1], got[0], got[2], got[3], got[4], got[5]},
		"the last one":                   got[:5],
		"made up":                        slices.Concat(got, []client.Followed{{Event: &api.Event{ID: "99.0"}}}),
		"after a gap that was made good": slices.Concat(got[:2], []client.Followed{gap}, got[2:3], got[4:]),
	} {
		if defects(bad, log) == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

func (p *followed) check(f *following) {
	p.t.Helper()
	for _, d := range defects(f.stop(), p.log) {
		p.t.Error(d)
	}
	if f.err != nil {
		p.t.Errorf("ended with %v", f.err)
	}
}

func TestFollower_hostDies(t *testing.T) {
	t.Parallel()
	inPool(t, 3, func(p *followed) {
		f := p.follow(func(*client.FollowerConfig) {})
		p.happen(p.hosts...)
		time.Sleep(time.Second)
		p.hosts[0].kill()
		for range 100 {
			p.happen(p.hosts[1:]...)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		p.check(f)
		if len(f.news) != 3 || !strings.HasPrefix(f.news[0], "http://h1:80 <nil>") || f.news[2] != "http://h2:80 <nil>" {
			t.Errorf("%q", f.news)
		}
	})
}

func TestFollower_hostIsSilent(t *testing.T) {
	t.Parallel()
	inPool(t, 2, func(p *followed) {
		dead := p.net.Listen("silent:80") // takes connections and says nothing
		defer dead.Cut()
		f := p.follow(func(c *client.FollowerConfig) {})
		time.Sleep(time.Second)
		p.hosts[0].stop()
		relay := p.net.Listen("h1:80")
		go func() {
			for {
				if _, err := relay.Accept(); err != nil {
					return
				}
			}
		}()
		defer relay.Cut()
		p.hosts[1].stop()
		time.Sleep(20 * time.Second)
		p.hosts[1].start()
		p.happen(p.hosts[1])
		time.Sleep(time.Minute)
		p.check(f)
	})
}

// A host that is cut off from the cluster serves what it knows; the follower finds one that knows more.
func TestFollower_leavesAHostThatIsCutOff(t *testing.T) {
	t.Parallel()
	inPool(t, 3, func(p *followed) {
		f := p.follow(func(*client.FollowerConfig) {})
		time.Sleep(time.Second)
		p.hosts[0].age.Store(int64(time.Minute))
		p.hosts[1].age.Store(int64(time.Minute))
		p.happen(p.hosts[2])
		time.Sleep(30 * time.Second)
		p.check(f)
	})
}

// Without a quorum all hosts are old. What they have is handed on all the same, and hosts are not asked in a tight loop.
func TestFollower_allAreCutOff(t *testing.T) {
	t.Parallel()
	inPool(t, 3, func(p *followed) {
		f := p.follow(func(*client.FollowerConfig) {})
		time.Sleep(time.Second)
		for _, h := range p.hosts {
			h.age.Store(int64(time.Minute))
		}
		p.happen(p.hosts...)
		time.Sleep(5 * time.Minute)
		p.happen(p.hosts...)
		time.Sleep(2 * time.Minute)
		p.check(f)
		if len(f.news) > 200 {
			t.Errorf("%d changes of host in 7 minutes", len(f.news))
		}
	})
}

func TestFollower_gap(t *testing.T) {
	t.Parallel()
	inPool(t, 1, func(p *followed) {
		f := p.follow(func(*client.FollowerConfig) {})
		p.happen(p.hosts[0])
		time.Sleep(time.Second)
		p.hosts[0].kill()
		for range 20 {
			p.happen(p.hosts[0])
		}
		p.hosts[0].fake.Forget(5)
		p.hosts[0].start()
		time.Sleep(time.Minute)
		p.check(f)
		gaps := 0
		for _, g := range f.got {
			if g.Gap != nil {
				gaps++
			}
		}
		if gaps != 1 || len(f.got) != 1+1+5 {
			t.Errorf("%d gaps in %d", gaps, len(f.got))
		}
	})
}

// A follower that begins with what happens from now on loses nothing either, even when its first host dies before anything
// has happened.
func TestFollower_fromNowOn(t *testing.T) {
	t.Parallel()
	inPool(t, 2, func(p *followed) {
		p.happen(p.hosts...)
		f := p.follow(func(c *client.FollowerConfig) { c.After = "" })
		time.Sleep(time.Second)
		p.hosts[0].kill()
		p.hosts[1].kill()
		for range 3 {
			p.happen(p.hosts...)
		}
		p.hosts[1].start()
		time.Sleep(time.Minute)
		got := f.stop()
		if d := defects(got, p.log[1:]); d != nil {
			t.Errorf("%q", d)
		}
	})
}

func TestFollower_filter(t *testing.T) {
	t.Parallel()
	inPool(t, 1, func(p *followed) {
		f := p.follow(func(c *client.FollowerConfig) { c.Filter = client.EventFilter{Kinds: []string{"other"}} })
		for range 20 {
			p.happen(p.hosts[0])
		}
		time.Sleep(10 * time.Second) // a heartbeat tells that they went by
		p.hosts[0].kill()
		p.hosts[0].fake.Forget(1)
		p.hosts[0].start()
		time.Sleep(time.Minute)
		if got := f.stop(); len(got) != 0 { // and so there is no gap
			t.Errorf("%+v", got)
		}
	})
}

// The first host dies before it has said anything: another one that was named is as good.
func TestFollower_firstHostIsDeadAlready(t *testing.T) {
	t.Parallel()
	inPool(t, 3, func(p *followed) {
		p.hosts[0].kill()
		p.happen(p.hosts[1:]...)
		f := p.follow(func(c *client.FollowerConfig) { c.Others = []string{p.hosts[0].addr(), p.hosts[1].addr()} })
		time.Sleep(time.Minute)
		p.happen(p.hosts[1:]...)
		time.Sleep(time.Minute)
		p.check(f)
	})
}

// What hosts name may not be reachable from here; what the caller named still is.
func TestFollower_namedHostsAreKept(t *testing.T) {
	t.Parallel()
	inPool(t, 2, func(p *followed) {
		p.named = []string{p.hosts[0].addr(), "http://10.0.0.2:80"}
		f := p.follow(func(c *client.FollowerConfig) { c.Others = []string{p.hosts[1].addr()} })
		time.Sleep(10 * time.Second)
		p.hosts[0].kill()
		p.happen(p.hosts[1])
		time.Sleep(time.Minute)
		p.check(f)
	})
}

func TestFollower_givesUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		break_ func(p *followed)
		within time.Duration
		code   string
	}{
		"nobody listens":            {func(p *followed) { p.hosts[0].kill() }, time.Second, api.CodeUnavailable},
		"the host is no member":     {func(p *followed) { p.hosts[0].deny = api.Errorf(api.CodeNotMember, "", "no member") }, time.Second, api.CodeNotMember},
		"no agent, something other": {func(p *followed) { p.serve(http.NotFound) }, time.Second, api.CodeInternal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inPool(t, 1, func(p *followed) {
				c.break_(p)
				begun := time.Now()
				f := p.follow(func(cfg *client.FollowerConfig) { cfg.After = "" })
				<-f.done
				var e *api.Error
				if !errors.As(f.err, &e) || e.Code != c.code || time.Since(begun) > c.within {
					t.Errorf("%v after %s", f.err, time.Since(begun))
				}
			})
		})
	}
}

// serve answers on the first host's address in place of the agent.
func (p *followed) serve(h http.HandlerFunc) {
	p.hosts[0].kill()
	l := p.net.Listen("h1:80")
	srv := &http.Server{Handler: h}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	p.hosts[0].listener, p.hosts[0].cancel, p.hosts[0].served = l, func() { _ = srv.Close() }, served
}

// Hosts that refuse after having served end a follower, since a revoked token does not come back; hosts that are only gone do not.
func TestFollower_refusedLater(t *testing.T) {
	t.Parallel()
	inPool(t, 1, func(p *followed) {
		f := p.follow(func(*client.FollowerConfig) {})
		time.Sleep(10 * time.Second)
		p.serve(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", api.ProblemType)
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"code":"unauthorized","status":401,"detail":"revoked"}`)
		})
		<-f.done
		var e *api.Error
		if !errors.As(f.err, &e) || e.Code != api.CodeUnauthorized {
			t.Errorf("%v", f.err)
		}
	})
}

// What a host sends is not believed blindly, and one that ends each stream at once is not asked in a tight loop.
func TestFollower_garbage(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"nothing":           "",
		"no JSON":           "data: {\n\n",
		"an event of old":   "data: {\"id\":\"1.0\",\"index\":1}\n\n",
		"an unknown name":   "event: what\ndata: {}\n\n",
		"a heartbeat":       "id: x\nevent: heartbeat\ndata: {\"age_ms\":1}\n\n",
		"a bad gap":         "event: gap\ndata: []\n\n",
		"an end":            "event: end\ndata: {\"reason\":\"no\"}\n\n",
		"an endless line":   "data: " + strings.Repeat("x", 1<<20),
		"heartbeat of text": "event: heartbeat\ndata: soon\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inPool(t, 1, func(p *followed) {
				f := p.follow(func(*client.FollowerConfig) {})
				p.happen(p.hosts[0])
				time.Sleep(10 * time.Second)
				var asked atomic.Int32
				p.serve(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, "/stream") {
						asked.Add(1)
					}
					w.Header().Set("Content-Type", api.StreamType)
					fmt.Fprint(w, body)
				})
				time.Sleep(time.Minute)
				p.hosts[0].start()
				p.happen(p.hosts[0])
				time.Sleep(time.Minute)
				p.check(f)
				if n := asked.Load(); n == 0 || n > 40 {
					t.Errorf("asked %d times in a minute", n)
				}
			})
		})
	}
}

func TestFollower_handlerFails(t *testing.T) {
	t.Parallel()
	inPool(t, 1, func(p *followed) {
		p.happen(p.hosts[0])
		f, err := client.NewFollower(client.FollowerConfig{Config: client.Config{Address: p.hosts[0].addr(), Dial: p.net.Dial}, After: "6.0"})
		if err != nil {
			t.Fatal(err)
		}
		full := errors.New("disk full")
		if err := f.Run(p.t.Context(), func(client.Followed) error { return full }); !errors.Is(err, full) {
			t.Errorf("%v", err)
		}
	})
}

func TestNewFollower_badInput(t *testing.T) {
	t.Parallel()
	for _, c := range []client.FollowerConfig{{After: "x"}, {After: "1.2.3"}, {Config: client.Config{Address: "ftp://h"}}, {Others: []string{"ftp://h"}}} {
		if _, err := client.NewFollower(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// storm is a random history of hosts that die, come back, stop in order, lag behind and are cut off, while things happen.
func (p *followed) storm(rng *rand.Rand) {
	for range 300 {
		h := p.hosts[rng.IntN(len(p.hosts))]
		switch rng.IntN(12) {
		case 0:
			h.kill()
		case 1:
			h.stop()
		case 2, 3:
			h.start()
		case 4:
			h.age.Store(int64(time.Duration(rng.IntN(2)) * time.Minute))
		case 5:
			time.Sleep(time.Duration(rng.IntN(20)) * time.Second)
		default:
			var told []*followedHost
			for _, o := range p.hosts {
				if rng.IntN(3) > 0 {
					told = append(told, o)
				}
			}
			p.happen(told...)
			time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
		}
	}
	for _, h := range p.hosts {
		h.start()
		h.age.Store(0)
		h.catchUp(len(p.log))
	}
	time.Sleep(2 * time.Minute)
}

func TestFollower_randomHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			inPool(t, 3, func(p *followed) {
				f := p.follow(func(*client.FollowerConfig) {})
				time.Sleep(time.Second)
				p.storm(rand.New(rand.NewPCG(seed, 1)))
				p.check(f)
			})
		})
	}
}

// The same with hosts that never send one of the events: the check above must notice.
func TestFollower_randomHistories_catchesALoss(t *testing.T) {
	t.Parallel()
	inPool(t, 3, func(p *followed) {
		for _, h := range p.hosts {
			h.skips = 40
		}
		f := p.follow(func(*client.FollowerConfig) {})
		time.Sleep(time.Second)
		p.storm(rand.New(rand.NewPCG(3, 1)))
		if defects(f.stop(), p.log) == nil {
			t.Error("nobody noticed that an event was lost")
		}
	})
}
