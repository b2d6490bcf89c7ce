//go:build jepsen

package manager

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// Each planted mistake about a host's death is one that the simulation's judge sees.
func TestFence_planted(t *testing.T) {
	for _, c := range []struct {
		plant string
		spoil func(s *sim)
		want  string
	}{
		{plant.FenceNoWait, func(*sim) {}, "proved the death of a running host "},
		{plant.FenceNoIntent, func(*sim) {}, "without an intent that is the last word"},
		{plant.ProofNoStatus, func(s *sim) { s.offLies = true }, "proved the death of a running host "},
		{plant.FreeNoProof, func(*sim) {}, "freed the record of a running host "},
	} {
		t.Run(c.plant, func(t *testing.T) {
			defer plant.Set(c.plant)()
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, "a", "b", "c", "d", "e")
				s.hosts["e"].master = false
				_, stop := s.lead(t, "e")
				defer stop()
				s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
				spm := s.serving()
				s.alter(func() { s.hosts[spm].hung, s.hosts[spm].deaf = true, true; c.spoil(s) })
				s.until(t, "a breach: "+c.want, 60*time.Second, func() bool {
					s.mu.Lock()
					defer s.mu.Unlock()
					return strings.Contains(strings.Join(s.breaches, "; "), c.want)
				})
			})
		})
	}
}
