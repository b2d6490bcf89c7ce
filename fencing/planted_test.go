//go:build jepsen

package fencing

import (
	"testing"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// The planted mistake makes a proof of nothing.
func TestOffConfirmed_planted(t *testing.T) {
	defer plant.Set(plant.FenceNoWait)()
	f := &fakeSwitch{state: map[string]State{"h1": On}}
	ev, err := OffConfirmed(t.Context(), f, f, "h1")
	if err != nil || ev.Kind == "" {
		t.Fatalf("%+v, %v", ev, err)
	}
	if st, _ := f.Status(t.Context(), "h1"); st != On {
		t.Errorf("the host is %s", st)
	}
}
