package interop

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// TestRequest_fromUs is the first half of test 14: we ask for what a sanlock user holds. GRACEFUL ends it by SIGTERM and
// FORCE by SIGKILL, and then the lease is ours.
func TestRequest_fromUs(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	for i, c := range []struct {
		mode leases.ForceMode
		want syscall.Signal
	}{{leases.RequestGraceful, syscall.SIGTERM}, {leases.RequestForce, syscall.SIGKILL}} {
		t.Run(c.want.String(), func(t *testing.T) {
			t.Parallel()
			i := i + 1
			u := startUser(t, d)
			u.must("acquire", 0, l.theirs(i))
			begin := boot()
			if info, err := h.Request(within(t, 10*time.Second), h.spec(i), 0, c.mode); err != nil || info.Owner != 5 || info.Takeable {
				t.Fatalf("%+v, %v", info, err)
			}
			if sig := u.endedBy(20 * time.Second); sig != c.want {
				t.Fatalf("the holder ended by %v", sig)
			}
			t.Logf("%v %v after the request", c.want, (boot() - begin).Round(10*time.Millisecond))
			lease, err := h.eventually(i, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			h.release(lease)
			if err := h.Settle(within(t, 10*time.Second)); err != nil {
				t.Error(err)
			}
			if req, err := h.ReadRequest(within(t, 10*time.Second), h.spec(i)); err != nil || req.Lver != 0 {
				t.Errorf("the request stays: %+v, %v", req, err)
			}
		})
	}
}

// TestRequest_sharedNeverAsked: a shared resource is not asked for, for sanlock's sake (pitfall 8.7): the daemon lives.
func TestRequest_sharedNeverAsked(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	u := startUser(t, d)
	u.must("acquire", 0, l.theirs(1)+":SH")
	if _, err := h.Request(within(t, 10*time.Second), h.spec(1), 0, leases.RequestForce); !errors.Is(err, leases.ErrShared) {
		t.Errorf("%v", err)
	}
	// A request that was answered must not lie in wait for those who share later.
	u2 := startUser(t, d)
	u2.must("acquire", 0, l.theirs(2))
	if _, err := h.Request(within(t, 10*time.Second), h.spec(2), 0, leases.RequestForce); err != nil {
		t.Fatal(err)
	}
	if sig := u2.endedBy(20 * time.Second); sig != syscall.SIGKILL {
		t.Fatalf("the holder ended by %v", sig)
	}
	retry(t, 10*time.Second, func() error {
		if err := h.Settle(within(t, 10*time.Second)); err != nil {
			return err
		}
		req, err := h.ReadRequest(within(t, 10*time.Second), h.spec(2))
		if err == nil && req.Lver != 0 {
			err = fmt.Errorf("the request stays: %+v", req)
		}
		return err
	})
	u3 := startUser(t, d)
	u3.must("acquire", 0, l.theirs(2)+":SH")
	if _, err := d.client("examine", "-r", l.theirs(2)); err != nil { // look now, not when told
		t.Error(err)
	}
	if sig := u3.endedBy(4 * fast); sig != 0 || !d.joined() {
		t.Errorf("the sharer ended by %v, daemon joined: %v", sig, d.joined())
	}
	if sig := u.endedBy(0); sig != 0 {
		t.Errorf("the first sharer ended by %v", sig)
	}
}

// TestRequest_toUs is the other half: a sanlock host asks, and the agent hears of it from its keeper, without looking by
// itself (the bit in the sender's record) and with.
func TestRequest_toUs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		watching bool
		mode     leases.ForceMode
	}{
		"told by the record": {false, leases.RequestGraceful},
		"looking":            {true, leases.RequestGraceful},
		"by force":           {true, leases.RequestForce},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLUN(t, lunOptions{})
			d := startDaemon(t, l, "a")
			d.join(5, fast)
			seen := make(chan keeper.RequestSeen, 10)
			k := startKeeper(t, l, func(cfg *keeper.Config) { cfg.OnRequest = func(r keeper.RequestSeen) { seen <- r } })
			_, res := l.keeperSpecs(3, fast, 1)
			res.WatchRequests = c.watching
			if _, err := k.Acquire(within(t, 10*time.Second), res); err != nil {
				t.Fatal(err)
			}
			retry(t, 20*time.Second, func() error { return inState(d.state(3), "LIVE") })
			u := startUser(t, d)
			begin := boot()
			u.must("request", nextVersion, int(c.mode), l.theirs(1))
			select {
			case r := <-seen:
				t.Logf("%s: seen %v after the request", name, (boot() - begin).Round(10*time.Millisecond))
				if r.Lver != 2 || r.Mode != c.mode || r.Resource != resName(1) {
					t.Errorf("%+v", r)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("the request was not seen")
			}
			if took := boot() - begin; c.watching && took > 2*time.Second {
				t.Errorf("seen only after %v", took)
			}
			if err := k.Release(within(t, 10*time.Second), res); err != nil {
				t.Fatal(err)
			}
			if rc, v := u.acquire(l.theirs(1), 0); rc < 0 || v != 2 {
				t.Errorf("%d, version %d", rc, v)
			}
		})
	}
}

// startKeeper starts a keeper that is host 3.
func startKeeper(t *testing.T, l *lun, with func(*keeper.Config)) *keeper.Client {
	t.Helper()
	cfg := keeperConfig(l.dir)
	with(&cfg)
	k, err := keeper.Start(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(within(t, 30*time.Second)); err != nil {
			t.Errorf("keeper: %v", err)
		}
	})
	ls, _ := l.keeperSpecs(3, fast, 1)
	if _, err := k.Join(within(t, 30*time.Second), ls); err != nil {
		t.Fatal(err)
	}
	return k
}

// TestEvents is the end of test 14: host events in both directions, with the values they were sent with.
func TestEvents(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	seen := make(chan leases.HostEvent, 10)
	cfg := hostConfig(l, 3, fast)
	cfg.OnEvent = func(e leases.HostEvent) { seen <- e }
	h := joinHost(t, l, cfg)
	u := startUser(t, d)
	u.must("listen", space)
	retry(t, 20*time.Second, func() error { return inState(d.state(3), "LIVE") })
	retry(t, 20*time.Second, func() error { return inState(string(h.HostStatus(5).State), "LIVE") })

	begin := boot()
	u.must("send", space, 3, 1, "0x1122334455667788", "0x99aabbccddeeff00")
	select {
	case e := <-seen:
		want := leases.HostEvent{From: 5, FromGeneration: 1, Generation: 1, Event: 0x1122334455667788, Data: 0x99aabbccddeeff00}
		if e != want {
			t.Errorf("%+v", e)
		}
		t.Logf("their event came after %v", (boot() - begin).Round(10*time.Millisecond))
	case <-time.After(30 * time.Second):
		t.Fatal("their event did not come")
	}

	begin = boot()
	if err := h.SendEvent(within(t, 5*time.Second), 5, 1, 77, 88); err != nil {
		t.Fatal(err)
	}
	rc, rest := u.do("event", 30000)
	if want := "3 1 1 77 88"; rc != 0 || strings.TrimSpace(rest) != want {
		t.Errorf("our event: %d %q, want %q", rc, rest, want)
	}
	t.Logf("our event came after %v", (boot() - begin).Round(10*time.Millisecond))
	select {
	case e := <-seen:
		t.Errorf("their event came again: %+v", e)
	case <-time.After(4 * fast):
	}
}
