package fsm

import (
	"fmt"
	"strings"
	"testing"
)

func wish(want, by string, expect *string) *HostWish {
	return &HostWish{Host: "h1", Want: want, By: by, Expect: expect, Reason: "r of " + by, Time: 50}
}

func TestHostWish_rules(t *testing.T) {
	t.Parallel()
	runCases(t, []outcomeCase{
		{"maintenance", []Command{wish(WishMaintenance, "ann", nil)}, nil},
		{"taken back", []Command{wish(WishMaintenance, "ann", nil), wish("", "ben", new(WishMaintenance))}, nil},
		{"as expected", []Command{wish(WishMaintenance, "ann", new(""))}, nil},
		{"not as expected", []Command{wish(WishMaintenance, "ann", nil), wish(WishMaintenance, "ben", new(""))}, ErrConflict},
		{"take-back that comes late", []Command{wish("", "ann", new(WishMaintenance))}, ErrConflict},
		{"unknown wish", []Command{wish("holidays", "ann", nil)}, ErrInvalid},
		{"no such host", []Command{&HostWish{Host: "h9"}}, ErrNotFound},
		{"the policy takes its own back", []Command{wish(WishMaintenance, WishByPolicy, nil), wish("", WishByPolicy, nil)}, nil},
		{"the policy takes a person's back", []Command{wish(WishMaintenance, "ann", nil), wish("", WishByPolicy, nil)}, ErrConflict},
		{"the policy takes a person's over", []Command{wish(WishMaintenance, "ann", nil), wish(WishMaintenance, WishByPolicy, nil)}, ErrConflict},
		{"a person takes the policy's back", []Command{wish(WishMaintenance, WishByPolicy, nil), wish("", "ann", nil)}, nil},
		{"the policy wishes after a person's take-back", []Command{wish("", "ann", nil), wish(WishMaintenance, WishByPolicy, nil)}, nil},
	})
}

func TestHostWish_survivesUpdatesAndIsNoJoinersToGive(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	run(t, f, wish(WishMaintenance, "ann", nil), &HostUpdate{Name: "h1", State: new(HostPreparing), Time: 60})
	h, _ := f.View().Hosts.Get("h1")
	if h.Wish != (Wish{WishMaintenance, "ann", "r of ann", 50}) || h.State != HostPreparing {
		t.Errorf("%+v", h)
	}
	join := joinAs("h2", "t", 5)
	join.Host.Wish, join.Host.Deadline, join.Host.Witnesses = Wish{Want: WishMaintenance}, 7, []Witness{{Kind: WitnessRPC}}
	run(t, f, token("t"), join)
	if h, ok := f.View().Hosts.Get("h2"); !ok || h.Wish != (Wish{}) || h.Deadline != 0 || h.Witnesses != nil {
		t.Errorf("%+v", h)
	}
}

func TestHostUpdate_deadlineEndsWithTheState(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	host := func(u *HostUpdate) Host {
		u.Name = "h1"
		if out := last(t, f, u); out.Err() != nil {
			t.Fatal(out.Err())
		}
		h, _ := f.View().Hosts.Get("h1")
		return h
	}
	if h := host(&HostUpdate{State: new(HostConnecting), Deadline: new(int64(90)), Time: 60}); h.Deadline != 90 || h.Since != 60 {
		t.Errorf("%+v", h)
	}
	if h := host(&HostUpdate{State: new(HostConnecting), Time: 61}); h.Deadline != 90 || h.Since != 60 {
		t.Errorf("the same state again: %+v", h)
	}
	if h := host(&HostUpdate{State: new(HostUp), Time: 62}); h.Deadline != 0 || h.Since != 62 {
		t.Errorf("another state: %+v", h)
	}
	if h := host(&HostUpdate{Reason: new(strings.Repeat("x", 5000))}); len(h.Reason) > MaxReason {
		t.Errorf("a reason of %d bytes", len(h.Reason))
	}
}

func TestHostUpdate_witnesses(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	in := []Witness{{Kind: WitnessRPC, State: "old"}, {Kind: WitnessLease, Subject: "d2"}, {Kind: WitnessLease, Subject: "d1"}, {Kind: WitnessRPC, State: "new"}}
	run(t, f, &HostUpdate{Name: "h1", Witnesses: &in})
	h, _ := f.View().Hosts.Get("h1")
	if fmt.Sprint(h.Witnesses) != "[{lease d1   0} {lease d2   0} {rpc  new  0}]" {
		t.Errorf("%v", h.Witnesses)
	}
	run(t, f, &HostUpdate{Name: "h1", Time: 9})
	if h, _ := f.View().Hosts.Get("h1"); len(h.Witnesses) != 3 {
		t.Errorf("an update that says nothing of them changed them: %v", h.Witnesses)
	}
	run(t, f, &HostUpdate{Name: "h1", Witnesses: &[]Witness{}})
	if h, _ := f.View().Hosts.Get("h1"); h.Witnesses != nil {
		t.Errorf("they were not taken away: %v", h.Witnesses)
	}
	var many []Witness
	for i := range 2 * maxWitnesses {
		many = append(many, Witness{Kind: WitnessLease, Subject: fmt.Sprint(i), Detail: strings.Repeat("x", 5000)})
	}
	run(t, f, &HostUpdate{Name: "h1", Witnesses: &many})
	if h, _ := f.View().Hosts.Get("h1"); len(h.Witnesses) != maxWitnesses || len(h.Witnesses[0].Detail) > MaxReason {
		t.Errorf("%d witnesses", len(h.Witnesses))
	}
}

func TestHost_CurrentState_readsOldWords(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{HostFenced: HostDown, "unresponsive": HostNonResponsive, HostUp: HostUp, HostIsolated: HostIsolated} {
		if got := (Host{State: state}).CurrentState(); got != want {
			t.Errorf("%s is read as %s", state, got)
		}
	}
}
