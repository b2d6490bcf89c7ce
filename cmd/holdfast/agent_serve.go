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
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/cluster/host"
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

// Times of the API's servers.
const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 5 * time.Second
)

// newServers opens the listeners, so that a taken port is an error before anything else starts.
func newServers(cfg config.Agent, h *host.Host, log *slog.Logger, m *metrics) (*servers, error) {
	b := &backend{host: h, log: log, started: time.Now()}
	handler := httpapi.New(httpapi.Config{Host: cfg.Name, Log: log, Metrics: m.registry, Observe: m.observe}, b.roles())
	h.ServePeers(handler.For(httpapi.Peers()))
	s := &servers{log: log, local: handler.For(httpapi.Local("local"))}
	var err error
	if s.unix, err = listenUnix(cfg.UnixSocket); err != nil {
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

// listenUnix makes the socket for local root. A socket that a dead agent left is replaced: the data directory's lock
// has made sure that no other agent lives.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the socket's directory: %w", err)
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing an old socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the API's socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
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

// run serves until ctx ends and waits for what is under way.
func (s *servers) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	serveOn(ctx, g, s.unix, s.local, s.log)
	if s.http != nil {
		serveOn(ctx, g, s.http, s.outer, s.log)
	}
	return g.Wait()
}

func serveOn(ctx context.Context, g *errgroup.Group, l net.Listener, h http.Handler, log *slog.Logger) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving the API on %s: %w", l.Addr(), err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err := srv.Shutdown(stop); err != nil {
			return srv.Close()
		}
		return nil
	})
}
