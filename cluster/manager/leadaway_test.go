package manager

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

func TestNextLeader(t *testing.T) {
	t.Parallel()
	host := func(name string, change ...func(*Host)) Host {
		h := Host{Name: name, Reachable: true, RTT: time.Millisecond}
		for _, fn := range change {
			fn(&h)
		}
		return h
	}
	away := func(h *Host) { h.Maintenance = true }
	for _, tc := range []struct {
		name   string
		hosts  []Host
		voters []string
		want   string
	}{
		{"in use", []Host{host("a"), host("b")}, nil, ""},
		{"alone", []Host{host("a", away)}, nil, ""},
		{"another one", []Host{host("a", away), host("b")}, nil, "b"},
		{"the quickest", []Host{host("a", away), host("b", func(h *Host) { h.RTT = time.Second }), host("c")}, nil, "c"},
		{"no vote", []Host{host("a", away), host("b"), host("c")}, []string{"a", "c"}, "c"},
		{"voters are not known", []Host{host("a", away), host("b")}, []string{}, ""},
		{"silent", []Host{host("a", away), host("b", func(h *Host) { h.Reachable = false })}, nil, ""},
		{"all in maintenance", []Host{host("a", away), host("b", away)}, nil, ""},
		{"on its way there", []Host{host("a", away), host("b", func(h *Host) { h.Leaving = true })}, nil, ""},
		{"only going there", []Host{host("a", func(h *Host) { h.Leaving = true }), host("b")}, nil, ""},
	} {
		if got := nextLeader(&Inputs{Hosts: tc.hosts}, "a", tc.voters); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// A leader in maintenance hands over once, to one that is in use; when that comes to nothing it is tried seldom, and the pool is managed on.
func TestManager_leaderInMaintenanceHandsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, "a", "b", "c")
		var mu sync.Mutex
		var asked []string
		m, stop := s.lead(t, "c", func(c *Config) {
			c.HandOver = func(_ context.Context, to string) error {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, to)
				return errors.New("it has not caught up")
			}
		})
		defer s.check(t)
		defer stop()
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(asked) }
		s.until(t, "election", 2*time.Second, func() bool { return s.serving() != "" })
		time.Sleep(5 * time.Second)
		if count() != 0 {
			t.Fatalf("hands over to %v while it is in use", asked)
		}
		s.must(t, &fsm.HostWish{Host: "a", Want: fsm.WishMaintenance, By: "ann", Time: time.Now().UnixNano()})
		if h := maintain(t, m, "c", 5*time.Second); h.State != fsm.HostMaintenance {
			t.Fatalf("%+v", h)
		}
		s.until(t, "the leadership is offered", 5*time.Second, func() bool { return count() == 1 })
		time.Sleep(10 * time.Minute)
		if n := count(); n < 4 || n > 8 || slices.ContainsFunc(asked, func(to string) bool { return to != "b" }) {
			t.Errorf("asked %v in ten minutes", asked)
		}
		if n := countEvents(s, "host.hands_over"); n != count() {
			t.Errorf("%d events, offered %d times", n, count())
		}
		if h, err := m.Activate(t.Context(), ActivateRequest{Host: "c", By: "ann", Wait: 10 * time.Second}); err != nil || h.State != fsm.HostUp {
			t.Errorf("the pool is not managed on: %+v, %v", h, err)
		}
	})
}
