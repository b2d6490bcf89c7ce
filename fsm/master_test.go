package fsm

import (
	"fmt"
	"strings"
	"testing"
)

// twoDomains has the pool p2 with the master d1, and d2; both are recorded as the setup does it.
func twoDomains(t *testing.T) *FSM {
	t.Helper()
	f := New()
	for _, out := range run(t, f,
		&ClusterInit{ClusterID: "c", Version: 1, Host: Host{Name: "h1"}, Time: 1},
		&DomainPut{Domain: Domain{ID: "d1", Name: "one", Role: RoleMaster, Status: DomainActive, Epoch: 1}},
		&PoolCreate{Pool: Pool{ID: "p2", Name: "pool", Master: "d1"}, Time: 2},
		&DomainPut{Domain: Domain{ID: "d2", Name: "two", Role: RoleRegular, Epoch: 1}},
	) {
		if out.Err() != nil {
			t.Fatal(out.Err())
		}
	}
	return f
}

func toMaster(to, expect string, version int) *PoolMaster {
	return &PoolMaster{Pool: "p2", Master: to, Expect: expect, MasterVersion: version, Host: "h1", By: "ann", Reason: "r", Time: int64(100 + version)}
}

// A proof that names no lockspace is about that of the master of its time. The next one's has its own generations: a host that lives there
// in the same one is not proven dead.
func TestState_ProofOf_formerMaster(t *testing.T) {
	t.Parallel()
	f := twoDomains(t)
	add := func(p Proof) Command { return &ProofAdd{Proof: p} }
	last(t, f, add(Proof{Kind: ProofPerson, Host: "h2", HostID: 2, Generation: 3, Time: 90}))
	if _, ok := f.View().ProofOf(2, "d1", 3); !ok {
		t.Fatal("the proof says nothing about the master of its time")
	}
	last(t, f, toMaster("d2", "d1", 1))
	for _, d := range []string{"d1", "d2"} {
		if p, ok := f.View().ProofOf(2, d, 3); ok {
			t.Errorf("after the master has changed it is about %s: %+v", d, p)
		}
	}
	last(t, f, add(Proof{Kind: ProofPerson, Host: "h2", HostID: 2, Generation: 4, Time: 900}))
	if _, ok := f.View().ProofOf(2, "d2", 4); !ok {
		t.Error("one that was made since is not")
	}
}

// Only so many proofs of a host are kept, the newest: a new master's lockspace begins with low generations again.
// What was seen of a host that was removed is no part of a proof about its namesake.
func TestProofAdd_namesake(t *testing.T) {
	t.Parallel()
	f := New()
	seen := func(ls string) []SpaceRecord { return []SpaceRecord{{Lockspace: ls, Generation: 3, Timestamp: 9}} }
	add := func(id int, ls string) Proof {
		last(t, f, &ProofAdd{Proof: Proof{Kind: ProofPowerOff, Host: "h2", HostID: id, Generation: 1, Time: 1, Spaces: seen(ls)}})
		p, _ := f.View().Proofs.Get(ProofKey("h2", 1))
		return p
	}
	add(2, "a")
	if p := add(2, "b"); len(p.Spaces) != 2 {
		t.Errorf("of one host: %+v", p)
	}
	if p := add(5, "c"); p.HostID != 5 || len(p.Spaces) != 1 || p.Spaces[0].Lockspace != "c" {
		t.Errorf("of its namesake: %+v", p)
	}
}

func TestProofAdd_bounded(t *testing.T) {
	t.Parallel()
	f := twoDomains(t)
	for i := range uint64(2 * proofsPerHost) {
		last(t, f, &ProofAdd{Proof: Proof{Kind: ProofPowerOff, Host: "h2", HostID: 2, Generation: 1000 - i, Time: int64(100 + i)}})
		if _, ok := f.View().Proofs.Get(ProofKey("h2", 1000-i)); !ok {
			t.Fatalf("the proof of generation %d was forgotten as it was recorded", 1000-i)
		}
	}
	if n := f.View().Proofs.Len(); n != proofsPerHost {
		t.Errorf("%d proofs are kept", n)
	}
	last(t, f, &ProofAdd{Proof: Proof{Kind: ProofPowerOff, Host: "h2", HostID: 2, Generation: 5, Time: 1}}) // by a clock that lags
	if _, ok := f.View().Proofs.Get(ProofKey("h2", 5)); !ok {
		t.Error("a new proof was forgotten because of its time")
	}
}

func status(id, s string) *DomainUpdate { return &DomainUpdate{ID: id, Status: &s, Time: 50} }

func TestPoolMaster_rules(t *testing.T) {
	t.Parallel()
	force := func(c *PoolMaster) *PoolMaster { c.Force = true; return c }
	abandon := func(confirmed string) *PoolMaster {
		c := toMaster("d2", "d1", 1)
		c.Abandoned, c.Confirmed = true, confirmed
		return c
	}
	mark := func(v string) *ConfigSet { return &ConfigSet{Key: ConfigMasterConfirmed, Value: v} }
	for _, c := range []struct {
		name string
		cmds []Command
		want Code
	}{
		{"good", []Command{toMaster("d2", "d1", 1)}, ""},
		{"given up", []Command{abandon("")}, ""},
		{"given up, after the last SPM made sure", []Command{mark("h1 1"), abandon("h1 1")}, ""},
		{"given up, the SPM made sure meanwhile", []Command{mark("h1 1"), abandon("")}, CodeConflict},
		{"given up, the SPM made sure once more meanwhile", []Command{mark("h1 1"), mark("h1 2"), abandon("h1 1")}, CodeConflict},
		{"handed over, whoever made sure", []Command{mark("h1 1"), toMaster("d2", "d1", 1)}, ""},
		{"the same again", []Command{toMaster("d2", "d1", 1), toMaster("d2", "d1", 1)}, ""},
		{"back", []Command{toMaster("d2", "d1", 1), toMaster("d1", "d2", 2)}, ""},
		{"somebody was faster", []Command{toMaster("d2", "d1", 1), toMaster("d2", "d1", 2)}, CodeConflict},
		{"version does not grow", []Command{toMaster("d2", "d1", 2), toMaster("d1", "d2", 2)}, CodeStale},
		{"version 0", []Command{toMaster("d2", "d1", 0)}, CodeStale},
		{"new version of the same master", []Command{toMaster("d1", "d1", 1)}, ""},
		{"no such pool", []Command{&PoolMaster{Pool: "p", Master: "d2", Expect: "d1", MasterVersion: 1}}, CodeNotFound},
		{"no such domain", []Command{force(toMaster("d3", "d1", 1))}, CodeNotFound},
		{"unknown", []Command{status("d2", DomainUnknown), toMaster("d2", "d1", 1)}, ""},
		{"inactive", []Command{status("d2", DomainInactive), toMaster("d2", "d1", 1)}, CodeConflict},
		{"inactive, forced", []Command{status("d2", DomainInactive), force(toMaster("d2", "d1", 1))}, ""},
		{"activating", []Command{status("d2", DomainActivating), toMaster("d2", "d1", 1)}, CodeConflict},
		{"in maintenance, forced", []Command{status("d2", DomainMaintenance), force(toMaster("d2", "d1", 1))}, CodeConflict},
		{"on its way into maintenance, forced", []Command{status("d2", DomainPreparing), force(toMaster("d2", "d1", 1))}, CodeConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := twoDomains(t)
			out := last(t, f, c.cmds...)
			if out.Code != c.want {
				t.Errorf("%q (%s), want %q", out.Code, out.Message, c.want)
			}
			checkMaster(t, f.View())
		})
	}
}

// checkMaster holds the roles of the domains against the pool.
func checkMaster(t *testing.T, s *State) {
	t.Helper()
	p, ok := s.Pool()
	if !ok || p.Master == "" {
		return
	}
	for id, d := range s.Domains.All() {
		if (d.Role == RoleMaster) != (id == p.Master) {
			t.Errorf("domain %s has role %q, the master is %s", id, d.Role, p.Master)
		}
		if id == p.Master && (d.Status == DomainPreparing || d.Status == DomainMaintenance) {
			t.Errorf("the master is in %s", d.Status)
		}
	}
}

func TestPoolMaster_remembersFormerOnes(t *testing.T) {
	t.Parallel()
	f := twoDomains(t)
	lost := toMaster("d2", "d1", 3)
	lost.Abandoned = true
	run(t, f, lost)
	p, _ := f.View().Pool()
	if p.Master != "d2" || p.MasterVersion != 3 || p.MasterSince != 103 || fmt.Sprint(p.Former) != "[{d1 0 103 true}]" {
		t.Errorf("%+v", p)
	}
	events := f.View().Events()
	if len(events) != 1 || events[0].Kind != "pool.master" || events[0].Severity != Warning || events[0].Reason != "r" || !strings.Contains(events[0].Message, "ann") {
		t.Errorf("%+v", events)
	}
	names := []string{"d2", "d1"}
	for i := range 2 * maxFormer {
		if out := last(t, f, toMaster(names[(i+1)%2], names[i%2], 4+i)); out.Err() != nil {
			t.Fatal(out.Err())
		}
	}
	after, _ := f.View().Pool()
	if len(after.Former) != maxFormer || after.Former[maxFormer-1].Version != after.MasterVersion-1 {
		t.Errorf("%d former masters, the last %+v", len(after.Former), after.Former[len(after.Former)-1])
	}
	if len(p.Former) != 1 {
		t.Error("a published pool changed")
	}
}

// What an SPM says about a domain must not undo what the manager or a change of the master recorded: it may have
// looked before.
func TestDomainPut_keepsRoleAndVerdict(t *testing.T) {
	t.Parallel()
	f := twoDomains(t)
	run(t, f, toMaster("d2", "d1", 1), &DomainUpdate{ID: "d1", Status: new(DomainInactive), Reason: new("r"), Deadline: new(int64(80)),
		Failing: &[]string{"h3", "h1", "h3"}, Time: 60})
	for _, d := range []Domain{{ID: "d1", Name: "new", Role: RoleMaster, Status: DomainActive, Free: 5, Epoch: 2}, {ID: "d2", Role: RoleRegular, Epoch: 2}} {
		if out := last(t, f, &DomainPut{Domain: d}); out.Err() != nil {
			t.Fatal(out.Err())
		}
	}
	checkMaster(t, f.View())
	d, _ := f.View().Domains.Get("d1")
	want := Domain{ID: "d1", Name: "new", Role: RoleRegular, Status: DomainInactive, Free: 5, Epoch: 2, Reason: "r", Since: 60, Deadline: 80,
		Failing: []string{"h1", "h3"}}
	if fmt.Sprint(d) != fmt.Sprint(want) {
		t.Errorf("%+v\nwant %+v", d, want)
	}
	// A lost master that is recorded anew still calls itself so.
	run(t, f, &DomainRemove{ID: "d1", Epoch: 2}, &DomainPut{Domain: Domain{ID: "d1", Role: "Master", Epoch: 3}})
	if d, ok := f.View().Domains.Get("d1"); !ok || d.Role != RoleRegular || d.Status != DomainActive {
		t.Errorf("%+v", d)
	}
}

func TestDomainUpdate_rules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		cmd  *DomainUpdate
		want Code
	}{
		{"inactive", status("d2", DomainInactive), ""},
		{"maintenance", status("d2", DomainMaintenance), ""},
		{"the master inactive", status("d1", DomainInactive), ""},
		{"the master into maintenance", status("d1", DomainMaintenance), CodeConflict},
		{"the master on its way into maintenance", status("d1", DomainPreparing), CodeConflict},
		{"no such domain", status("d9", DomainInactive), CodeNotFound},
		{"unknown status", status("d2", "sad"), CodeInvalid},
		{"empty status", status("d2", ""), CodeInvalid},
		{"as expected", &DomainUpdate{ID: "d2", Status: new(DomainInactive), Expect: new(DomainActive)}, ""},
		{"not as expected", &DomainUpdate{ID: "d2", Status: new(DomainActive), Expect: new(DomainInactive)}, CodeConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := twoDomains(t)
			before, _ := f.View().Domains.Get(c.cmd.ID)
			out := last(t, f, c.cmd)
			after, _ := f.View().Domains.Get(c.cmd.ID)
			if out.Code != c.want || (out.Code != "" && fmt.Sprint(before) != fmt.Sprint(after)) {
				t.Errorf("%q (%s), want %q; %+v", out.Code, out.Message, c.want, after)
			}
			checkMaster(t, f.View())
		})
	}
}

func TestDomainUpdate_reasonAndDeadlineEndWithTheStatus(t *testing.T) {
	t.Parallel()
	f := twoDomains(t)
	update := func(u *DomainUpdate) Domain {
		u.ID = "d2"
		if out := last(t, f, u); out.Err() != nil {
			t.Fatal(out.Err())
		}
		d, _ := f.View().Domains.Get("d2")
		return d
	}
	if d := update(&DomainUpdate{Status: new(DomainActive), Time: 10}); d.Since != 0 {
		t.Errorf("it was active before: %+v", d)
	}
	d := update(&DomainUpdate{Status: new(DomainInactive), Reason: new(strings.Repeat("x", 5000)), Deadline: new(int64(90)), Failing: &[]string{"h1"}, Time: 20})
	if d.Since != 20 || d.Deadline != 90 || len(d.Reason) > MaxReason || d.Reason == "" {
		t.Errorf("%+v", d)
	}
	if d := update(&DomainUpdate{Status: new(DomainInactive), Deadline: new(int64(95)), Time: 30}); d.Since != 20 || d.Deadline != 95 || d.Reason == "" {
		t.Errorf("the same status again: %+v", d)
	}
	if d := update(&DomainUpdate{Status: new(DomainActive), Failing: &[]string{}, Time: 40}); d.Since != 40 || d.Deadline != 0 || d.Reason != "" || d.Failing != nil {
		t.Errorf("another status: %+v", d)
	}
}

// Generations of the old master's lockspace mean nothing under the new one: neither do proofs about them, nor late reports.
func TestPoolMaster_generations(t *testing.T) {
	t.Parallel()
	f := twoDomains(t)
	run(t, f, &HostUpdate{Name: "h1", Generation: new(uint64(9)), Space: "d1", Time: 2},
		&ProofAdd{Proof: Proof{Kind: ProofPowerOff, Host: "h1", HostID: 1, Generation: 9, Time: 5000,
			Spaces: []SpaceRecord{{Lockspace: "d1", Generation: 9}, {Lockspace: "d2", Generation: 2}}}})
	proven := func() bool {
		h, _ := f.View().Hosts.Get("h1")
		_, ok := f.View().ProofFor(h)
		return ok
	}
	if !proven() {
		t.Fatal("not proven before")
	}
	run(t, f, toMaster("d2", "d1", 1)) // by a clock that is behind the proof's
	h, _ := f.View().Hosts.Get("h1")
	p, _ := f.View().Pool()
	if h.Generation != 0 || p.MasterSince <= 5000 || proven() {
		t.Fatalf("generation %d, since %d, proven %v", h.Generation, p.MasterSince, proven())
	}
	if out := last(t, f, &HostUpdate{Name: "h1", Generation: new(uint64(9)), Space: "d1", Time: 6}); out.Code != CodeStale {
		t.Errorf("a late report about the old lockspace: %+v", out)
	}
	run(t, f, &HostUpdate{Name: "h1", Generation: new(uint64(3)), Space: "d2", Time: 7})
	if proven() {
		t.Error("a proof about generation 2 covers generation 3")
	}
	if out := last(t, f, &HostRemove{Name: "h1", Time: 8}); out.Code != CodeProofRequired {
		t.Errorf("removed by a proof from before the change: %+v", out)
	}
	run(t, f, &ProofAdd{Proof: Proof{Kind: ProofDead, Host: "h1", HostID: 1, Generation: 3, Time: p.MasterSince}})
	if !proven() {
		t.Error("a proof made under the new master does not count")
	}
}
