package spm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
)

func further(name string) LUNRequest {
	return LUNRequest{Domain: "data", LUN: domain.LUN{Device: blockdev.NewMem(1<<20, 512).Rename(name)}}
}

// lunsTold are the LUNs that the mirror knows of.
func (m *fakeMirror) lunsTold() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.desc.LUNs
}

func TestRole_addLUN(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, h *hostLease) {
		rep, err := r.AddLUN(t.Context(), further("a"))
		if err != nil || !rep.Mirrored || rep.Index == 0 || rep.Epoch != 4 || !slices.Equal(rep.Info.LUNs, []string{"a"}) {
			t.Fatalf("%+v, %v", rep, err)
		}
		if got := m.lunsTold(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("the mirror knows %v when the answer is there", got)
		}
		hidden := errors.New("h3 does not see it")
		bad := further("b")
		bad.LUN.Seen = func(context.Context, string) error { return hidden }
		if _, err := r.AddLUN(t.Context(), bad); !errors.Is(err, hidden) || len(l.luns) != 1 {
			t.Errorf("a host does not see it: %v, %v", err, l.luns)
		}
		if _, err := r.AddLUN(t.Context(), LUNRequest{Domain: "other"}); !errors.Is(err, ErrNoDomain) {
			t.Errorf("no such domain: %v", err)
		}
		m.setDown(true)
		if rep, err = r.AddLUN(t.Context(), further("c")); err != nil || rep.Mirrored {
			t.Errorf("without a quorum: %+v, %v", rep, err)
		}
		m.setDown(false)
		time.Sleep(2 * time.Second)
		if got := m.lunsTold(); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("the mirror did not follow: %v", got)
		}
		h.lose()
		if _, err := r.AddLUN(t.Context(), further("d")); !errors.Is(err, ErrNotSPM) || len(l.luns) != 2 {
			t.Errorf("without the lease: %v, %v", err, l.luns)
		}
	})
}

// TestRole_addLUN_event tells people.
func TestRole_addLUN_event(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var kinds []string
		r, _ := newRole(t, newLUN(), &fakeMirror{}, 1, func(c *Config) {
			c.Report = func(_ context.Context, e fsm.Event) error {
				mu.Lock()
				defer mu.Unlock()
				kinds = append(kinds, e.Kind+" "+e.Severity)
				return nil
			}
		})
		if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 3}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.AddLUN(t.Context(), further("a")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(kinds, "domain.extended "+fsm.Info) {
			t.Errorf("events: %v", kinds)
		}
	})
}

// TestRole_addLUN_unknownOutcome: the disk is read again, and the caller learns what happened.
func TestRole_addLUN_unknownOutcome(t *testing.T) {
	for _, landed := range []bool{true, false} {
		t.Run(fmt.Sprint("landed ", landed), func(t *testing.T) {
			bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
				l.mu.Lock()
				l.next, l.landed = domain.ErrOutcomeUnknown, landed
				l.mu.Unlock()
				rep, err := r.AddLUN(t.Context(), further("a"))
				switch {
				case landed && (err != nil || !slices.Equal(rep.Info.LUNs, []string{"a"})):
					t.Errorf("%+v, %v", rep, err)
				case !landed && !errors.Is(err, ErrNotCommitted):
					t.Errorf("err = %v", err)
				}
				if _, err := r.CreateVolume(t.Context(), create("a")); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				if landed && !slices.Equal(m.lunsTold(), []string{"a"}) {
					t.Errorf("the mirror knows %v", m.lunsTold())
				}
			})
		})
	}
}

// TestRole_addLUN_holdsUpNobody: while hosts are asked whether they see the LUN, volumes are created.
func TestRole_addLUN_holdsUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		asked, answer := make(chan struct{}), make(chan struct{})
		req := further("a")
		req.LUN.Seen = func(ctx context.Context, _ string) error {
			close(asked)
			select {
			case <-answer:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		done := make(chan error, 1)
		go func() { _, err := r.AddLUN(t.Context(), req); done <- err }()
		<-asked
		if _, err := r.CreateVolume(t.Context(), create("a")); err != nil {
			t.Error(err)
		}
		close(answer)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
