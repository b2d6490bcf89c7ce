package fencing

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSwitch is a Supervisor, and therefore an Agent, in memory.
type fakeSwitch struct {
	mu     sync.Mutex
	state  map[string]State
	settle time.Duration
	stuck  bool // off reports success and does nothing
}

func (f *fakeSwitch) Status(_ context.Context, host string) (State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, ok := f.state[host]
	if !ok {
		return Unknown, ErrUnknownHost
	}
	return st, nil
}

func (f *fakeSwitch) Off(_ context.Context, host string) (Evidence, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stuck {
		f.state[host] = Off
	}
	return Evidence{Kind: KindProcessExit, Detail: "pid 1 exited", Settle: f.settle}, nil
}

func (f *fakeSwitch) On(_ context.Context, host string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state[host] = On
	return nil
}

func serve(t *testing.T, s Supervisor) *Process {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: Handler(s)}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return NewProcess(socket)
}

func TestProcess_offOnStatus(t *testing.T) {
	t.Parallel()
	p := serve(t, &fakeSwitch{state: map[string]State{"h1": On}})
	ctx := t.Context()
	if st, err := p.Status(ctx, "h1"); err != nil || st != On {
		t.Fatalf("status = %v, %v", st, err)
	}
	ev, err := OffConfirmed(ctx, p, p, "h1")
	if err != nil {
		t.Fatal(err)
	}
	if ev.Kind != KindProcessExit || ev.Detail == "" || ev.At.IsZero() {
		t.Fatalf("evidence = %+v", ev)
	}
	if err := p.On(ctx, "h1"); err != nil {
		t.Fatal(err)
	}
	if st, _ := p.Status(ctx, "h1"); st != On {
		t.Fatalf("after on: %v", st)
	}
}

func TestProcess_unknownHost(t *testing.T) {
	t.Parallel()
	p := serve(t, &fakeSwitch{state: map[string]State{}})
	if _, err := p.Status(t.Context(), "x y"); !errors.Is(err, ErrUnknownHost) {
		t.Fatalf("err = %v", err)
	}
	if _, err := p.Off(t.Context(), ""); err == nil {
		t.Fatal("an off without a host was taken")
	}
}

func TestProcess_noSupervisor(t *testing.T) {
	t.Parallel()
	p := NewProcess(filepath.Join(t.TempDir(), "none"))
	if _, err := OffConfirmed(t.Context(), p, p, "h1"); err == nil {
		t.Fatal("no supervisor, and yet a proof")
	}
}

// A switch that says yes and does nothing is the failure that loses data; the status check must catch it.
func TestOffConfirmed_liar(t *testing.T) {
	t.Parallel()
	f := &fakeSwitch{state: map[string]State{"h1": On}, stuck: true}
	if _, err := OffConfirmed(t.Context(), f, f, "h1"); !errors.Is(err, ErrNotConfirmed) {
		t.Fatalf("err = %v", err)
	}
}

func TestOffConfirmed_settle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSwitch{state: map[string]State{"h1": On}, settle: 3 * time.Second}
		start := time.Now()
		if _, err := OffConfirmed(t.Context(), f, f, "h1"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Fatalf("waited %s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := OffConfirmed(ctx, f, f, "h1"); !errors.Is(err, ErrNotConfirmed) {
			t.Fatalf("err = %v", err)
		}
	})
}

func TestNone(t *testing.T) {
	t.Parallel()
	if _, err := OffConfirmed(t.Context(), None{}, None{}, "h1"); !errors.Is(err, ErrNoAgent) {
		t.Fatalf("err = %v", err)
	}
}
