// Package client talks to the HTTP API of any host of a pool.
//
// Every error it returns carries an *api.Error. A request whose answer got lost is repeated once where that is
// harmless; where it is not, the error has the code outcome_unknown.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
)

// DefaultAddress is the socket of the agent on this machine.
const DefaultAddress = "unix:///run/holdfast/api.sock"

// unixHost is the host name in requests over a unix socket; httpapi.UnixHost is the same.
const unixHost = "holdfast.sock"

// Config says how to reach a host.
type Config struct {
	// Address is http://HOST:PORT, https://HOST:PORT or unix:///PATH. Default DefaultAddress.
	Address string
	// Token is a bearer token; empty sends none.
	Token string
	// TLS is used for https; it holds the cluster's CA and, for administrators, a client certificate.
	TLS *tls.Config
	// Dial connects to addresses; nil is the network's own, with a bound of 5 s.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds one request; 0 is 90 s, which is longer than an agent's own deadline. Negative is none.
	Timeout time.Duration
}

// Client talks to one host.
type Client struct {
	base    string
	token   string
	timeout time.Duration
	http    *http.Client
}

// New makes a Client. It does not connect yet.
func New(c Config) (*Client, error) {
	if c.Address == "" {
		c.Address = DefaultAddress
	}
	if c.Timeout == 0 {
		c.Timeout = 90 * time.Second
	}
	u, err := url.Parse(c.Address)
	if err != nil {
		return nil, badAddress(c.Address)
	}
	tr := &http.Transport{TLSClientConfig: c.TLS, ForceAttemptHTTP2: c.TLS != nil, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	tr.DialContext = dial
	base := strings.TrimSuffix(c.Address, "/")
	switch {
	case u.Scheme == "unix" && u.Path != "":
		base = "http://" + unixHost
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, "unix", u.Path)
		}
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	default:
		return nil, badAddress(c.Address)
	}
	return &Client{base: base, token: c.Token, timeout: c.Timeout, http: &http.Client{Transport: tr}}, nil
}

func badAddress(a string) error {
	return api.Errorf(api.CodeInvalid, "give http://HOST:PORT, https://HOST:PORT or unix:///PATH", "address %q is not understood", a)
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call is one request.
type call struct {
	method string
	path   string
	query  url.Values
	body   any
	out    any
	key    string // idempotency key
	once   bool   // repeating it could do something twice
}

// do sends a request, a second time where the answer got lost and repeating is harmless.
func (c *Client) do(ctx context.Context, rq call) (Mark, error) {
	mark, err := c.try(ctx, rq)
	var lost *lostError
	if !errors.As(err, &lost) || (ctx.Err() != nil && rq.method == http.MethodGet) {
		return mark, err
	}
	if ctx.Err() != nil || rq.once || (lost.code != nil && rq.key == "") {
		return mark, unknown(lost)
	}
	first := lost
	mark, err = c.try(ctx, rq)
	if err != nil && rq.method != http.MethodGet {
		return mark, stillUnknown(first, err)
	}
	return mark, plain(err)
}

// lostError is a failure after the request may have had its effect. code is set when a host said so itself.
type lostError struct {
	err  error
	code *api.Error
}

// Error implements error.
func (e *lostError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *lostError) Unwrap() error { return e.err }

func unknown(l *lostError) *api.Error {
	if l.code != nil {
		return l.code
	}
	return api.Errorf(api.CodeOutcomeUnknown, "list what exists before trying again", "the answer got lost: %v", l.err)
}

// plain is for questions, where a lost answer is only a failure.
func plain(err error) error {
	var lost *lostError
	if errors.As(err, &lost) && lost.code == nil {
		return unreachable(lost.err)
	}
	return err
}

// stillUnknown keeps the doubt of the first attempt: a refusal of the second does not say what became of it. What it made may have been
// deleted since, and the name be somebody else's.
func stillUnknown(first *lostError, second error) error {
	said := *unknown(first)
	var again *api.Error
	if errors.As(second, &again) && !again.Unknown() {
		said.Message += "; asked again: " + again.Message
	}
	return &said
}

func unreachable(err error) error {
	return api.Errorf(api.CodeUnavailable, "see whether the agent runs, or name another host with --address", "no answer from the agent: %v", err)
}

// try sends a request once.
func (c *Client) try(ctx context.Context, rq call) (Mark, error) {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	// A request with an idempotency key is sent again by package http itself when a connection breaks. The dial that fails then says
	// nothing about the first time.
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	req, err := c.request(ctx, rq)
	if err != nil {
		return Mark{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Mark{}, sendError(err, sent.Load())
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or failed; closing has nothing to add
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return Mark{}, &lostError{err: err}
	}
	return markOf(resp), readBody(resp, b, rq.out)
}

func (c *Client) request(ctx context.Context, rq call) (*http.Request, error) {
	var body io.Reader
	if rq.body != nil {
		b, err := json.Marshal(rq.body)
		if err != nil {
			return nil, api.Errorf(api.CodeInternal, "", "encoding the request: %v", err)
		}
		body = bytes.NewReader(b)
	}
	u := c.base + rq.path
	if len(rq.query) > 0 {
		u += "?" + rq.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, rq.method, u, body)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "", "building the request: %v", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if rq.key != "" {
		req.Header.Set(api.HeaderIdempotency, rq.key)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set(api.HeaderRequestID, uuid.NewString())
	return req, nil
}

// sendError tells a request that never left from one that may have arrived; sent says that some of it went into a connection.
func sendError(err error, sent bool) error {
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	if !sent && (errors.As(err, &op) && op.Op == "dial" || errors.As(err, &cert)) {
		return unreachable(err)
	}
	return &lostError{err: err}
}

func readBody(resp *http.Response, b []byte, out any) error {
	if resp.StatusCode >= 400 {
		return readProblem(resp, b, out)
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = b
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &lostError{err: fmt.Errorf("reading the answer: %w", err)}
	}
	return nil
}

func readProblem(resp *http.Response, b []byte, out any) error {
	if resp.Header.Get("Content-Type") != api.ProblemType {
		if out != nil && resp.StatusCode == http.StatusServiceUnavailable && json.Unmarshal(b, out) == nil {
			return nil // an unhealthy /healthz
		}
		return api.Errorf(api.CodeInternal, "see whether the address is an agent's", "the answer is %s and no problem document", resp.Status)
	}
	var e api.Error
	if err := json.Unmarshal(b, &e); err != nil {
		return &lostError{err: err}
	}
	if e.Unknown() {
		return &lostError{err: &e, code: &e}
	}
	return &e
}

// Mark says how new an answer is.
type Mark struct {
	Index uint64
	Age   time.Duration
	Host  string // the host that did the work
	// Gap is set with events that begin behind a gap: the id of the oldest that is kept.
	Gap string
}

func markOf(resp *http.Response) Mark {
	index, _ := strconv.ParseUint(resp.Header.Get(api.HeaderIndex), 10, 64) // absent is 0
	age, _ := strconv.ParseInt(resp.Header.Get(api.HeaderAge), 10, 64)
	return Mark{Index: index, Age: time.Duration(age) * time.Millisecond, Host: resp.Header.Get(api.HeaderHost),
		Gap: resp.Header.Get(api.HeaderGap)}
}
