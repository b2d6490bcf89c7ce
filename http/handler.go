package httpapi

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/http/api"
)

// Config configures a Handler. Zero values take the defaults.
type Config struct {
	// Host is this host's name, for X-Holdfast-Host and for passing requests on.
	Host string
	// Log takes one line a request: changes at info, questions at debug, failures of ours at warn.
	Log *slog.Logger
	// Metrics is what /metrics shows; nil answers not_implemented.
	Metrics prometheus.Gatherer
	// Observe is told of every answered request, with the route as the API documents it. nil: nobody is.
	Observe func(method, route string, status int, took time.Duration)
	// MaxBody bounds a request body, in bytes. Default 64 KiB.
	MaxBody int64
	// Deadline bounds a request, apart from the time it asked to wait itself. Default 60 s.
	Deadline time.Duration
	// RoleWait bounds how long a request waits for somebody to be SPM or leader. Default 25 s: less than Deadline,
	// and less than a client waits by default, so that it hears why.
	RoleWait time.Duration
	// RolePause is the time between two dials of a role's host. Default 100 ms.
	RolePause time.Duration
	// Stream bounds streams of events.
	Stream StreamConfig
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.MaxBody = cmp.Or(c.MaxBody, 64<<10)
	c.Deadline = cmp.Or(c.Deadline, 60*time.Second)
	c.RoleWait = cmp.Or(c.RoleWait, 25*time.Second)
	c.RolePause = cmp.Or(c.RolePause, 100*time.Millisecond)
	c.Stream = c.Stream.withDefaults()
	return c
}

// Handler is the API of one agent. For gives the http.Handler of one listener.
type Handler struct {
	cfg     Config
	policy  policy
	backend atomic.Pointer[Backend]
	routes  []route
	streams atomic.Int64 // that are open
}

// New makes a Handler that answers from b.
func New(cfg Config, b Backend) *Handler {
	cfg = cfg.withDefaults()
	h := &Handler{cfg: cfg, routes: routes()}
	h.policy = policy{host: cfg.Host, wait: cfg.RoleWait, pause: cfg.RolePause, log: cfg.Log}
	h.Use(b)
	return h
}

// Use swaps in another backend, when the host becomes a member or stops being one. Requests under way finish with
// the one they started with.
func (h *Handler) Use(b Backend) { h.backend.Store(&b) }

// For gives the handler of a listener whose callers are told apart by a.
func (h *Handler) For(a Authenticator) http.Handler {
	m := mux.NewRouter().UseEncodedPath()
	for _, rt := range h.routes {
		m.Path(rt.path).Methods(rt.method).Handler(h.observed(rt, h.serve(rt, a)))
	}
	m.NotFoundHandler = http.HandlerFunc(notFound)
	m.MethodNotAllowedHandler = http.HandlerFunc(h.methodNotAllowed)
	return withRequestID(withLog(h.cfg.Log, withRecover(h.cfg.Log, h.withHost(m))))
}

func (h *Handler) withHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.cfg.Host != "" {
			w.Header().Set(api.HeaderHost, h.cfg.Host)
		}
		next.ServeHTTP(w, r)
	})
}

// observed tells Observe of every answer.
func (h *Handler) observed(rt route, next http.Handler) http.Handler {
	if h.cfg.Observe == nil || rt.stream { // how long a stream lasts is no time to answer
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, start := &recorder{ResponseWriter: w}, time.Now()
		next.ServeHTTP(rec, r)
		h.cfg.Observe(rt.method, rt.path, rec.status, time.Since(start))
	})
}

// serve is the common path of all routes: who, how long, how much, where, what.
func (h *Handler) serve(rt route, a Authenticator) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := h.backend.Load()
		r, err := h.admit(rt, a, r)
		if err != nil {
			writeProblem(w, problemOf(err, r.Method))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), h.longest(rt, r))
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, h.cfg.MaxBody)
		local := h.local(rt, b)
		n := rt.needs(r)
		if n == needHost && (hostOf(r) == "" || hostOf(r) == h.cfg.Host) {
			n = needNothing
		}
		if n == needNothing || b.Forwarder == nil {
			local.ServeHTTP(w, r)
			return
		}
		err = rt.precheck(r)
		if err == nil && n == needHost {
			err = knownHost(b, r)
		}
		if err != nil {
			writeProblem(w, problemOf(err, r.Method))
			return
		}
		h.policy.serve(w, r, b.Forwarder, n, local)
	})
}

// longest is how long a request may take.
func (h *Handler) longest(rt route, r *http.Request) time.Duration {
	if rt.stream {
		return h.cfg.Stream.Life
	}
	return h.cfg.Deadline + waitOf(r)
}

// admit lets the request in and notes on whose behalf it runs.
func (h *Handler) admit(rt route, a Authenticator, r *http.Request) (*http.Request, error) {
	if rt.open {
		return r, nil
	}
	id, err := a.Authenticate(r)
	if err != nil {
		return r, err
	}
	if !id.may(r.Method) {
		return r, api.Errorf(api.CodeForbidden, "use a certificate or token with the role admin",
			"%q has the role %q, which may only read", id.Name, id.Role)
	}
	r = r.WithContext(context.WithValue(r.Context(), keyIdentity, id))
	if !id.Peer {
		r.Header.Del(api.HeaderForwarded)
	}
	return r, nil
}

// local runs the route's endpoint on this host.
func (h *Handler) local(rt route, b *Backend) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.cfg.Host != "" {
			w.Header().Set(api.HeaderHost, h.cfg.Host)
		}
		if rt.raw != nil {
			rt.raw(h, w, r)
			return
		}
		p, err := rt.call(b, r)
		if err == nil {
			writeReply(w, p)
			return
		}
		e := problemOf(err, r.Method)
		if e.Code == api.CodeInternal {
			h.cfg.Log.Error("request failed", "error", err, "path", r.URL.Path, "request_id", requestIDOf(r.Context()))
		}
		writeProblem(w, e)
	})
}

func notFound(w http.ResponseWriter, r *http.Request) {
	writeProblem(w, api.Errorf(api.CodeNotFound, "see /v1/openapi.yaml for what there is", "no such path: %s", r.URL.Path))
}

// methodNotAllowed says which methods the path has.
func (h *Handler) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, rt := range h.routes {
		if rt.matches(r.URL.EscapedPath()) {
			allowed = append(allowed, rt.method)
		}
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeProblem(w, api.Errorf(api.CodeMethod, "", "%s has no method %s, but %s", r.URL.Path, r.Method, strings.Join(allowed, ", ")))
}
