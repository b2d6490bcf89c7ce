package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases/watchdog"
)

// mux is a wdmd that remembers the last expiry it was told, in the frames that package watchdog describes.
type mux struct {
	mu      sync.Mutex // guards all below
	expire  uint64     // 0: nothing in force
	clients int        // that have registered and are there
}

func startMux(t *testing.T, fire uint32) (*mux, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wdmd.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	m := &mux{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { m.serve(conn, fire) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return m, path
}

func (m *mux) serve(conn net.Conn, fire uint32) {
	defer conn.Close()
	registered := 0
	defer func() {
		m.mu.Lock()
		m.clients -= registered
		m.mu.Unlock()
	}()
	b := make([]byte, 176)
	for {
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		m.mu.Lock()
		switch binary.NativeEndian.Uint32(b[4:]) {
		case 1:
			registered = 1
			m.clients++
		case 4:
			m.expire = binary.NativeEndian.Uint64(b[40:])
		case 5:
			binary.NativeEndian.PutUint32(b[20:], fire)
			_, _ = conn.Write(b)
		}
		m.mu.Unlock()
	}
}

func (m *mux) await(t *testing.T, what string, ok func(expire uint64, clients int) bool) {
	t.Helper()
	testutil.Retry(t, 10*time.Second, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !ok(m.expire, m.clients) {
			return fmt.Errorf("%s: expiry %d, %d clients", what, m.expire, m.clients)
		}
		return nil
	})
}

// TestKeeper_protected: the watchdog is armed while a lease is held, hears of renewals, and stays armed when the keeper is
// killed.
func TestKeeper_protected(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	m, path := startMux(t, 2)
	cfg := testConfig(t.TempDir())
	cfg.Watchdog = "wdmd:" + path
	c, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(testutil.Deadline(t)) })
	ls, res := specs(lun, 1)
	if _, err := c.Join(ctx, ls); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Protection(ctx); err != nil || p.Kind != watchdog.Wdmd || p.Fire != 2*time.Second {
		t.Fatalf("%+v, %v", p, err)
	}
	m.await(t, "joined", func(e uint64, n int) bool { return e == 0 && n == 0 })
	if _, err := c.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	var first uint64
	m.await(t, "acquired", func(e uint64, n int) bool { first = e; return e != 0 && n == 1 })
	m.await(t, "renewed", func(e uint64, _ int) bool { return e > first })
	if err := c.Release(ctx, res); err != nil {
		t.Fatal(err)
	}
	m.await(t, "released", func(e uint64, n int) bool { return e == 0 && n == 0 })
	if _, err := c.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	m.await(t, "acquired again", func(e uint64, n int) bool { return e != 0 && n == 1 })
	_ = syscall.Kill(c.PID(), syscall.SIGKILL)
	<-c.Done()
	m.await(t, "killed: the entry stays", func(e uint64, n int) bool { return e != 0 && n == 0 })
}

// TestKeeper_watchdogUnusable: one that is configured and cannot be used keeps the host out.
func TestKeeper_watchdogUnusable(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	_, path := startMux(t, 60)
	for _, spec := range []string{"wdmd:" + path, "wdmd:/nowhere/wdmd.sock", "device:/nowhere/watchdog"} {
		cfg := testConfig(t.TempDir())
		cfg.Watchdog = spec
		c, err := Start(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		ls, _ := specs(lun, 1)
		if _, err := c.Join(ctx, ls); !errors.Is(err, watchdog.ErrUnusable) {
			t.Errorf("%s: %v", spec, err)
		}
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}
