package fencing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// KindProcessExit is the proof that the agent and the keeper of a host were waited for by their parent.
const KindProcessExit = "exit"

// maxBody bounds what either side of the process agent reads.
const maxBody = 64 << 10

// Process is the agent `process`: a client of the dev supervisor, which is the parent of every host's processes and
// therefore its power switch. It speaks HTTP over a unix socket: GET /status?host=, POST /off and POST /on {host}.
type Process struct {
	http *http.Client
}

// NewProcess returns an agent that talks to the supervisor's socket. Each request has its own connection, so that a
// supervisor that went away is seen at once.
func NewProcess(socket string) *Process {
	var d net.Dialer
	return &Process{http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// statusBody is the answer of GET /status.
type statusBody struct {
	State State `json:"state"`
}

// hostBody is the request of POST /off and /on.
type hostBody struct {
	Host string `json:"host"`
}

// errorBody is any answer that is not 2xx.
type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Codes of errorBody that become sentinels again at the client.
const (
	codeUnknownHost  = "unknown_host"
	codeNotConfirmed = "not_confirmed"
	codeFailed       = "failed"
)

// Status asks the supervisor whether any process of the host is left.
func (p *Process) Status(ctx context.Context, host string) (State, error) {
	var out statusBody
	if err := p.do(ctx, http.MethodGet, "/status?host="+url.QueryEscape(host), nil, &out); err != nil {
		return Unknown, err
	}
	if out.State != On && out.State != Off {
		return Unknown, nil
	}
	return out.State, nil
}

// Off kills the host's processes and returns after the supervisor has waited for all of them.
func (p *Process) Off(ctx context.Context, host string) (Evidence, error) {
	var ev Evidence
	err := p.do(ctx, http.MethodPost, "/off", hostBody{host}, &ev)
	return ev, err
}

// On starts the host's agent again.
func (p *Process) On(ctx context.Context, host string) error {
	return p.do(ctx, http.MethodPost, "/on", hostBody{host}, nil)
}

// do runs one request; out may be nil.
func (p *Process) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding fence request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, body)
	if err != nil {
		return fmt.Errorf("making fence request: %w", err)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the supervisor (%s %s): %w", method, path, err)
	}
	defer resp.Body.Close()
	return decode(resp, out)
}

// decode reads an answer, or the error in it.
func decode(resp *http.Response, out any) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("reading the supervisor's answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return remoteError(resp.StatusCode, raw)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("decoding the supervisor's answer: %w", err)
	}
	return nil
}

// remoteError turns an error answer into an error that errors.Is can judge.
func remoteError(status int, raw []byte) error {
	var e errorBody
	if err := json.Unmarshal(raw, &e); err != nil || e.Message == "" {
		return fmt.Errorf("the supervisor answered %d", status)
	}
	switch e.Code {
	case codeUnknownHost:
		return fmt.Errorf("%s: %w", e.Message, ErrUnknownHost)
	case codeNotConfirmed:
		return fmt.Errorf("%s: %w", e.Message, ErrNotConfirmed)
	}
	return errors.New("the supervisor answered: " + e.Message)
}

// Supervisor is what the dev supervisor offers to be a power switch.
type Supervisor interface {
	// Status says whether a process of the host, agent or keeper, is left.
	Status(ctx context.Context, host string) (State, error)
	// Off kills agent and keeper and returns after BOTH were waited for. With an nbd LUN it cuts the host's
	// connection at the server or sets Settle to the I/O deadline. The host stays off until On.
	Off(ctx context.Context, host string) (Evidence, error)
	// On starts the host again. On of a host that runs succeeds.
	On(ctx context.Context, host string) error
}

// Handler serves a Supervisor to Process clients.
func Handler(s Supervisor) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		st, err := s.Status(r.Context(), r.URL.Query().Get("host"))
		answer(w, statusBody{st}, err)
	})
	mux.HandleFunc("POST /off", withHost(func(ctx context.Context, host string) (any, error) {
		ev, err := s.Off(ctx, host)
		if ev.Kind == "" {
			ev.Kind = KindProcessExit
		}
		if ev.At.IsZero() {
			ev.At = time.Now()
		}
		return ev, err
	}))
	mux.HandleFunc("POST /on", withHost(func(ctx context.Context, host string) (any, error) {
		return struct{}{}, s.On(ctx, host)
	}))
	return mux
}

// withHost reads the request body and refuses one without a host.
func withHost(fn func(ctx context.Context, host string) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in hostBody
		err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&in)
		if err != nil || in.Host == "" {
			write(w, http.StatusBadRequest, errorBody{codeFailed, "the request names no host"})
			return
		}
		out, err := fn(r.Context(), in.Host)
		answer(w, out, err)
	}
}

// answer writes out, or err as an errorBody.
func answer(w http.ResponseWriter, out any, err error) {
	switch {
	case err == nil:
		write(w, http.StatusOK, out)
	case errors.Is(err, ErrUnknownHost):
		write(w, http.StatusNotFound, errorBody{codeUnknownHost, err.Error()})
	case errors.Is(err, ErrNotConfirmed):
		write(w, http.StatusConflict, errorBody{codeNotConfirmed, err.Error()})
	default:
		write(w, http.StatusInternalServerError, errorBody{codeFailed, err.Error()})
	}
}

// write sends v as JSON. A client that hung up is no concern of the server.
func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
