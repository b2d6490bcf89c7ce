package spm

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
)

const gib = 1 << 30

// made creates a volume and returns its id.
func made(t *testing.T, r *Role, name string) string {
	t.Helper()
	rep, err := r.CreateVolume(t.Context(), create(name))
	if err != nil {
		t.Fatal(err)
	}
	return rep.Volume.ID
}

func TestRole_extend(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
		id := made(t, r, "a")
		rep, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: id, Size: 3 * gib})
		if err != nil || !rep.Mirrored || rep.Index == 0 || rep.Epoch != 4 || rep.Domain != "dom" || rep.Volume.AllocatedBytes != 3*gib {
			t.Fatalf("%+v, %v", rep, err)
		}
		if v := m.has(id); v.AllocatedBytes != 3*gib || m.stale != 0 {
			t.Errorf("the mirror has %+v", v)
		}
		writes := len(l.writes)
		for _, size := range []int64{3 * gib, 1} {
			if again, err := r.ExtendVolume(t.Context(), ExtendRequest{Domain: "data", Volume: id, Size: size}); err != nil || again.Volume.AllocatedBytes != 3*gib {
				t.Errorf("to %d again: %+v, %v", size, again, err)
			}
		}
		if len(l.writes) != writes {
			t.Error("what was there already was written again")
		}
	})
}

// Without a quorum the disk part happens as fast as ever for whoever does not ask for the mirror.
func TestRole_extend_withoutQuorum(t *testing.T) {
	bubble(t, func(t *testing.T, _ *lun, m *fakeMirror, r *Role, _ *hostLease) {
		id := made(t, r, "a")
		m.setDown(true)
		begun := time.Now()
		rep, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: id, Size: gib, Unmirrored: true})
		if err != nil || rep.Mirrored || time.Since(begun) != 0 {
			t.Fatalf("%+v, %v, after %v", rep, err, time.Since(begun))
		}
		rep, err = r.ExtendVolume(t.Context(), ExtendRequest{Volume: id, Size: 2 * gib})
		if err != nil || rep.Mirrored || time.Since(begun) != 2*time.Second {
			t.Fatalf("%+v, %v, after %v", rep, err, time.Since(begun))
		}
		m.setDown(false)
		time.Sleep(2 * time.Second)
		if v := m.has(id); v.AllocatedBytes != 2*gib || m.stale != 0 {
			t.Errorf("the mirror did not follow: %+v, %d stale", v, m.stale)
		}
	})
}

func TestRole_extend_refused(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, h *hostLease) {
		id := made(t, r, "a")
		for name, c := range map[string]struct {
			req  ExtendRequest
			want error
		}{
			"no UUID":           {ExtendRequest{Volume: "a", Size: 1}, ErrInvalid},
			"no size":           {ExtendRequest{Volume: id}, ErrInvalid},
			"negative size":     {ExtendRequest{Volume: id, Size: -1}, ErrInvalid},
			"negative wait":     {ExtendRequest{Volume: id, Size: 1, Wait: -1}, ErrInvalid},
			"negative time":     {ExtendRequest{Volume: id, Size: 1, SecondsToFull: -1}, ErrInvalid},
			"not a number":      {ExtendRequest{Volume: id, Size: 1, SecondsToFull: math.NaN()}, ErrInvalid},
			"no such volume":    {ExtendRequest{Volume: "6a1f3b52-3c53-4b4c-9c8e-6a5f2f0e9d11", Size: 1}, domain.ErrNotFound},
			"another's domain":  {ExtendRequest{Domain: "8adbc85e-e554-4ae0-b318-8a5465fe5fe1", Volume: id, Size: 1}, ErrNoDomain},
			"without the lease": {ExtendRequest{Volume: id, Size: gib}, ErrNotSPM},
		} {
			if name != "without the lease" {
				if _, err := r.ExtendVolume(t.Context(), c.req); !errors.Is(err, c.want) || errors.Is(err, blockdev.ErrOutcomeUnknown) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		writes := len(l.writes)
		h.lose()
		if _, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: id, Size: gib}); !errors.Is(err, ErrNotSPM) || len(l.writes) != writes {
			t.Errorf("without the lease: %v", err)
		}
	})
}

func TestRole_extend_unknownOutcome(t *testing.T) {
	for name, landed := range map[string]bool{"landed": true, "lost": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
				id := made(t, r, "a")
				l.mu.Lock()
				l.next, l.landed = domain.ErrOutcomeUnknown, landed
				l.mu.Unlock()
				rep, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: id, Size: gib})
				if landed && (err != nil || rep.Volume.AllocatedBytes != gib) || !landed && !errors.Is(err, ErrNotCommitted) {
					t.Fatalf("%+v, %v", rep, err)
				}
				if _, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: id, Size: gib}); err != nil {
					t.Errorf("again: %v", err)
				}
				time.Sleep(time.Second)
				if !m.same(l) || m.has(id).AllocatedBytes != gib {
					t.Errorf("the mirror has %+v", m.has(id))
				}
			})
		})
	}
}

// full leaves no room on the lun.
func (l *lun) fill(free int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = free
}

func (l *lun) order() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.grown)
}

// Requests that find no space are kept, shown, and served when a delete makes room.
func TestShortage_servedAfterDelete(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
		a, big := made(t, r, "a"), made(t, r, "big")
		if _, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: big, Size: 10 * gib}); err != nil {
			t.Fatal(err)
		}
		l.fill(gib)
		begun := time.Now()
		var full *OutOfSpaceError
		_, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: a, Size: 4 * gib})
		if !errors.As(err, &full) || !full.Queued || !errors.Is(err, domain.ErrNoSpace) || time.Since(begun) != 0 {
			t.Fatalf("%v after %v", err, time.Since(begun))
		}
		time.Sleep(time.Second)
		w := r.Waiting()
		if len(w) != 1 || w[0].Volume != a || w[0].Size != 4*gib || w[0].Needed != 4*gib || w[0].Reason == "" || w[0].Domain != "dom" {
			t.Errorf("waiting: %+v", w)
		}
		if m.mu.Lock(); m.desc.Waiting != 1 || m.desc.Needed != 4*gib {
			t.Errorf("the mirror was told %+v", m.desc)
		}
		m.mu.Unlock()
		waited := make(chan error, 1)
		go func() {
			_, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: a, Size: 3 * gib, Wait: time.Hour})
			waited <- err
		}()
		synctest.Wait()
		if _, err := r.DeleteVolume(t.Context(), "", big); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err != nil {
			t.Errorf("who waited: %v", err)
		}
		if v := m.has(a); len(r.Waiting()) != 0 || v.AllocatedBytes != 4*gib {
			t.Errorf("still waiting %v; mirrored %+v: of two sizes the larger one counts", r.Waiting(), v)
		}
		time.Sleep(time.Second)
		if m.mu.Lock(); m.desc.Waiting != 0 || m.desc.Needed != 0 {
			t.Errorf("the mirror was told %+v", m.desc)
		}
		m.mu.Unlock()
	})
}

// Who stands still goes first, then who will soonest, then who has waited longest; what does not fit holds nobody up.
func TestShortage_order(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		names := []string{"old", "young", "huge", "later", "soon", "paused"}
		ids := map[string]string{}
		for _, n := range names {
			ids[n] = made(t, r, n)
		}
		l.fill(0)
		ask := func(name string, q ExtendRequest) {
			q.Volume = ids[name]
			if q.Size == 0 {
				q.Size = gib
			}
			if _, err := r.ExtendVolume(t.Context(), q); !errors.Is(err, domain.ErrNoSpace) {
				t.Fatalf("%s: %v", name, err)
			}
			time.Sleep(time.Second)
		}
		ask("huge", ExtendRequest{Size: 1 << 50, Paused: true, SecondsToFull: 1})
		ask("old", ExtendRequest{})
		ask("young", ExtendRequest{})
		ask("later", ExtendRequest{SecondsToFull: 500})
		ask("soon", ExtendRequest{SecondsToFull: 5})
		ask("paused", ExtendRequest{Paused: true})
		ask("old", ExtendRequest{}) // repeated: its age stays
		if got := r.Waiting(); len(got) != 6 || got[0].Volume != ids["huge"] {
			t.Errorf("%+v", got)
		}
		l.fill(3 * gib)
		r.SpaceAppeared("dom")
		synctest.Wait()
		if got := l.order(); !slices.Equal(got, []string{"paused", "soon", "later"}) {
			t.Errorf("served %v", got)
		}
		l.fill(9 * gib)
		r.SpaceAppeared("another") // not this one
		synctest.Wait()
		if len(l.order()) != 3 {
			t.Error("served by a word about another domain")
		}
		time.Sleep(waitingPass)
		synctest.Wait()
		if got := l.order(); !slices.Equal(got[3:], []string{"old", "young"}) {
			t.Errorf("served %v", got)
		}
	})
}

// Who asked for more than there will ever be holds up neither others nor a smaller request for the same volume.
func TestShortage_impossibleSize(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		a := made(t, r, "a")
		l.fill(gib)
		if _, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: a, Size: 1 << 50}); !errors.Is(err, domain.ErrNoSpace) {
			t.Fatal(err)
		}
		for range 2 { // the second time it has the size already
			rep, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: a, Size: gib})
			if err != nil || rep.Volume.AllocatedBytes != gib {
				t.Fatalf("%+v, %v", rep, err)
			}
		}
		if _, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: a, Size: 2 * gib}); !errors.Is(err, domain.ErrNoSpace) {
			t.Errorf("%v", err)
		}
		if w := r.Waiting(); len(w) != 1 || w[0].Size != 1<<50 {
			t.Errorf("%+v", w)
		}
	})
}

// The mailbox cannot say how urgent a request is; what the network said of it stays.
func TestShortage_urgencyStays(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		a := made(t, r, "a")
		l.fill(0)
		for _, q := range []ExtendRequest{{Paused: true, SecondsToFull: 3}, {}} {
			q.Volume, q.Size = a, gib
			if _, err := r.ExtendVolume(t.Context(), q); !errors.Is(err, domain.ErrNoSpace) {
				t.Fatal(err)
			}
		}
		if w := r.Waiting(); len(w) != 1 || !w[0].Paused || w[0].SecondsToFull != 3 {
			t.Errorf("%+v", w)
		}
		if _, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: a, Size: gib, SecondsToFull: 60}); !errors.Is(err, domain.ErrNoSpace) {
			t.Fatal(err)
		}
		if w := r.Waiting(); w[0].Paused || w[0].SecondsToFull != 60 {
			t.Errorf("a guest that goes on: %+v", w)
		}
	})
}

// A request waits as long as its caller asks for; then it is still kept.
func TestShortage_callerWaits(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		a := made(t, r, "a")
		l.fill(0)
		begun := time.Now()
		_, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: a, Size: gib, Wait: 7 * time.Second})
		var full *OutOfSpaceError
		if !errors.As(err, &full) || !full.Queued || time.Since(begun) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.ExtendVolume(ctx, ExtendRequest{Volume: a, Size: gib, Wait: time.Hour}); !errors.Is(err, domain.ErrNoSpace) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller hangs up: %v", err)
		}
		if len(r.Waiting()) != 1 {
			t.Error("not kept")
		}
		time.Sleep(waitingFor + 2*waitingPass)
		if len(r.Waiting()) != 0 {
			t.Error("kept although nobody has asked for it for so long")
		}
	})
}

// A volume that is deleted waits for nothing, and the end of the role tells everybody.
func TestShortage_ends(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		a, b := made(t, r, "a"), made(t, r, "b")
		l.fill(0)
		wait := func(id string) <-chan error {
			c := make(chan error, 1)
			go func() {
				_, err := r.ExtendVolume(context.WithoutCancel(t.Context()), ExtendRequest{Volume: id, Size: gib, Wait: time.Hour})
				c <- err
			}()
			synctest.Wait()
			return c
		}
		gone, stays := wait(a), wait(b)
		if _, err := r.DeleteVolume(t.Context(), "", a); err != nil {
			t.Fatal(err)
		}
		if err := <-gone; !errors.Is(err, domain.ErrNotFound) {
			t.Errorf("the volume is gone: %v", err)
		}
		if _, err := r.Stop(t.Context(), StopRequest{Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		if err := <-stays; !errors.Is(err, ErrNotSPM) {
			t.Errorf("the role ended: %v", err)
		}
	})
}

// The queue is bounded, and says so.
func TestShortage_bounded(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		a := made(t, r, "a")
		l.fill(0)
		s, err := r.serving()
		if err != nil {
			t.Fatal(err)
		}
		q := s.master.short
		q.mu.Lock()
		for i := range maxWaiting {
			id := deriveID("", "test", string(rune(i+1)))
			q.list[id] = &want{req: ExtendRequest{Volume: id, Size: gib}, asked: time.Now()}
		}
		q.mu.Unlock()
		var full *OutOfSpaceError
		if _, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: a, Size: gib}); !errors.As(err, &full) || full.Queued {
			t.Errorf("%v", err)
		}
	})
}

// Little space is kept for volumes that grow: new ones are refused, deleting and extending go on.
func TestRole_criticalSpace(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		a := made(t, r, "a")
		l.fill(5*gib - 1)
		if _, err := r.CreateVolume(t.Context(), create("new")); !errors.Is(err, ErrCritical) || !errors.Is(err, domain.ErrFull) {
			t.Errorf("create: %v", err)
		}
		if _, err := r.CreateVolume(t.Context(), create("a")); err != nil {
			t.Errorf("the same create again: %v", err)
		}
		if _, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: a, Size: gib}); err != nil {
			t.Errorf("extend: %v", err)
		}
		if _, err := r.DeleteVolume(t.Context(), "", a); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		s              Settings
		size           int64
		warn, critical int64
	}{
		"defaults":       {Settings{}, 1 << 40, 1 << 40 / 100 * 10, 5 * gib},
		"a small domain": {Settings{}, 20 * gib, 20 * gib / 100 * 10, 2 * gib},
		"set":            {Settings{WarnPercent: new(25), CriticalFree: new(int64(7 * gib))}, 100 * gib, 100 * gib / 100 * 25, 7 * gib},
		"never":          {Settings{WarnPercent: new(0), CriticalFree: new(int64(0))}, 100 * gib, 0, 0},
	} {
		if w, cr := c.s.WarnBelow(c.size), c.s.CriticalBelow(c.size); w != c.warn || cr != c.critical {
			t.Errorf("%s: %d and %d, want %d and %d", name, w, cr, c.warn, c.critical)
		}
	}
}

// The reply between hosts keeps what the asking host must know.
func TestExtendReply(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, h *hostLease) {
		a := made(t, r, "a")
		ask := func(q ExtendRequest) (ExtendReply, error) {
			body, err := json.Marshal(q)
			if err != nil {
				t.Fatal(err)
			}
			out, err := r.Handlers()[MethodExtend](t.Context(), "h2", body)
			rep, _ := out.(ExtendReply)
			return rep, err
		}
		if rep, err := ask(ExtendRequest{Volume: a, Size: gib}); err != nil || rep.Err() != nil || rep.Allocated != gib || rep.Epoch != 4 {
			t.Errorf("%+v, %v", rep, err)
		}
		l.fill(0)
		if rep, err := ask(ExtendRequest{Volume: a, Size: 2 * gib}); err != nil || !errors.Is(rep.Err(), domain.ErrNoSpace) || !rep.Queued {
			t.Errorf("%+v, %v", rep, err)
		}
		for name, c := range map[string]struct {
			q    ExtendRequest
			want error
		}{
			"no volume": {ExtendRequest{Volume: "6a1f3b52-3c53-4b4c-9c8e-6a5f2f0e9d11", Size: 1}, domain.ErrNotFound},
			"no domain": {ExtendRequest{Domain: "x", Volume: a, Size: 1}, domain.ErrNotFound},
			"nonsense":  {ExtendRequest{Volume: a}, ErrInvalid},
		} {
			if rep, err := ask(c.q); err != nil || !errors.Is(rep.Err(), c.want) {
				t.Errorf("%s: %+v, %v", name, rep, err)
			}
		}
		l.fill(gib << 10)
		l.mu.Lock()
		l.readErr, l.next = errors.New("EIO"), domain.ErrOutcomeUnknown
		l.mu.Unlock()
		if rep, err := ask(ExtendRequest{Volume: a, Size: 3 * gib}); err == nil {
			t.Errorf("an outcome that nobody knows was answered with %+v", rep)
		}
		h.lose()
		time.Sleep(time.Second)
		if rep, err := ask(ExtendRequest{Volume: a, Size: 4 * gib}); err != nil || !errors.Is(rep.Err(), ErrNotSPM) {
			t.Errorf("without the role: %+v, %v", rep, err)
		}
	})
}

// The begin and the end of a shortage are events.
func TestShortage_events(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, m := newLUN(), &fakeMirror{}
		var kinds []string
		events := make(chan string, 10)
		r, _ := newRole(t, l, m, 1, func(c *Config) {
			c.Report = func(_ context.Context, e fsm.Event) error { events <- e.Severity + " " + e.Kind; return nil }
		})
		if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 3}); err != nil {
			t.Fatal(err)
		}
		a := made(t, r, "a")
		l.fill(0)
		for range 3 {
			_, _ = r.ExtendVolume(t.Context(), ExtendRequest{Volume: a, Size: gib})
			synctest.Wait()
		}
		l.fill(gib)
		r.SpaceAppeared("dom")
		synctest.Wait()
		for len(events) > 0 {
			kinds = append(kinds, <-events)
		}
		if !slices.Equal(kinds, []string{"warning domain.out_of_space", "info domain.space"}) {
			t.Errorf("%v", kinds)
		}
	})
}
