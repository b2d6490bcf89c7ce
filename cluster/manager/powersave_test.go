package manager

import (
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// saver are five hosts: a leads, b is SPM, c, d and e are spare and have been for long.
func saver(change ...func(map[string]*SaveHost)) []SaveHost {
	m := map[string]*SaveHost{}
	names := []string{"a", "b", "c", "d", "e"}
	for _, n := range names {
		m[n] = &SaveHost{Name: n, State: fsm.HostUp, Reachable: true, Empty: time.Hour, Voter: true, HealthKnown: true, Healthy: true}
	}
	m["a"].Kept, m["b"].Kept = "it leads", "it has the SPM role"
	for _, fn := range change {
		fn(m)
	}
	var out []SaveHost
	for _, n := range names {
		out = append(out, *m[n])
	}
	return out
}

// byPolicy has the policy want a host in maintenance, in a state.
func byPolicy(name, state string) func(map[string]*SaveHost) {
	return func(m map[string]*SaveHost) {
		h := m[name]
		h.State, h.Wish = state, fsm.Wish{Want: fsm.WishMaintenance, By: fsm.WishByPolicy}
		if state == fsm.HostDown {
			h.Reachable, h.Power, h.Empty = false, PowerOff, 0
		}
	}
}

func hosts(change func(h *SaveHost), names ...string) func(map[string]*SaveHost) {
	return func(m map[string]*SaveHost) {
		for _, n := range names {
			change(m[n])
		}
	}
}

func TestDecideSave_table(t *testing.T) {
	t.Parallel()
	on := func(reserve int) Powersave { return Powersave{Enabled: true, Reserve: reserve, Idle: 20 * time.Minute} }
	off := Powersave{Idle: 20 * time.Minute}
	busy := func(h *SaveHost) { h.Empty = 0 }
	nonVoter := func(h *SaveHost) { h.Voter = false }
	for _, tc := range []struct {
		name   string
		p      Powersave
		hosts  []SaveHost
		action SaveAction
		host   string
	}{
		{"off, as it is by default", off, saver(), SaveNothing, ""},
		{"more spare than wanted", on(0), saver(), SaveMaintain, "e"},
		{"as many spare as wanted", on(3), saver(), SaveNothing, ""},
		{"not empty for long enough", on(0), saver(hosts(func(h *SaveHost) { h.Empty = time.Minute }, "c", "d", "e")), SaveNothing, ""},
		{"in use", on(0), saver(hosts(busy, "c", "d", "e")), SaveNothing, ""},
		{"only one is empty", on(0), saver(hosts(busy, "c", "e")), SaveMaintain, "d"},
		{"the leader and the SPM are never taken", on(0), saver(hosts(busy, "c", "d", "e"), hosts(func(h *SaveHost) { h.Empty = time.Hour }, "a", "b")), SaveNothing, ""},
		{"nobody has looked at its power devices", on(0), saver(hosts(func(h *SaveHost) { h.HealthKnown = false }, "e")), SaveLook, "e"},
		{"its power devices do not work", on(0), saver(hosts(func(h *SaveHost) { h.Healthy = false }, "e")), SaveMaintain, "d"},
		{"a voter that the majority needs", on(0), saver(hosts(func(h *SaveHost) { h.Reachable = false }, "c")), SaveNothing, ""},
		{"no voter", on(0), saver(hosts(func(h *SaveHost) { h.Reachable = false }, "c"), hosts(nonVoter, "d", "e")), SaveNothing, ""},
		{"three voters of five", on(0), saver(hosts(nonVoter, "d", "e")), SaveMaintain, "e"},
		{"three voters of five, all of which are needed", on(0), saver(hosts(nonVoter, "d", "e"), hosts(busy, "d", "e")), SaveNothing, ""},
		{"one on its way", on(0), saver(byPolicy("e", fsm.HostPreparing)), SaveNothing, ""},
		{"one on its way for too long", on(0), saver(byPolicy("e", fsm.HostPreparing), hosts(func(h *SaveHost) { h.Wished = time.Hour }, "e")), SaveActivate, "e"},
		{"one in maintenance", on(0), saver(byPolicy("e", fsm.HostMaintenance)), SaveOff, "e"},
		{"one in maintenance, not looked at", on(0), saver(byPolicy("e", fsm.HostMaintenance), hosts(func(h *SaveHost) { h.HealthKnown = false }, "e")), SaveLook, "e"},
		{"one in maintenance that could not be switched on again", on(0), saver(byPolicy("e", fsm.HostMaintenance), hosts(func(h *SaveHost) { h.Healthy = false }, "e")), SaveActivate, "e"},
		{"one in maintenance, acted on a moment ago", on(0), saver(byPolicy("e", fsm.HostMaintenance), hosts(func(h *SaveHost) { h.Recent = true }, "e")), SaveNothing, ""},
		{"one in maintenance, wanted back", on(3), saver(byPolicy("e", fsm.HostMaintenance)), SaveActivate, "e"},
		{"one that a person wants in maintenance", on(2), saver(byPolicy("e", fsm.HostMaintenance), hosts(func(h *SaveHost) { h.Wish.By = "ann" }, "e")), SaveNothing, ""},
		{"an operation is under way", on(0), saver(hosts(func(h *SaveHost) { h.Acting = true }, "c")), SaveNothing, ""},
		{"one off, wanted back", on(3), saver(byPolicy("e", fsm.HostDown)), SaveOn, "e"},
		{"one off, not wanted", on(2), saver(byPolicy("e", fsm.HostDown)), SaveNothing, ""},
		{"one off, another one in maintenance: that first", on(3), saver(byPolicy("e", fsm.HostDown), byPolicy("c", fsm.HostMaintenance)), SaveActivate, "c"},
		{"one off, and the majority needs the others", on(0), saver(byPolicy("e", fsm.HostDown)), SaveNothing, ""},
		{"one comes up", on(3), saver(byPolicy("e", fsm.HostRebooting)), SaveNothing, ""},
		{"switched off, one is off", off, saver(byPolicy("e", fsm.HostDown)), SaveOn, "e"},
		{"switched off, one is in maintenance", off, saver(byPolicy("e", fsm.HostMaintenance)), SaveActivate, "e"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := DecideSave(tc.p, tc.hosts); got.Action != tc.action || got.Host != tc.host {
				t.Errorf("got %q of %q (%s), want %q of %q", got.Action, got.Host, got.Reason, tc.action, tc.host)
			}
		})
	}
}

// An empty spare host goes to maintenance and off, and comes back when the reserve falls short.
func TestPowersave(t *testing.T) {
	fencingPool(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		set := Settings{Cluster: s, Now: time.Now}
		save := func(c PowersaveSettings) {
			if err := set.Powersave(t.Context(), "ann", c); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if s.switched().offs != 0 {
			t.Fatal("it saves power although nobody wants it to")
		}
		save(PowersaveSettings{Enabled: new(true), Idle: new(10 * time.Second)})
		s.until(t, "a host off", time.Minute, func() bool { return s.switched().offs == 1 })
		var taken string
		for _, h := range s.View().Hosts.All() {
			if h.Wish.By == fsm.WishByPolicy && h.Wish.Want != "" {
				taken = h.Name
			}
		}
		if taken == "" || taken == spm || taken == "e" {
			t.Fatalf("it took %q; the SPM is %s, e leads", taken, spm)
		}
		s.until(t, "a proof", 5*time.Second, func() bool { return s.proven(taken) })
		time.Sleep(2 * time.Minute)
		if n := s.switched(); n.offs != 1 || n.on != 0 {
			t.Fatalf("the majority needs the others: %+v", n)
		}
		if s.serving() != spm {
			t.Error("the role moved")
		}
		save(PowersaveSettings{Reserve: new(3)})
		s.until(t, "on again and up", time.Minute, func() bool {
			h, _ := s.View().Hosts.Get(taken)
			return s.switched().on == 1 && h.State == fsm.HostUp && h.Wish.Want == ""
		})
		for i, b := range s.breaches {
			if b == "switched off a host that answers: "+taken { // in maintenance, and meant
				s.breaches = append(s.breaches[:i], s.breaches[i+1:]...)
				break
			}
		}
	})
}
