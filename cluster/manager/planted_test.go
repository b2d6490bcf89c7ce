//go:build jepsen

package manager

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// The planted mistake, a proof without a power-off, is one that the simulation's judge sees.
func TestFence_planted_noWait(t *testing.T) {
	defer plant.Set(plant.FenceNoWait)()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c", "d", "e")
		s.hosts["e"].master = false
		_, stop := s.lead(t, "e")
		defer stop()
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		spm := s.serving()
		s.alter(func() { s.hosts[spm].hung, s.hosts[spm].deaf = true, true })
		s.until(t, "the false proof", 60*time.Second, func() bool { return s.proven(spm) })
		s.mu.Lock()
		defer s.mu.Unlock()
		if !strings.Contains(strings.Join(s.breaches, "; "), "proved the death of a running host "+spm) {
			t.Errorf("the judge saw %q", s.breaches)
		}
	})
}
