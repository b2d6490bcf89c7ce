package nemesis

import (
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// With power management an agent is stopped until just after its host can be taken for dead; without, it is a stop like others.
func TestAroundFence(t *testing.T) {
	t.Parallel()
	b := history.Bounds{IOTimeout: time.Second, Watchdog: 2 * time.Second}
	if least, most := aroundFence(b); least >= dead(b) || most <= dead(b) {
		t.Errorf("without fencing: %v to %v, dead after %v", least, most, dead(b))
	}
	b.Fence = 12 * time.Second
	if least, most := aroundFence(b); least <= b.Fence || most > b.Fence+2*b.IOTimeout {
		t.Errorf("fenced after %v: %v to %v; the keeper sees it within %v", b.Fence, least, most, 2*b.IOTimeout)
	}
}
