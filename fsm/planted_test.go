//go:build jepsen

package fsm

import (
	"testing"

	"github.com/holdfast-io/holdfast/internal/plant"
)

func TestVolumesPut_planted(t *testing.T) {
	defer plant.Set(plant.NoEpochCheck)()
	f := cluster(t)
	if out := last(t, f, put("v", 2, 1), put("v", 1, 9)); len(out.Refused) != 0 {
		t.Errorf("an entry of an old epoch was refused: %+v", out.Refused)
	}
	if out := last(t, f, &MirrorReplace{Domain: "d", Epoch: 5}, &MirrorReplace{Domain: "d", Epoch: 4}); out.Code != "" {
		t.Errorf("a reconcile of an old epoch was refused: %s", out.Message)
	}
	if out := last(t, f, put("w", 6, 2), put("w", 6, 1)); len(out.Refused) != 1 {
		t.Error("the order within an epoch is lost too, so that a healthy run would not look healthy")
	}
}
