package mailbox

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/mailbox/internal/plant"
)

// extendFunc is a Handler.
type extendFunc func(ctx context.Context, r Request) error

func (f extendFunc) Extend(ctx context.Context, r Request) error { return f(ctx, r) }

// pair is one host and one SPM on a storage that does no harm.
type pair struct {
	inbox, outbox *blockdev.Mem
	host          *Host
	server        *Server
	guard         *simGuard
}

func newPair(t *testing.T, bugs plant.Bugs, edit func(*HostOptions, *ServerOptions), h Handler) *pair {
	t.Helper()
	p := &pair{inbox: blockdev.NewMem(250*pageSize, 512), outbox: blockdev.NewMem(250*pageSize, 512), guard: &simGuard{}}
	ho, so := DefaultHostOptions(), DefaultServerOptions()
	edit(&ho, &so)
	var err, err2 error
	p.host, err = NewHost(HostConfig{Inbox: p.inbox, Outbox: p.outbox, HostID: 7, Options: ho, Log: quiet(),
		Rand: rand.New(rand.NewPCG(1, 2)), Bugs: bugs})
	p.server, err2 = NewServer(ServerConfig{Inbox: p.inbox, Outbox: p.outbox, Guard: p.guard, Handler: h, Options: so, Log: quiet(), Bugs: bugs})
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs both sides while f does.
func (p *pair) run(t *testing.T, f func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.host.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := p.server.Run(ctx); err != nil && !errors.Is(err, blockdev.ErrLeaseLost) {
			t.Error(err)
		}
	})
	f(ctx)
	cancel()
	wg.Wait()
}

func noEdit(*HostOptions, *ServerOptions) {}

// TestExtend_latency: one request by the mailbox alone, from an idle start.
func TestExtend_latency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, plant.Bugs{}, noEdit, extendFunc(func(context.Context, Request) error { return nil }))
		p.run(t, func(ctx context.Context) {
			worst := time.Duration(0)
			for i := range uint32(50) {
				time.Sleep(time.Duration(10_000+37*i) * time.Millisecond)
				start := time.Now()
				if err := p.host.Extend(ctx, Message{SizeMiB: i + 1}); err != nil {
					t.Fatal(err)
				}
				worst = max(worst, time.Since(start))
			}
			t.Logf("worst of 50: %v", worst)
			if worst > 200*time.Millisecond {
				t.Error("too slow")
			}
		})
	})
}

// TestExtend_fullPage: 63 at once, then more than there are slots, with a small queue.
func TestExtend_fullPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		small := func(_ *HostOptions, so *ServerOptions) { so.Workers, so.Queue = 8, 8 }
		p := newPair(t, plant.Bugs{}, small, extendFunc(func(ctx context.Context, _ Request) error {
			calls.Add(1)
			pause(ctx, 20*time.Millisecond)
			return nil
		}))
		p.run(t, func(ctx context.Context) {
			for _, n := range []int{slotCount, 3 * slotCount} {
				calls.Store(0)
				start, wg := time.Now(), sync.WaitGroup{}
				for i := range n {
					wg.Go(func() {
						if err := p.host.Extend(ctx, Message{Volume: UUID{byte(i)}, SizeMiB: uint32(n)}); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				t.Logf("%d at once: %v", n, time.Since(start))
				if n == slotCount && time.Since(start) > time.Second {
					t.Error("too slow")
				}
				if calls.Load() != int64(n) {
					t.Errorf("%d calls for %d requests", calls.Load(), n)
				}
			}
		})
	})
}

// TestExtend_equal: equal requests at the same time share a slot and an answer.
func TestExtend_equal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		p := newPair(t, plant.Bugs{}, noEdit, extendFunc(func(ctx context.Context, _ Request) error {
			calls.Add(1)
			pause(ctx, time.Second)
			return errors.New("full")
		}))
		p.run(t, func(ctx context.Context) {
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					if err := p.host.Extend(ctx, Message{SizeMiB: 9}); !errors.Is(err, ErrRefused) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
		if calls.Load() != 1 {
			t.Errorf("%d calls", calls.Load())
		}
	})
}

// stuck reports how long a request took whose handler does not come back for an hour.
func stuck(t *testing.T, bugs plant.Bugs) (took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		patient := func(ho *HostOptions, _ *ServerOptions) { ho.WithdrawAfter = 30 * time.Minute }
		p := newPair(t, bugs, patient, extendFunc(func(context.Context, Request) error { time.Sleep(time.Hour); return nil }))
		p.run(t, func(ctx context.Context) {
			start := time.Now()
			err = p.host.Extend(ctx, Message{SizeMiB: 1})
			took = time.Since(start)
		})
	})
	return took, err
}

// TestServer_stuckHandler: a handler that is deaf to its context costs its request and no more.
func TestServer_stuckHandler(t *testing.T) {
	t.Parallel()
	if took, err := stuck(t, plant.Bugs{}); !errors.Is(err, ErrRefused) || took > 62*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	if _, err := stuck(t, plant.Bugs{NoAnswerDeadline: true}); !errors.Is(err, ErrWithdrawn) {
		t.Errorf("planted: %v", err)
	}
}

// TestServer_leaseLost: nothing is answered, and Run says so.
func TestServer_leaseLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, plant.Bugs{}, noEdit, extendFunc(func(context.Context, Request) error { t.Error("handled"); return nil }))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- p.server.Run(ctx) }()
		time.Sleep(time.Second)
		p.guard.lose()
		page := golden(t, "mailbox_host7_request.page")
		p.inbox.SetBytes(7*pageSize, page)
		p.inbox.SetBytes(0, golden(t, "mailbox_event_block.page"))
		if err := <-done; !errors.Is(err, blockdev.ErrLeaseLost) {
			t.Error(err)
		}
		if used, _ := DecodeOutboxPage(p.outbox.Bytes(7*pageSize, pageSize)); len(used) != 0 {
			t.Error("answered without the lease: ", used)
		}
	})
}

// TestServer_goldenRequest: the bytes of VDSM's host are answered with the bytes of VDSM's SPM, each step of the way.
func TestServer_goldenRequest(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]bool{"mailbox_host7_reply_ok.page": false, "mailbox_host7_reply_failed.page": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, plant.Bugs{}, noEdit, extendFunc(func(context.Context, Request) error {
					if fail {
						return errors.New("full")
					}
					return nil
				}))
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				wg.Go(func() { _ = p.server.Run(ctx) })
				for _, step := range [][2]string{{"mailbox_host7_request.page", name}, {"mailbox_host7_clean.page", "mailbox_host7_reply_clean.page"},
					{"", "mailbox_host7_reply_clean.page"}} {
					page := make([]byte, pageSize)
					if step[0] != "" {
						page = golden(t, step[0])
					}
					p.inbox.SetBytes(7*pageSize, page)
					p.inbox.SetBytes(0, encodeEvent(UUID{page[5], byte(len(step[1]))}))
					time.Sleep(500 * time.Millisecond)
					if got := p.outbox.Bytes(7*pageSize, pageSize); string(got) != string(golden(t, step[1])) {
						t.Errorf("after %q: not %s", step[0], step[1])
					}
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// TestConfig_refuses what cannot work.
func TestConfig_refuses(t *testing.T) {
	t.Parallel()
	mem := blockdev.NewMem(250*pageSize, 512)
	host := HostConfig{Inbox: mem, Outbox: mem, HostID: 1, Options: DefaultHostOptions(), Log: quiet()}
	for name, edit := range map[string]func(*HostConfig){
		"id 0":      func(c *HostConfig) { c.HostID = 0 },
		"id 250":    func(c *HostConfig) { c.HostID = 250 },
		"no log":    func(c *HostConfig) { c.Log = nil },
		"no inbox":  func(c *HostConfig) { c.Inbox = nil },
		"too small": func(c *HostConfig) { c.Outbox = blockdev.NewMem(pageSize, 512) },
		"no time":   func(c *HostConfig) { c.Options.Quarantine = 0 },
		"polls":     func(c *HostConfig) { c.Options.LastPoll = 1 },
		"queue":     func(c *HostConfig) { c.Options.Queue = 0 },
	} {
		c := host
		edit(&c)
		if _, err := NewHost(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	server := ServerConfig{Inbox: mem, Outbox: mem, Guard: &simGuard{}, Handler: extendFunc(nil), Options: DefaultServerOptions(), Log: quiet()}
	for name, edit := range map[string]func(*ServerConfig){
		"no guard":   func(c *ServerConfig) { c.Guard = nil },
		"no handler": func(c *ServerConfig) { c.Handler = nil },
		"too small":  func(c *ServerConfig) { c.Options.Hosts = 251 },
		"no pages":   func(c *ServerConfig) { c.Options.Hosts = 1 },
		"workers":    func(c *ServerConfig) { c.Options.Workers = 0 },
		"no time":    func(c *ServerConfig) { c.Options.Repeat = 0 },
	} {
		c := server
		edit(&c)
		if _, err := NewServer(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
