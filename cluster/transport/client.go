package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"
)

// ClientConfig is what a Client needs.
type ClientConfig struct {
	Network Network // nil: TCP
	Certs   *Certs
	// Resolve finds the cluster address of a host by its name. It is asked for each new connection.
	Resolve func(host string) (string, error)
}

// Client calls methods of other hosts. Connections are kept and used again.
type Client struct {
	cfg  ClientConfig
	http *http.Transport
}

// NewClient returns a client.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Network == nil {
		cfg.Network = TCP{}
	}
	c := &Client{cfg: cfg}
	c.http = &http.Transport{
		DialTLSContext:      c.dial,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}
	return c
}

// Close closes the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dial(ctx context.Context, _, hostport string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	address, err := c.cfg.Resolve(host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return dialTLS(ctx, c.cfg.Network, address, c.cfg.Certs.Client(host), protoHTTP)
}

// Call calls a method of a host. in and out are JSON values; out may be nil. The error is a *RemoteError when the host
// answered with one, and wraps ErrUnreachable when the request surely never arrived, else ErrOutcomeUnknown.
func (c *Client) Call(ctx context.Context, host, method string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding call %s: %w", method, err)
	}
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultTimeout)
		defer cancel()
	}
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	req, err := newCall(ctx, host, method, body)
	if err != nil {
		return err
	}
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		return classify(host, method, sent.Load(), err)
	}
	defer resp.Body.Close()
	return ReadAnswer(host, resp, out)
}

func newCall(ctx context.Context, host, method string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+rpcPrefix+method, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call %s to %q: %w", method, host, err)
	}
	deadline, _ := ctx.Deadline()
	left := max(time.Until(deadline).Milliseconds(), 1)
	req.Header.Set(timeoutHeader, strconv.FormatInt(left, 10))
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

func classify(host, method string, sent bool, err error) error {
	if sent {
		return fmt.Errorf("call %s to host %s: %w: %w", method, host, ErrOutcomeUnknown, err)
	}
	if errors.Is(err, ErrUnreachable) {
		return fmt.Errorf("call %s to host %s: %w", method, host, err)
	}
	return fmt.Errorf("call %s to host %s: %w: %w", method, host, ErrUnreachable, err)
}

// RoundTripper sends API requests to a host over the cluster port, whatever address their URL holds.
func (c *Client) RoundTripper(host string) http.RoundTripper { return &forwarder{c.http, host} }

type forwarder struct {
	next http.RoundTripper
	host string
}

// RoundTrip sends one request.
func (f *forwarder) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "https", f.host
	var sent atomic.Bool
	ctx := httptrace.WithClientTrace(out.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	resp, err := f.next.RoundTrip(out.WithContext(ctx))
	if err != nil {
		return nil, classify(f.host, r.Method+" "+r.URL.Path, sent.Load(), err)
	}
	return resp, nil
}
