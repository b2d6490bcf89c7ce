package keeper

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
)

// fakeUser ends some time after it was asked or made to; a negative time is never.
type fakeUser struct {
	clock             clock.Clock
	onAsk, onKill     time.Duration
	asked, killed     time.Duration // when first
	endsAt            time.Duration
	asks, kills       int
	politeAfterForced bool
}

func (u *fakeUser) press(force bool) {
	now := u.clock.Boot()
	count, first, after := &u.asks, &u.asked, u.onAsk
	if force {
		count, first, after = &u.kills, &u.killed, u.onKill
	}
	u.politeAfterForced = u.politeAfterForced || !force && u.kills > 0
	if *count++; *count == 1 {
		*first = now
		if after >= 0 && (u.endsAt == 0 || now+after < u.endsAt) {
			u.endsAt = now + after
		}
	}
}

func (u *fakeUser) over() bool { return u.endsAt != 0 && u.clock.Boot() >= u.endsAt }

// windingOf runs the end of users that were found to be there at the boot time found, after a last renewal at 0.
func windingOf(p leases.Profile, found time.Duration, u *fakeUser, confirmAt, giveUp time.Duration) (end, agentKilled time.Duration) {
	clk := &clock.Virtual{Start: time.Now()}
	u.clock = clk
	news := make(chan struct{}, 1)
	agent := confirmAt != 0
	w := &winding{line: timeline{profile: p, failed: min(found, p.Expiry())}, clock: clk, log: quiet(), news: news,
		killAgent: func() {
			if agentKilled == 0 {
				agentKilled = clk.Boot()
			}
			agent = false
		}}
	w.left = func() ([]user, bool) {
		if confirmAt > 0 && clk.Boot() >= confirmAt {
			agent = false
		}
		if u.over() || clk.Boot() >= giveUp {
			return nil, agent
		}
		return []user{u}, agent
	}
	time.Sleep(found)
	w.run()
	return clk.Boot(), agentKilled
}

// TestWinding_times: users that obey, that ignore SIGTERM, that cannot die, with the keeper in time, and one that was
// stopped and comes late.
func TestWinding_times(t *testing.T) {
	t.Parallel()
	compatible, fast := leases.Compatible, leases.Fast
	never := time.Duration(-1)
	tests := []struct {
		name                  string
		p                     leases.Profile
		found                 time.Duration
		user                  fakeUser
		asked, killed, end    time.Duration
		confirmAt, agentKills time.Duration
	}{
		{name: "obeys", p: compatible, found: 80 * time.Second, user: fakeUser{onAsk: 3 * time.Second}, asked: 80 * time.Second, end: 83 * time.Second},
		{name: "ignores SIGTERM", p: compatible, found: 80 * time.Second, user: fakeUser{onAsk: never}, asked: 80 * time.Second,
			killed: 120 * time.Second, end: 121 * time.Second},
		{name: "cannot die", p: compatible, found: 80 * time.Second, user: fakeUser{onAsk: never, onKill: never}, asked: 80 * time.Second,
			killed: 120 * time.Second, end: 200 * time.Second},
		{name: "keeper was stopped", p: compatible, found: 125 * time.Second, user: fakeUser{onAsk: 0}, killed: 125 * time.Second, end: 126 * time.Second},
		{name: "record overwritten", p: compatible, found: 20 * time.Second, user: fakeUser{onAsk: never}, asked: 20 * time.Second,
			killed: 60 * time.Second, end: 61 * time.Second},
		{name: "fast, ignores SIGTERM", p: fast, found: 16 * time.Second, user: fakeUser{onAsk: never}, asked: 16 * time.Second,
			killed: 23 * time.Second, end: 24 * time.Second},
		{name: "agent confirms", p: compatible, found: 80 * time.Second, user: fakeUser{onAsk: 0}, asked: 80 * time.Second,
			end: 90 * time.Second, confirmAt: 90 * time.Second},
		{name: "agent does not confirm", p: compatible, found: 80 * time.Second, user: fakeUser{onAsk: 0}, asked: 80 * time.Second,
			end: 126 * time.Second, confirmAt: never, agentKills: 125 * time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := tc.user
				end, agentKilled := windingOf(tc.p, tc.found, &u, tc.confirmAt, 200*time.Second)
				if u.asked != tc.asked || u.killed != tc.killed || end != tc.end || agentKilled != tc.agentKills {
					t.Errorf("asked %v, killed %v, end %v, agent killed %v", u.asked, u.killed, end, agentKilled)
				}
				if u.politeAfterForced {
					t.Error("SIGTERM after SIGKILL")
				}
				if tc.killed != 0 && tc.user.onKill < 0 && u.kills < 70 {
					t.Errorf("%d times SIGKILL", u.kills)
				}
			})
		})
	}
}

// TestTimeline_order: the steps come in their order and before the watchdog, for any W.
func TestTimeline_order(t *testing.T) {
	t.Parallel()
	for w := time.Second; w <= 5*time.Minute; w += time.Second {
		l := timeline{profile: leases.Profile{IOTimeout: time.Second, Watchdog: w}, failed: 8 * time.Second}
		watchdogFrom := l.over() - w/6
		if l.failed >= l.killAt() || l.killAt()+l.signalEvery() > l.agentKillAt()+l.signalEvery() || l.agentKillAt() >= watchdogFrom {
			t.Fatalf("W %v: killed at %v, agent at %v, watchdog from %v", w, l.killAt(), l.agentKillAt(), watchdogFrom)
		}
	}
	if c := (timeline{profile: leases.Compatible}); c.grace() != 40*time.Second || c.patience() != 45*time.Second {
		t.Errorf("compatible: %v, %v", c.grace(), c.patience())
	}
}
