package interop

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/leases"
)

// change is a moment at which an observer saw a host's state change.
type change struct {
	state string
	at    time.Duration // boot time
}

// watch asks for a state, twice and more a second, until it is last. Empty answers are skipped.
func watch(t testing.TB, ask func() string, last string, limit time.Duration) []change {
	t.Helper()
	var seen []change
	for end := boot() + limit; boot() < end; time.Sleep(200 * time.Millisecond) { // as slow as a person with a terminal
		s := ask()
		if s == "" || len(seen) > 0 && seen[len(seen)-1].state == s {
			continue
		}
		seen = append(seen, change{s, boot()})
		if s == last {
			return seen
		}
	}
	t.Errorf("never %s: %+v", last, seen)
	return seen
}

// judge compares the order of states, and the times of the last ones with those of section 1.9 of the specification:
// since is when the record changed last, which the observer noticed up to a renewal later.
func judge(t testing.TB, who string, seen []change, want []string, since, n time.Duration) {
	t.Helper()
	var states []string
	for _, c := range seen {
		states = append(states, c.state)
		earliest := map[string]time.Duration{"FAIL": 8 * n, "DEAD": 8*n + watchdog}[c.state]
		if took := c.at - since; earliest > 0 {
			t.Logf("%s: %s %v after the last renewal", who, c.state, took.Round(10*time.Millisecond))
			if took <= earliest || took > earliest+2*n+6*time.Second {
				t.Errorf("%s: %s %v after the last renewal, not %v to %v", who, c.state, took, earliest, earliest+2*n+6*time.Second)
			}
		}
	}
	if fmt.Sprint(states) != fmt.Sprint(want) {
		t.Errorf("%s: states %v, want %v", who, states, want)
	}
}

// TestStates_theirsSeenByUs is test 8: a sanlock host joins, lives and dies under our eyes.
func TestStates_theirsSeenByUs(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	h := ours(t, l, 3)
	ask := func() string { return string(h.HostStatus(5).State) }
	if s := ask(); s != string(leases.HostFree) && s != string(leases.HostUnknown) {
		t.Errorf("before it joined: %s", s)
	}
	done := make(chan []change)
	go func() { done <- watch(t, ask, "LIVE", 20*time.Second) }()
	d.join(5, fast)
	// Its id was free when we first looked, so the first change is a sign of life.
	judge(t, "ours", <-done, []string{"FREE", "LIVE"}, 0, fast)
	if st := h.HostStatus(5); st.Name != "a" || st.Generation != 1 || st.IOTimeout != fast {
		t.Errorf("%+v", st)
	}
	d.kill()
	last := time.Duration(l.record(t, 5).Timestamp)*time.Second + boot() - monotonic(t)
	judge(t, "ours", watch(t, ask, "DEAD", 110*time.Second), []string{"LIVE", "FAIL", "DEAD"}, last, fast)
}

// TestStates_oursSeenByThem is test 8 the other way, first with a host that was there before the daemon: UNKNOWN until
// its timestamp is seen to change.
func TestStates_oursSeenByThem(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	h := ours(t, l, 3)
	d := startDaemon(t, l, "a")
	done := make(chan []change)
	go func() { done <- watch(t, func() string { return d.state(3) }, "LIVE", 20*time.Second) }()
	d.join(5, fast)
	judge(t, "sanlock", <-done, []string{"UNKNOWN", "LIVE"}, 0, fast)
	h.crash()
	last := time.Duration(l.record(t, 3).Timestamp) * time.Second
	judge(t, "sanlock", watch(t, func() string { return d.state(3) }, "DEAD", 110*time.Second), []string{"LIVE", "FAIL", "DEAD"}, last, fast)
	// The record of a host that left says so, and the dead one can come back under its name.
	again := ours(t, l, 3)
	if again.Generation() != 2 {
		t.Errorf("generation %d", again.Generation())
	}
	watch(t, func() string { return d.state(3) }, "LIVE", 20*time.Second)
	again.leave()
	judge(t, "sanlock", watch(t, func() string { return d.state(3) }, "FREE", 20*time.Second), []string{"LIVE", "FREE"}, 0, fast)
}

// TestStates_unknownToUs: what was there before us is UNKNOWN until its timestamp changes; a leave makes it FREE.
func TestStates_unknownToUs(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, 2*fast) // slower than we are, so that its silence can be seen
	h := ours(t, l, 3)
	ask := func() string { return string(h.HostStatus(5).State) }
	judge(t, "ours", watch(t, ask, "LIVE", 40*time.Second), []string{"UNKNOWN", "LIVE"}, 0, 2*fast)
	d.leave(5)
	watch(t, ask, "FREE", 20*time.Second)
}
