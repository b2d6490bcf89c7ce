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
	if least, _ := pastFence(b); least <= dead(b) {
		t.Errorf("without fencing: from %v on, dead after %v", least, dead(b))
	}
	b.Fence = 12 * time.Second
	if least, most := pastFence(b); least <= b.Fence+5*time.Second || most <= least {
		t.Errorf("fenced after %v: %v to %v, and a slow switch takes 4 s for a status and 4 s for an order", b.Fence, least, most)
	}
	if least, most := aroundFence(b); least <= b.Fence || most > b.Fence+2*b.IOTimeout {
		t.Errorf("fenced after %v: %v to %v; the keeper sees it within %v", b.Fence, least, most, 2*b.IOTimeout)
	}
}
