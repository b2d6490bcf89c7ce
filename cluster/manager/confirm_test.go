package manager

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// withoutSwitch runs fn with a pool that has no power switch, and an SPM that is not the leader's host.
func withoutSwitch(t *testing.T, fn func(t *testing.T, s *sim, m *Manager, spm string)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		s.hosts["c"].master = false // it is not elected
		m, stop := s.lead(t, "c", func(c *Config) { c.Fenceable = nil })
		defer s.check(t)
		defer stop()
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		fn(t, s, m, s.serving())
	})
}

// A person's word frees everything at once when storage does not contradict it any more.
func TestManager_ConfirmRebooted(t *testing.T) {
	withoutSwitch(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		word := Confirmation{Host: spm, Reason: "I pulled the plug", By: "ann"}
		if _, err := m.ConfirmRebooted(t.Context(), word); !errors.Is(err, ErrHostAnswers) {
			t.Errorf("a host that answers: %v", err)
		}
		s.kill(spm)
		time.Sleep(2 * time.Second)
		var live *StorageLiveError
		if _, err := m.ConfirmRebooted(t.Context(), word); !errors.As(err, &live) || live.State != "LIVE" {
			t.Errorf("storage says LIVE: %v", err)
		}
		if s.View().Proofs.Len() != 0 || hasEvent(s, "host.confirmed") {
			t.Error("a refused word left something behind")
		}
		time.Sleep(6500 * time.Millisecond) // storage says FAIL now
		done, err := m.ConfirmRebooted(t.Context(), word)
		if err != nil || len(done.Freed) != 2 {
			t.Fatalf("%+v, %v", done, err)
		}
		for _, f := range done.Freed {
			if f.Err != nil || f.Verdict != VerdictFree {
				t.Errorf("%+v", f)
			}
		}
		if took := s.until(t, "failover", 3*time.Second, func() bool { return another(spm)(s) }); took > time.Second {
			t.Errorf("took %s", took)
		}
		p, ok := s.View().ProofOf(s.hosts[spm].id, simOther, s.otherOf(spm).gen)
		if !ok || p.Kind != fsm.ProofPerson || p.By != "ann" || p.Evidence != word.Reason || !hasEvent(s, "host.confirmed") {
			t.Errorf("recorded %+v", p)
		}
		if _, err := m.ConfirmRebooted(t.Context(), Confirmation{Host: "zz"}); !errors.Is(err, fsm.ErrNotFound) {
			t.Errorf("a stranger: %v", err)
		}
	})
}

// Forced, it is taken although storage says LIVE. A record that changes afterwards voids it there.
func TestManager_ConfirmRebooted_forced(t *testing.T) {
	withoutSwitch(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		s.kill(spm)
		time.Sleep(time.Second)
		done, err := m.ConfirmRebooted(t.Context(), Confirmation{Host: spm, Reason: "gone", By: "ann", Force: true})
		if err != nil || len(done.Freed) != 2 || !s.otherOf(spm).free {
			t.Fatalf("%+v, %v", done, err)
		}
		s.until(t, "failover", 3*time.Second, func() bool { return another(spm)(s) })
		s.late(spm)
		s.until(t, "void", 10*time.Second, func() bool { return hasEvent(s, kindVoid) })
		if s.otherOf(spm).free {
			t.Error("freed by a word that turned out wrong")
		}
	})
}
