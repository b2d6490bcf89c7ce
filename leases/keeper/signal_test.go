package keeper

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// listener is a keeper whose notices can be read.
type listener struct {
	*Client
	requests chan RequestSeen
	events   chan leases.HostEvent
}

func listening(t *testing.T, lun string, host int) *listener {
	t.Helper()
	l := &listener{requests: make(chan RequestSeen, 64), events: make(chan leases.HostEvent, 64)}
	cfg := testConfig(t.TempDir())
	cfg.OnRequest = func(r RequestSeen) { l.requests <- r }
	cfg.OnEvent = func(_ string, e leases.HostEvent) { l.events <- e }
	c, err := Start(testutil.Deadline(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.Client = c
	t.Cleanup(func() {
		if err := c.Close(testutil.Deadline(t)); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	ls, _ := specs(lun, host)
	if _, err := c.Join(testutil.Deadline(t), ls); err != nil {
		t.Fatal(err)
	}
	return l
}

// pair is two keepers on one file.
func pair(t *testing.T) (lun string, a, b *listener) {
	t.Helper()
	lun = newLUN(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b = listening(t, lun, 2)
	}()
	a = listening(t, lun, 1)
	<-done
	if b == nil {
		t.FailNow()
	}
	return lun, a, b
}

// await takes the next notice.
func await[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-testutil.Deadline(t).Done():
		t.Fatal("no notice came")
	}
	return v
}

// looks waits until the keeper has seen so many renewals of another host.
func (l *listener) looks(t *testing.T, host, times int) {
	t.Helper()
	var last uint64
	seen := -1
	testutil.Retry(t, time.Minute, func() error {
		hosts, err := l.Hosts(testutil.Deadline(t), "space")
		if err != nil {
			return err
		}
		for _, h := range hosts {
			if h.HostID == host && h.Timestamp != last {
				last = h.Timestamp
				seen++
			}
		}
		if seen < times {
			return fmt.Errorf("%d renewals seen", seen)
		}
		return nil
	})
}

// TestKeeper_request: a request that travels only through the storage reaches the holder within a second, once, and the
// requester gets the lease when the holder gives way.
func TestKeeper_request(t *testing.T) {
	t.Parallel()
	lun, a, b := pair(t)
	ctx := testutil.Deadline(t)
	_, res := specs(lun, 1)
	if info, err := b.Request(ctx, res, 0, leases.RequestGraceful); err != nil || !info.Takeable {
		t.Errorf("request for what is free: %+v, %v", info, err)
	}
	watched := res
	watched.WatchRequests = true
	v, err := a.Acquire(ctx, watched)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Request(ctx, res, 0, leases.RequestGraceful); !errors.Is(err, leases.ErrHeldHere) {
		t.Errorf("request for our own: %v", err)
	}
	if _, err := b.Request(ctx, res, v+2, leases.RequestGraceful); !errors.Is(err, leases.ErrRequest) {
		t.Errorf("request for a later version: %v", err)
	}
	begin := time.Now()
	if info, err := b.Request(ctx, res, 0, leases.RequestGraceful); err != nil || info.Owner != 1 {
		t.Fatalf("%+v, %v", info, err)
	}
	seen := await(t, a.requests)
	if took := time.Since(begin); took > 2*time.Second || seen != (RequestSeen{Lockspace: "space", Resource: "res", Lver: v + 1, Mode: leases.RequestGraceful}) {
		t.Errorf("%+v after %v", seen, took)
	}
	// The bit that b sets says the same, at its next renewal; it must not be told twice.
	a.looks(t, 2, 2)
	if n := len(a.requests); n != 0 {
		t.Errorf("%d more notices", n)
	}
	if err := b.ClearRequest(ctx, res); err != nil {
		t.Fatal(err)
	}
	a.looks(t, 2, 1) // and at the empty record, each half second
	if _, err := b.Request(ctx, res, 0, leases.RequestGraceful); err != nil {
		t.Fatal(err)
	}
	if seen := await(t, a.requests); seen.Lver != v+1 {
		t.Errorf("asked anew: %+v", seen)
	}
	if err := a.Release(ctx, res); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Acquire(ctx, res); err != nil || got != v+1 {
		t.Errorf("%d, %v", got, err)
	}
	if n := len(a.requests); n != 0 {
		t.Errorf("%d more notices", n)
	}
}

// TestKeeper_requestByBit: without watching, the bit in the requester's record makes the holder look.
func TestKeeper_requestByBit(t *testing.T) {
	t.Parallel()
	lun, a, b := pair(t)
	ctx := testutil.Deadline(t)
	_, res := specs(lun, 1)
	v, err := a.Acquire(ctx, res)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Request(ctx, res, v+1, leases.RequestForce); err != nil {
		t.Fatal(err)
	}
	if seen := await(t, a.requests); seen.From != 2 || seen.Lver != v+1 || seen.Mode != leases.RequestForce {
		t.Errorf("%+v", seen)
	}
	if err := b.ClearRequest(ctx, res); err != nil {
		t.Error(err)
	}
}

// TestKeeper_event: an event reaches the host that it is for, once.
func TestKeeper_event(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	ctx := testutil.Deadline(t)
	if err := b.SendEvent(ctx, "space", 1, 1, 7, 8); err != nil {
		t.Fatal(err)
	}
	if got := await(t, a.events); got != (leases.HostEvent{From: 2, FromGeneration: 1, Generation: 1, Event: 7, Data: 8}) {
		t.Errorf("%+v", got)
	}
	a.looks(t, 2, 1)
	if len(a.events) != 0 || len(b.events) != 0 {
		t.Errorf("%d and %d more", len(a.events), len(b.events))
	}
}

// TestKeeper_shared: guards of shared and converted leases.
func TestKeeper_shared(t *testing.T) {
	t.Parallel()
	lun, a, b := pair(t)
	ctx := testutil.Deadline(t)
	_, res := specs(lun, 1)
	shared := res
	shared.Shared, shared.LVB = true, true
	both(t, a, b, shared)
	guard := a.Guard("space", "res")
	if err := guard.Check(0); err != nil {
		t.Error(err)
	}
	if _, err := a.Acquire(ctx, res); !errors.Is(err, leases.ErrHeldHere) {
		t.Errorf("exclusive what is held shared: %v", err)
	}
	if _, err := a.Convert(ctx, shared, false); !errors.Is(err, leases.ErrHeld) {
		t.Errorf("converted beside a sharer: %v", err)
	}
	if err := guard.Check(0); err != nil {
		t.Errorf("after a refused conversion: %v", err)
	}
	if err := b.Release(ctx, shared); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Convert(ctx, shared, false); err != nil {
		t.Fatal(err)
	}
	exclusive := a.Guard("space", "res")
	if err := guard.Check(0); !errors.Is(err, blockdev.ErrLeaseLost) || exclusive.Check(0) != nil {
		t.Errorf("old guard %v, new guard %v", err, exclusive.Check(0))
	}
	if err := a.SetLVB(ctx, res, []byte("hello")); err != nil {
		t.Error(err)
	}
	if _, err := a.Convert(ctx, res, true); err != nil {
		t.Fatal(err)
	}
	if err := exclusive.Check(0); !errors.Is(err, blockdev.ErrLeaseLost) || a.Guard("space", "res").Check(0) != nil {
		t.Errorf("old guard %v, new guard %v", err, a.Guard("space", "res").Check(0))
	}
	if err := a.SetLVB(ctx, res, nil); !errors.Is(err, leases.ErrLVB) {
		t.Errorf("a sharer's lock value block: %v", err)
	}
	both(t, a, b, shared)
	if v, err := b.LVB(ctx, res); err != nil || string(v[:6]) != "hello\x00" {
		t.Errorf("%q, %v", v, err)
	}
	if info, err := b.Inspect(ctx, res); err != nil || info.State != leases.ResourceShared || len(info.Sharers) != 2 {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := b.Request(ctx, res, 0, leases.RequestForce); !errors.Is(err, leases.ErrShared) {
		t.Errorf("request by force to sharers: %v", err)
	}
}

// both makes both hosts sharers.
func both(t *testing.T, a, b *listener, spec ResourceSpec) {
	t.Helper()
	for _, c := range []*listener{a, b} {
		if _, err := c.Acquire(testutil.Deadline(t), spec); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeeper_convertWhileReleased: whatever order a conversion and a release come in, nothing is left behind.
func TestKeeper_convertWhileReleased(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	a := listening(t, lun, 1)
	ctx := testutil.Deadline(t)
	_, res := specs(lun, 1)
	for round := range 20 {
		shared := res
		shared.Shared = round%2 == 0
		if _, err := a.Acquire(ctx, shared); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := a.Convert(ctx, res, !shared.Shared)
			done <- err
		}()
		if err := a.Release(ctx, res); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := <-done; err != nil && !errors.Is(err, leases.ErrNotHeld) {
			t.Errorf("round %d: converting: %v", round, err)
		}
		if info, err := a.Inspect(ctx, res); err != nil || info.State != leases.ResourceFree {
			t.Fatalf("round %d: left behind: %+v, %v", round, info, err)
		}
		if err := a.Guard("space", "res").Check(0); err == nil {
			t.Fatalf("round %d: a guard says yes for what was released", round)
		}
	}
}
