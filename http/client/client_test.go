package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A caller who gives up waiting does not know what became of a change, and must be told so.
func TestClient_givenUp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ask  func(context.Context, *client.Client) error
		code string
	}{
		"create": {func(ctx context.Context, c *client.Client) error {
			_, err := c.CreateVolume(ctx, api.VolumeCreate{Name: "v", Size: 1}, "key")
			return err
		}, api.CodeOutcomeUnknown},
		"delete": {func(ctx context.Context, c *client.Client) error { _, err := c.DeleteVolume(ctx, "v"); return err }, api.CodeOutcomeUnknown},
		"update": {func(ctx context.Context, c *client.Client) error {
			_, err := c.UpdateVolume(ctx, "v", api.VolumeUpdate{Name: new("w")})
			return err
		}, api.CodeOutcomeUnknown},
		"list": {func(ctx context.Context, c *client.Client) error {
			_, _, err := c.Volumes(ctx, client.VolumeFilter{}, client.Read{})
			return err
		}, api.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			asked := 0
			srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				asked++
				_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the caller is gone
				cancel()
				<-r.Context().Done()
			}))
			defer srv.Close()
			c, err := client.New(client.Config{Address: srv.URL})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			err = tt.ask(ctx, c)
			var e *api.Error
			if !errors.As(err, &e) || e.Code != tt.code {
				t.Errorf("got %v, want code %s", err, tt.code)
			}
			if srv.Close(); asked != 1 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}

// A host that carries a change out, and ends before it answers, leaves a doubt: that nobody can be dialled afterwards says nothing about it.
func TestClient_endedBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "[]")
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_ = srv.Listener.Close()
		panic(http.ErrAbortHandler) // breaks the connection
	}))
	defer srv.Close()
	c, err := client.New(client.Config{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.Volumes(ctx, client.VolumeFilter{}, client.Read{}); err != nil { // a connection to use again: only such are replaced
		t.Fatal(err)
	}
	var e *api.Error
	if _, err := c.CreateVolume(ctx, api.VolumeCreate{Name: "v", Size: 1}, "key"); !errors.As(err, &e) || e.Code != api.CodeOutcomeUnknown {
		t.Errorf("%v, want that nobody knows", err)
	}
}

// A refusal of the second delivery does not say what became of the first one, whose answer was lost.
func TestClient_lostThenRefused(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if asked.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"code":"name_taken","title":"name is taken","status":409,"detail":"name is taken"}`)
	}))
	defer srv.Close()
	c, err := client.New(client.Config{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var e *api.Error
	_, err = c.CreateVolume(t.Context(), api.VolumeCreate{Name: "v", Size: 1}, "key")
	if !errors.As(err, &e) || e.Code != api.CodeOutcomeUnknown || !strings.Contains(e.Message, "taken") || asked.Load() != 2 {
		t.Errorf("asked %d times: %v, want that nobody knows", asked.Load(), err)
	}
}
