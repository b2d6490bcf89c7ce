package transport

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Handler answers one method. Its error reaches the caller with its code, its result as JSON.
type Handler func(ctx context.Context, from string, body []byte) (any, error)

const (
	rpcPrefix      = "/rpc/"
	timeoutHeader  = "Holdfast-Timeout-Ms"
	defaultTimeout = 10 * time.Second
	maxBody        = 64 << 20
)

type fromKey struct{}

// From is the name of the host that a request came from; false outside of a request.
func From(ctx context.Context) (string, bool) {
	name, ok := ctx.Value(fromKey{}).(string)
	return name, ok
}

// Handle serves a method. It must be called before Run, once for each method.
func (s *Server) Handle(method string, h Handler) {
	s.mux.Handle("POST "+rpcPrefix+method, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serveCall(w, r, h)
	}))
}

func serveCall(w http.ResponseWriter, r *http.Request, h Handler) {
	from, _ := From(r.Context())
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // the caller is gone, or sends more than anybody may
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout(r))
	defer cancel()
	out, err := h(ctx, from, body)
	if err != nil {
		WriteError(w, err)
		return
	}
	data, err := json.Marshal(out)
	if err != nil {
		WriteError(w, fmt.Errorf("encoding the answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data) // the peer is gone when this fails
}

// callTimeout is what is left of the caller's deadline.
func callTimeout(r *http.Request) time.Duration {
	ms, err := strconv.ParseInt(r.Header.Get(timeoutHeader), 10, 64)
	if err != nil || ms <= 0 || ms > int64(time.Hour/time.Millisecond) {
		return defaultTimeout
	}
	return time.Duration(ms) * time.Millisecond
}

// members lets only member hosts through. It asks again for each request: connections live long, memberships end.
func (s *Server) members(next http.Handler) http.Handler {
	known := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := s.mux.Handler(r); pattern == "" {
			WriteError(w, fmt.Errorf("%s: %w", r.URL.Path, ErrNoMethod))
			return
		}
		next.ServeHTTP(w, r)
	})
	return s.counted(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, err := s.member(*r.TLS)
		if err != nil {
			WriteError(w, err)
			return
		}
		known.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), fromKey{}, name)))
	}))
}

// counted lets Run wait for the requests being handled.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		defer s.calls.Done()
		next.ServeHTTP(w, r)
	})
}
