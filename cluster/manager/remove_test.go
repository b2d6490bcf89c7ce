package manager

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// A host that is gone is removed when storage says that it is dead everywhere, and not before.
func TestManager_RemoveHost(t *testing.T) {
	withoutSwitch(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		r := Removal{Host: spm, By: "ann"}
		for _, name := range []string{spm, "c"} { // the leader's own host too
			if _, err := m.RemoveHost(t.Context(), Removal{Host: name, By: "ann"}); !errors.Is(err, ErrHostAnswers) {
				t.Errorf("%s, which answers: %v", name, err)
			}
		}
		if _, err := m.RemoveHost(t.Context(), Removal{Host: "zz"}); !errors.Is(err, fsm.ErrNotFound) {
			t.Errorf("a stranger: %v", err)
		}
		s.kill(spm)
		var live *StorageLiveError
		var took time.Duration
		for begun := time.Now(); ; took = time.Since(begun) { // LIVE, then FAIL; both are not enough
			_, err := m.RemoveHost(t.Context(), r)
			if err == nil {
				break
			}
			if !errors.As(err, &live) || live.Left <= 0 || took > 30*time.Second {
				t.Fatalf("after %s: %v", took, err)
			}
			if s.View().Proofs.Len() != 0 || !s.View().Hosts.Has(spm) {
				t.Fatal("a refused removal left something behind")
			}
			time.Sleep(200 * time.Millisecond)
		}
		if live == nil || took < 8*time.Second {
			t.Errorf("removed after %s, last refused by %v: its leases were not dead", took, live)
		}
		view := s.View()
		if view.Hosts.Has(spm) || !view.Removed.Has(spm) || !s.otherOf(spm).free {
			t.Errorf("%s is a member: %v, removed: %v, its record is free: %v", spm, view.Hosts.Has(spm), view.Removed.Has(spm), s.otherOf(spm).free)
		}
		s.until(t, "failover", 5*time.Second, func() bool { return another(spm)(s) })
		s.until(t, "the event", 5*time.Second, func() bool { return hasEvent(s, "host.removed") })
	})
}

// What a proof says already need not be waited for.
func TestManager_RemoveHost_proven(t *testing.T) {
	withoutSwitch(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		s.kill(spm)
		time.Sleep(time.Second)
		if _, err := m.ConfirmRebooted(t.Context(), Confirmation{Host: spm, Reason: "gone", By: "ann", Force: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.RemoveHost(t.Context(), Removal{Host: spm, By: "bob"}); err != nil || s.View().Hosts.Has(spm) {
			t.Errorf("%v", err)
		}
	})
}

// By force it is a person's word that counts.
func TestManager_RemoveHost_forced(t *testing.T) {
	withoutSwitch(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		s.kill(spm)
		time.Sleep(time.Second)
		done, err := m.RemoveHost(t.Context(), Removal{Host: spm, By: "ann", Force: true, Reason: "its disk burnt"})
		if err != nil || done.Proof.Kind != fsm.ProofPerson || done.Proof.Evidence != "its disk burnt" || s.View().Hosts.Has(spm) {
			t.Errorf("%+v, %v", done, err)
		}
	})
}

// A domain that no host can read might be written by the host.
func TestTerm_unproven_unreadDomain(t *testing.T) {
	withoutSwitch(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		s.must(t, &fsm.DomainPut{Domain: fsm.Domain{ID: "dom-9", Name: "unread"}})
		s.kill(spm)
		time.Sleep(20 * time.Second)
		var live *StorageLiveError
		if _, err := m.RemoveHost(t.Context(), Removal{Host: spm, By: "ann"}); !errors.As(err, &live) || !live.Unread || live.Lockspace != "dom-9" {
			t.Errorf("err = %v", err)
		}
	})
}
