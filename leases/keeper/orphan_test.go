package keeper

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
)

// orphanage is a client whose keeper is the test.
type orphanage struct {
	t    *testing.T
	c    *Client
	conn net.Conn
	in   chan request
}

func inOrphanage(t *testing.T, f func(*orphanage)) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		o := &orphanage{t: t, conn: theirs, in: make(chan request, 16)}
		o.c = &Client{log: quiet(), page: &page{words: make([]uint64, pageBytes/8)}, clock: clock.System{}, conn: ours, done: make(chan struct{}),
			waiting: map[uint64]chan *response{}, grants: map[string]*grant{}, orphans: map[uint64]*orphan{}, notices: make(chan *response, maxNotices)}
		o.c.loops.Go(o.c.receive)
		go func() {
			defer close(o.in)
			for {
				var req request
				if readFrame(theirs, &req) != nil {
					return
				}
				o.in <- req
			}
		}()
		f(o)
		_ = ours.Close()
		_ = theirs.Close()
		o.c.loops.Wait()
	})
}

// acquire waits for an answer for a second.
func (o *orphanage) acquire() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := o.c.Acquire(ctx, ResourceSpec{Lockspace: "space", Name: "res", Device: "lun", Offset: mib})
	return err
}

// asked is the next thing that the client wants, or nothing.
func (o *orphanage) asked() request {
	synctest.Wait()
	select {
	case req := <-o.in:
		return req
	default:
		return request{}
	}
}

func (o *orphanage) answer(resp response) {
	if err := writeFrame(o.conn, &resp); err != nil {
		o.t.Error(err)
	}
	synctest.Wait()
}

// abandoned lets an acquire run into its limit and returns what the keeper was asked.
func (o *orphanage) abandoned() request {
	o.t.Helper()
	if err := o.acquire(); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
		o.t.Fatal(err)
	}
	req, cancel := o.asked(), o.asked()
	if req.Method != methodAcquire || cancel.Method != methodCancel {
		o.t.Fatalf("%+v, %+v", req, cancel)
	}
	return req
}

// TestClient_acquireAfterOrphan: while the lease of an acquire that was given up is on its way back, the same resource cannot
// be acquired: the answer would be the lease that is being freed.
func TestClient_acquireAfterOrphan(t *testing.T) {
	inOrphanage(t, func(o *orphanage) {
		first := o.abandoned()
		if err := o.acquire(); !errors.Is(err, leases.ErrBusy) {
			t.Errorf("before the answer: %v", err)
		}
		o.answer(response{ID: first.ID, Version: 7})
		back := o.asked()
		if back.Method != methodRelease || back.Resource.Name != "res" {
			t.Errorf("%+v", back)
		}
		if err := o.acquire(); !errors.Is(err, leases.ErrBusy) {
			t.Errorf("before the release: %v", err)
		}
		o.answer(response{ID: back.ID})
		o.abandoned() // the keeper is asked again
	})
}

// TestClient_orphanOfHeld: a lease that is held and was asked for once more is not given back, for there may be writes under it.
func TestClient_orphanOfHeld(t *testing.T) {
	inOrphanage(t, func(o *orphanage) {
		spec := ResourceSpec{Lockspace: "space", Name: "res"}
		o.c.granted(&spec, &response{Version: 7})
		again := o.abandoned()
		o.answer(response{ID: again.ID, Version: 7})
		if req := o.asked(); req.Method != "" {
			t.Errorf("%+v", req)
		}
		o.abandoned()
	})
}

// TestClient_orphanRefused: there is nothing to give back.
func TestClient_orphanRefused(t *testing.T) {
	inOrphanage(t, func(o *orphanage) {
		first := o.abandoned()
		o.answer(response{ID: first.ID, Error: toWire(leases.ErrHeld)})
		if req := o.asked(); req.Method != "" {
			t.Errorf("%+v", req)
		}
		o.abandoned()
	})
}
