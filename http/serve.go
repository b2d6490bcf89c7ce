package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// closeGrace is how long requests under way may take to finish when the agent stops.
const closeGrace = 3 * time.Second

// Serve answers on l until ctx ends, then lets requests under way finish for a short while. The listener is closed
// when it returns. A ?wait= request ends with ctx; so does a stream, at once.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return withClosing(base, ctx.Done()) },
	}
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Serve(l) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serving the API on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	err := shutdown(ctx, srv, cancel)
	if served := <-stopped; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// withClosing lets streams know that the agent stops, which is before their context ends.
func withClosing(ctx context.Context, closing <-chan struct{}) context.Context {
	return context.WithValue(ctx, keyClosing, closing)
}

// closingOf is closed when the agent stops; nil where nobody says so.
func closingOf(ctx context.Context) <-chan struct{} {
	ch, _ := ctx.Value(keyClosing).(<-chan struct{})
	return ch
}

// shutdown waits for requests under way for half of the grace time, then tells them to end.
func shutdown(ctx context.Context, srv *http.Server, endRequests func()) error {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	timer := time.AfterFunc(closeGrace/2, endRequests)
	defer timer.Stop()
	if err := srv.Shutdown(grace); err != nil {
		return errors.Join(fmt.Errorf("stopping the API: %w", err), srv.Close())
	}
	return nil
}

// ListenUnix listens on a socket that only its owner can use. A socket left behind by a dead agent is replaced, one
// that somebody answers on is not.
func ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	d := net.Dialer{Timeout: time.Second}
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = c.Close() // only opened to see whether somebody answers
		return nil, fmt.Errorf("listening on %s: another agent answers there; stop it or choose another unix_socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replacing the socket %s: %w", path, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protecting the socket %s: %w", path, err), l.Close())
	}
	return l, nil
}
