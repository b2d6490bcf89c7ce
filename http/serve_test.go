package httpapi_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/apitest"
	"github.com/holdfast-io/holdfast/http/client"
)

func TestServe_unixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "api.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // left behind
		t.Fatal(err)
	}
	l, err := httpapi.ListenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	stop := serve(t, l)
	c, err := client.New(client.Config{Address: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s, _, err := c.Status(soon(t), client.Read{}); err != nil || s.Pool.Name != "prod" {
		t.Errorf("got %+v, %v", s.Pool, err)
	}
	if _, err := httpapi.ListenUnix(t.Context(), path); err == nil {
		t.Error("a second agent took the socket of a living one")
	}
	stop()
}

// A request that waits for news does not hold up the end of the agent.
func TestServe_stopsWhileSomebodyWaits(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, l)
	c, err := client.New(client.Config{Address: "http://" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Health(soon(t)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = c.Hosts(soon(t), client.Read{After: 100, Timeout: 4 * time.Minute})
	}()
	start := time.Now()
	stop()
	<-done
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %s", d)
	}
}

func serve(t *testing.T, l net.Listener) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	h := httpapi.New(httpapi.Config{Host: "h1"}, apitest.New().Backend()).For(httpapi.Local("test"))
	go func() { done <- httpapi.Serve(ctx, l, h, slog.New(slog.DiscardHandler)) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
