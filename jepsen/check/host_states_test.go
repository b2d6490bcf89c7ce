package check

import (
	"reflect"
	"testing"
	"time"
)

func TestHostStates(t *testing.T) {
	t.Parallel()
	const s = time.Second
	got := states([]renewal{
		{"h1", 1, true, s}, // made: nobody's yet
		{"h2", 1, false, 2 * s}, {"h2", 1, false, 6 * s},
		{"h2", 2, false, 40 * s}, // came back
		{"h3", 2, true, 50 * s},  // freed by another, on a proof
		{"h2", 3, false, 60 * s},
	}, 16*s, 26*s, 80*s)
	want := []HostState{
		{"h2", 1, "LIVE", 2 * s, 22 * s}, {"h2", 1, "FAIL", 22 * s, 32 * s}, {"h2", 1, "DEAD", 32 * s, 40 * s},
		{"h2", 2, "LIVE", 40 * s, 50 * s}, {"h2", 2, "FREE", 50 * s, 60 * s},
		{"h2", 3, "LIVE", 60 * s, 76 * s}, {"h2", 3, "FAIL", 76 * s, 80 * s},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
