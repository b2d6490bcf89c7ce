package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/internal/config"
)

// servers are the API's listeners: a unix socket for local root, and the HTTP port. What other members pass on comes
// in on the cluster's own port, which the node serves.
type servers struct {
	log   *slog.Logger
	unix  net.Listener
	http  net.Listener
	local http.Handler
	outer http.Handler
}

// newServers opens the listeners, so that a taken port is an error before anything else starts.
func newServers(ctx context.Context, cfg config.Agent, b *backend, log *slog.Logger, m *metrics) (*servers, error) {
	handler := httpapi.New(httpapi.Config{Host: cfg.Name, Log: log, Metrics: m.registry, Observe: m.observe}, b.roles())
	if err := m.registerStates(b.host, handler); err != nil {
		return nil, err
	}
	b.host.ServePeers(handler.For(httpapi.Peers()))
	s := &servers{log: log, local: handler.For(httpapi.Local("local"))}
	if err := os.MkdirAll(filepath.Dir(cfg.UnixSocket), 0o755); err != nil {
		return nil, fmt.Errorf("making the socket's directory: %w", err)
	}
	var err error
	if s.unix, err = httpapi.ListenUnix(ctx, cfg.UnixSocket); err != nil {
		return nil, err
	}
	if cfg.HTTP.Listen == "" {
		return s, nil
	}
	if s.http, err = net.Listen("tcp", cfg.HTTP.Listen); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the API's port: %w", err), s.unix.Close())
	}
	if cfg.Dev {
		s.outer = handler.For(httpapi.Local("dev"))
		return s, nil
	}
	s.outer = handler.For(members{Authenticator: httpapi.CertificateOrToken(b), backend: b})
	s.http, err = withTLS(s.http, cfg, b)
	return s, err
}

// withTLS serves the port with the operator's certificate or the cluster's. Before the host is a member it has
// neither, and every handshake is refused.
func withTLS(l net.Listener, cfg config.Agent, b *backend) (net.Listener, error) {
	var own *tls.Certificate
	if cfg.HTTP.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(cfg.HTTP.CertFile, cfg.HTTP.KeyFile)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("reading the API's certificate: %w", err), l.Close())
		}
		own = &pair
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			n := b.host.Node()
			if n == nil {
				return nil, errors.New("this host belongs to no cluster yet; use its unix socket")
			}
			c, err := n.Certs().Server().GetConfigForClient(hello)
			if err != nil {
				return nil, err
			}
			if own != nil {
				c.Certificates = []tls.Certificate{*own}
			}
			c.NextProtos = []string{"http/1.1"}
			return c, nil
		},
	}), nil
}

// run serves until ctx ends and waits for what is under way. Whoever calls before the host has opened its state waits in the
// listener's queue: a member would tell him that it is none.
func (s *servers) run(ctx context.Context, settled <-chan struct{}) error {
	select {
	case <-settled:
	case <-ctx.Done():
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return httpapi.Serve(ctx, s.unix, s.local, s.log) })
	if s.http != nil {
		g.Go(func() error { return httpapi.Serve(ctx, s.http, s.outer, s.log) })
	}
	return g.Wait()
}
