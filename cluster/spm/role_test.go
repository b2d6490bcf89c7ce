package spm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

func create(name string) CreateRequest {
	return CreateRequest{Key: "k-" + name, Name: name, Size: 1 << 30}
}

// bubble runs fn with a started role on a fresh lun.
func bubble(t *testing.T, fn func(t *testing.T, l *lun, m *fakeMirror, r *Role, h *hostLease)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, m := newLUN(), &fakeMirror{}
		r, h := newRole(t, l, m, 1)
		rep, err := r.Start(t.Context(), StartRequest{ExpectVersion: 3, Reason: "test"})
		if err != nil || rep.Epoch != 4 {
			t.Fatalf("start: %+v, %v", rep, err)
		}
		fn(t, l, m, r, h)
	})
}

func TestRole_createDelete(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
		rep, err := r.CreateVolume(t.Context(), create("a"))
		if err != nil || !rep.Mirrored || rep.Index == 0 || rep.Epoch != 4 || rep.Domain != "dom" {
			t.Fatalf("%+v, %v", rep, err)
		}
		again, err := r.CreateVolume(t.Context(), create("a"))
		if err != nil || again.Volume.ID != rep.Volume.ID || again.Volume.Image != rep.Volume.Image {
			t.Fatalf("same key, other volume: %+v, %v", again, err)
		}
		other := create("a")
		other.Size *= 2
		if _, err := r.CreateVolume(t.Context(), other); !errors.Is(err, domain.ErrConflict) {
			t.Fatalf("same key, other size: %v", err)
		}
		if _, err := r.DeleteVolume(t.Context(), "data", rep.Volume.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := r.DeleteVolume(t.Context(), "", rep.Volume.ID); !errors.Is(err, domain.ErrNotFound) {
			t.Fatalf("second delete: %v", err)
		}
		if !m.same(l) {
			t.Fatal("mirror differs from disk")
		}
	})
}

func TestRole_startNeedsTheDecidedVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLUN()
		r, _ := newRole(t, l, &fakeMirror{}, 1)
		if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 2}); !errors.Is(err, ErrChanged) {
			t.Fatalf("err = %v", err)
		}
		if st := r.Status(); st.State != StateNone || l.holder != 0 {
			t.Fatalf("%+v, holder %d", st, l.holder)
		}
	})
}

func TestRole_startFailsGivesTheLeaseBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLUN()
		l.readErr = errors.New("cannot read")
		r, _ := newRole(t, l, &fakeMirror{}, 1)
		if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 3}); err == nil {
			t.Fatal("started on a disk that cannot be read")
		}
		if l.holder != 0 {
			t.Fatal("the lease was kept")
		}
	})
}

func TestRole_moveKeepsEverything(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, a *Role, _ *hostLease) {
		b, _ := newRole(t, l, m, 2)
		for i := range 20 {
			if _, err := a.CreateVolume(t.Context(), create(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		if rep, err := a.Stop(t.Context(), StopRequest{Epoch: 4}); err != nil || !rep.WasServing || rep.Unmirrored != 0 {
			t.Fatalf("%+v, %v", rep, err)
		}
		if _, err := a.CreateVolume(t.Context(), create("late")); !errors.Is(err, ErrNotSPM) {
			t.Fatalf("after stop: %v", err)
		}
		if rep, err := b.Start(t.Context(), StartRequest{ExpectVersion: 4}); err != nil || rep.Epoch != 5 || rep.Volumes != 20 {
			t.Fatalf("%+v, %v", rep, err)
		}
		if d := time.Since(begun); d > 100*time.Millisecond {
			t.Fatalf("the steps themselves wait %s", d)
		}
		if rep, err := b.CreateVolume(t.Context(), create("late")); err != nil || rep.Epoch != 5 {
			t.Fatalf("%+v, %v", rep, err)
		}
		if !m.same(l) {
			t.Fatal("mirror differs from disk")
		}
	})
}

func TestRole_stopOfAnotherEpochIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		if _, err := r.Stop(t.Context(), StopRequest{Epoch: 9}); !errors.Is(err, ErrChanged) {
			t.Fatalf("err = %v", err)
		}
		if r.Status().State != StateServing {
			t.Fatal("it stopped")
		}
	})
}

func TestRole_withoutQuorumTheDiskPartHappens(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
		synctest.Wait()
		m.setDown(true)
		for i := range 5 {
			rep, err := r.CreateVolume(t.Context(), create(fmt.Sprint(i)))
			if err != nil || rep.Mirrored || rep.Index != 0 {
				t.Fatalf("%+v, %v", rep, err)
			}
		}
		if r.Status().Backlog == 0 || len(l.vols) != 5 {
			t.Fatalf("backlog %d, %d volumes", r.Status().Backlog, len(l.vols))
		}
		m.setDown(false)
		time.Sleep(2 * time.Second)
		if !m.same(l) || strings.Join(m.order, "") != "01234" {
			t.Fatalf("the entries did not follow in order: %v", m.order)
		}
	})
}

func TestRole_aLongOutageBecomesOneReconcile(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
		synctest.Wait()
		m.setDown(true)
		var wg sync.WaitGroup
		for i := range maxBacklog + 100 {
			wg.Go(func() {
				if _, err := r.CreateVolume(t.Context(), create(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := r.Status().Backlog; n > maxBacklog {
			t.Fatalf("backlog %d", n)
		}
		m.setDown(false)
		time.Sleep(10 * time.Second)
		if !m.same(l) {
			t.Fatal("mirror differs from disk")
		}
	})
}

func TestRole_stopWithoutQuorumIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
		synctest.Wait()
		m.setDown(true)
		done := make(chan VolumeReply)
		go func() {
			rep, err := r.CreateVolume(t.Context(), create("a"))
			if err != nil {
				t.Error(err)
			}
			done <- rep
		}()
		synctest.Wait()
		begun := time.Now()
		rep, err := r.Stop(t.Context(), StopRequest{})
		if err != nil || rep.Unmirrored == 0 || l.holder != 0 {
			t.Fatalf("%+v, %v, holder %d", rep, err, l.holder)
		}
		if d := time.Since(begun); d > time.Second {
			t.Fatalf("stop took %s", d)
		}
		if rep := <-done; rep.Mirrored {
			t.Fatal("mirrored without a quorum")
		}
	})
}

func TestRole_leaseLostInMidCreate(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, h *hostLease) {
		l.mu.Lock()
		l.hang = make(chan struct{})
		l.mu.Unlock()
		errs := make(chan error)
		go func() {
			_, err := r.CreateVolume(t.Context(), create("a"))
			errs <- err
		}()
		synctest.Wait()
		h.lose()
		err := <-errs // the watch sees it within GuardPoll and ends the request
		if !errors.Is(err, blockdev.ErrOutcomeUnknown) && !errors.Is(err, ErrNotSPM) {
			t.Fatalf("err = %v", err)
		}
		if _, err := r.CreateVolume(t.Context(), create("b")); !errors.Is(err, ErrNotSPM) {
			t.Fatalf("after the loss: %v", err)
		}
		time.Sleep(time.Second)
		if st := r.Status(); st.State != StateNone || len(l.writes) != 0 {
			t.Fatalf("%+v, %d writes", st, len(l.writes))
		}
	})
}

func TestRole_keeperDies(t *testing.T) {
	bubble(t, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role, h *hostLease) {
		watch := make(chan Status)
		go func() { watch <- r.Watch(t.Context(), 4) }()
		synctest.Wait()
		close(h.done)
		if st := <-watch; st.State == StateServing {
			t.Fatalf("%+v", st)
		}
		var e *NotSPMError
		if _, err := r.CreateVolume(t.Context(), create("a")); !errors.As(err, &e) {
			t.Fatalf("err = %v", err)
		}
	})
}

// The lease must be kept while a write that timed out may still land.
func TestRole_pendingWritesKeepTheLease(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, a *Role, _ *hostLease) {
		b, _ := newRole(t, l, m, 2)
		l.mu.Lock()
		l.pending = 1
		l.mu.Unlock()
		stopped := make(chan error)
		go func() {
			_, err := a.Stop(t.Context(), StopRequest{})
			stopped <- err
		}()
		time.Sleep(5 * time.Second)
		if _, err := b.Start(t.Context(), StartRequest{ExpectVersion: 4}); err == nil {
			t.Fatal("a second writer while the first one's write may land")
		}
		l.mu.Lock()
		l.pending = 0
		l.mu.Unlock()
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		if _, err := b.Start(t.Context(), StartRequest{ExpectVersion: 4}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRole_pendingForeverIsReportedAndAskedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		l.mu.Lock()
		l.pending = 1
		l.mu.Unlock()
		if _, err := r.Stop(t.Context(), StopRequest{}); !errors.Is(err, ErrPending) || l.holder != 1 {
			t.Fatalf("err = %v, holder %d", err, l.holder)
		}
		l.mu.Lock()
		l.pending = 0
		l.mu.Unlock()
		if _, err := r.Stop(t.Context(), StopRequest{}); err != nil || l.holder != 0 {
			t.Fatalf("err = %v, holder %d", err, l.holder)
		}
	})
}

func TestRole_unknownOutcome(t *testing.T) {
	for _, landed := range []bool{true, false} {
		t.Run(fmt.Sprintf("landed=%v", landed), func(t *testing.T) {
			bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
				l.mu.Lock()
				l.next, l.landed = domain.ErrOutcomeUnknown, landed
				l.mu.Unlock()
				rep, err := r.CreateVolume(t.Context(), create("a"))
				if landed && (err != nil || rep.Volume.Name != "a") {
					t.Fatalf("%+v, %v", rep, err)
				}
				if !landed && !errors.Is(err, ErrNotCommitted) {
					t.Fatalf("err = %v", err)
				}
				if _, err := r.CreateVolume(t.Context(), create("a")); err != nil {
					t.Fatalf("the same key again: %v", err)
				}
				time.Sleep(time.Second)
				if !m.same(l) || len(l.vols) != 1 {
					t.Fatal("mirror differs from disk")
				}
			})
		})
	}
}

func TestRole_unreadableAfterDoubtHandsOver(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		l.mu.Lock()
		l.next, l.readErr = domain.ErrOutcomeUnknown, errors.New("cannot read")
		l.mu.Unlock()
		if _, err := r.CreateVolume(t.Context(), create("a")); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Fatalf("err = %v", err)
		}
		time.Sleep(time.Second)
		if r.Status().State != StateNone || l.holder != 0 {
			t.Fatalf("%+v, holder %d", r.Status(), l.holder)
		}
	})
}

func TestRole_stopEndsRequestsThatTakeTooLong(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		l.mu.Lock()
		l.hang = make(chan struct{})
		l.mu.Unlock()
		errs := make(chan error)
		go func() {
			_, err := r.CreateVolume(t.Context(), create("a"))
			errs <- err
		}()
		synctest.Wait()
		begun := time.Now()
		if _, err := r.Stop(t.Context(), StopRequest{}); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d > 4*time.Second {
			t.Fatalf("stop took %s", d)
		}
		if err := <-errs; err == nil {
			t.Fatal("a cancelled request succeeded")
		}
	})
}

func TestRole_closedRefusesStart(t *testing.T) {
	bubble(t, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 4}); !errors.Is(err, ErrBusy) {
			t.Fatalf("err = %v", err)
		}
	})
}

func TestRole_handlers(t *testing.T) {
	bubble(t, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		out, err := r.Handlers()[MethodWatch](t.Context(), "h9", []byte(`{"epoch":3,"wait_ns":1000}`))
		if st, ok := out.(Status); err != nil || !ok || st.Epoch != 4 {
			t.Fatalf("%+v, %v", out, err)
		}
		if _, err := r.Handlers()[MethodStop](t.Context(), "h9", []byte(`{`)); !errors.Is(err, ErrInvalid) {
			t.Fatalf("err = %v", err)
		}
	})
}

func TestCreateRequest_refused(t *testing.T) {
	t.Parallel()
	r := &Role{cfg: Config{Pool: "p"}}
	change := map[string]func(*CreateRequest){
		"no name":           func(c *CreateRequest) { c.Name = "" },
		"long name":         func(c *CreateRequest) { c.Name = strings.Repeat("x", 256) },
		"control character": func(c *CreateRequest) { c.Name = "a\x00b" },
		"newline":           func(c *CreateRequest) { c.Description = "a\nb" },
		"bad utf-8":         func(c *CreateRequest) { c.Name = "\xff" },
		"space at the end":  func(c *CreateRequest) { c.Name = "a " },
		"size 0":            func(c *CreateRequest) { c.Size = 0 },
		"size negative":     func(c *CreateRequest) { c.Size = -1 },
		"size absurd":       func(c *CreateRequest) { c.Size = 8<<40 + 1 },
		"initial negative":  func(c *CreateRequest) { c.InitialSize = -1 },
		"initial absurd":    func(c *CreateRequest) { c.InitialSize = 1 << 62 },
		"format":            func(c *CreateRequest) { c.Format = "vmdk" },
		"allocation":        func(c *CreateRequest) { c.Allocation = "thick" },
		"sparse raw":        func(c *CreateRequest) { c.Format, c.Allocation = "raw", "sparse" },
		"raw with parent": func(c *CreateRequest) {
			c.Format, c.Parent, c.Image = "raw", "11111111-2222-4333-8444-555555555555", "11111111-2222-4333-8444-555555555555"
		},
		"image no uuid": func(c *CreateRequest) { c.Image = "../../x" },
		"parent alone":  func(c *CreateRequest) { c.Parent = "11111111-2222-4333-8444-555555555555" },
		"long key":      func(c *CreateRequest) { c.Key = strings.Repeat("x", 256) },
	}
	for name, fn := range change {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := create("a")
			fn(&req)
			if _, err := r.spec(req); !errors.Is(err, ErrInvalid) {
				t.Fatalf("err = %v", err)
			}
		})
	}
	for _, name := range []string{"a", "диск 1", "disk/with:odd?chars", "日本"} {
		if _, err := r.spec(create(name)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestDeriveID(t *testing.T) {
	t.Parallel()
	a, b := deriveID("p", "volume", "k"), deriveID("p", "volume", "k")
	r1, r2 := deriveID("p", "volume", ""), deriveID("p", "volume", "")
	if a != b || a == deriveID("p", "image", "k") || a == deriveID("q", "volume", "k") || r1 == r2 {
		t.Fatal("ids do not follow from pool, kind and key")
	}
}

// Nobody may write under an epoch that another host's lease has followed.
func TestRole_twoHostsNeverOverlap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, m := newLUN(), &fakeMirror{}
		roles := make([]*Role, 3)
		for i := range roles {
			roles[i], _ = newRole(t, l, m, i+1)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for i, r := range roles {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					info, _ := r.cfg.Lease.Inspect(ctx)
					if _, err := r.Start(ctx, StartRequest{ExpectVersion: info.Version}); err == nil {
						_, _ = r.CreateVolume(ctx, create(fmt.Sprintf("%d-%d", i, n)))
						_, _ = r.Stop(ctx, StopRequest{})
					}
					sleep(ctx, time.Duration(7+3*i)*time.Millisecond)
				}
			})
		}
		wg.Wait()
		for _, r := range roles { // one may have been left serving, with its last entry on its way
			if _, err := r.Stop(t.Context(), StopRequest{}); err != nil {
				t.Error(err)
			}
		}
		for i := 1; i < len(l.writes); i++ {
			if l.writes[i] < l.writes[i-1] {
				t.Fatalf("a write of epoch %d after one of epoch %d", l.writes[i], l.writes[i-1])
			}
		}
		if len(l.writes) < 50 || !m.same(l) {
			t.Fatalf("%d writes, mirror same: %v", len(l.writes), m.same(l))
		}
	})
}
