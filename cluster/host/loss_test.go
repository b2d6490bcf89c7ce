package host

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/leases/keeper"
)

// The word reaches the keeper, which takes it for a lockspace that is lost only.
func TestRuntime_confirmLoss(t *testing.T) {
	t.Parallel()
	h, _ := founded(t)
	rt := h.runtime()
	err := rt.confirmLoss(keeper.Loss{Lockspace: rt.presentID(), KillIn: 100 * time.Millisecond})
	if !errors.Is(err, keeper.ErrInvalid) {
		t.Errorf("confirming what is not lost: %v", err)
	}
	if kind, _ := rt.watchdog(); kind != "none" {
		t.Errorf("a host without a watchdog says %q", kind)
	}
}
