package manager

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/fsm"
)

// Events that persons cause name them, and tell why only if they said so.
var personal = []string{"spm.wish", "host.maintenance_wanted", "host.activated", "host.priority", "fencing.set", "fencing.disarmed", "fencing.armed",
	"fence.device_set", "fence.device_removed", "powersave.set", "pool.master"}

// Kinds, and beginnings of kinds, of events about which people ask what was seen.
var evident = []string{"host.", "fence.", "proof.", "spm.moved", "domain.inactive", "domain.unknown", "domain.unreachable", "domain.reachable"}

// unexplained are the events that do not say why, or what was seen.
func unexplained(events []fsm.Event) (l []string) {
	for _, e := range events {
		if slices.Contains(personal, e.Kind) || e.Kind == "" {
			continue
		}
		if e.Reason == "" {
			l = append(l, fmt.Sprintf("%s has no reason: %s", e.Kind, e.Message))
		}
		if e.Evidence == "" && slices.ContainsFunc(evident, func(k string) bool { return strings.HasPrefix(e.Kind, k) }) {
			l = append(l, fmt.Sprintf("%s has no evidence: %s", e.Kind, e.Message))
		}
	}
	return l
}

func TestUnexplained_catchesMistakes(t *testing.T) {
	t.Parallel()
	good := fsm.Event{Kind: "fence.done", Reason: "why", Evidence: "seen"}
	for name, tc := range map[string]struct {
		change func(e *fsm.Event)
		want   int
	}{
		"as it is":         {func(*fsm.Event) {}, 0},
		"no reason":        {func(e *fsm.Event) { e.Reason = "" }, 1},
		"no evidence":      {func(e *fsm.Event) { e.Evidence = "" }, 1},
		"neither":          {func(e *fsm.Event) { e.Reason, e.Evidence = "", "" }, 2},
		"of a person":      {func(e *fsm.Event) { *e = fsm.Event{Kind: "spm.wish"} }, 0},
		"of another kind":  {func(e *fsm.Event) { *e = fsm.Event{Kind: "spm.started", Reason: "why"} }, 0},
		"reason, no words": {func(e *fsm.Event) { *e = fsm.Event{Kind: "domain.low_space", Message: "m"} }, 1},
	} {
		e := good
		tc.change(&e)
		if got := unexplained([]fsm.Event{e}); len(got) != tc.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
