package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// burnt is a sim whose master domain can be lost: nobody reads it, and of the other domain everybody does.
type burnt struct {
	*sim
	mu     sync.Mutex
	lost   bool
	deaf   bool             // nobody reads the other domain either
	refuse map[string]error // why a host does not give its word
	words  map[string]time.Duration
	ids    bool   // its lockspace is readable all the same
	asked  func() // when a host is asked for its word
	starts int    // orders to take the role under the old master since then
}

func (b *burnt) Call(ctx context.Context, host, method string, in, out any) error {
	b.mu.Lock()
	lost, deaf, ids, refuse, asked := b.lost, b.deaf, b.ids, b.refuse[host], b.asked
	if method == spm.MethodStart && len(b.words) > 0 && in.(spm.StartRequest).Master == simMaster {
		b.starts++
	}
	b.mu.Unlock()
	switch method {
	case spm.MethodRetire:
		if asked != nil {
			defer asked()
		}
		var rep PingReply
		if err := b.sim.Call(ctx, host, MethodPing, struct{}{}, &rep); err != nil {
			return err
		}
		if rep.Role.State != RoleNone {
			return spm.ErrBusy
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if refuse == nil {
			b.words[host] = in.(spm.RetireRequest).For
		}
		return refuse
	case MethodInspect:
		if lost {
			return errors.New("input/output error")
		}
	}
	err := b.sim.Call(ctx, host, method, in, out)
	switch rep := out.(type) {
	case *PingReply:
		rep.MasterValid = rep.MasterValid && !lost
	case *SightReply:
		rep.Seen = slices.DeleteFunc(rep.Seen, func(s SpaceSight) bool { return lost && !ids && s.Lockspace == simMaster || deaf })
	}
	return err
}

// lose loses the master, and with it the SPM's host.
func (b *burnt) lose(spm string) {
	b.kill(spm)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = true
}

// inFlames runs fn with three hosts, the leader c, and two domains.
func inFlames(t *testing.T, fn func(t *testing.T, b *burnt, m *Manager, spm string), change ...func(*Config)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &burnt{sim: newSim(t, "a", "b", "c"), refuse: map[string]error{}, words: map[string]time.Duration{}}
		b.hosts["c"].master = false // it is not elected
		for _, id := range []string{simMaster, simOther} {
			b.must(t, &fsm.DomainPut{Domain: fsm.Domain{ID: id, Name: id, Status: fsm.DomainActive}})
		}
		change = append(change, func(c *Config) { c.Cluster, c.Fenceable = b, nil })
		m, stop := b.lead(t, "c", change...)
		defer b.check(t)
		defer stop()
		b.until(t, "election", 2*time.Second, func() bool { return b.serving() != "" })
		fn(t, b, m, b.serving())
	})
}

var lostMaster = Reconstruction{Domain: simOther, By: "ann", Reason: "the array burnt"}

// master is what the mirror says.
func (b *burnt) master() (string, int) { p, _ := b.View().Pool(); return p.Master, p.MasterVersion }

// While the master can be read, or an SPM works under it, nothing is given up.
func TestManager_Reconstruct_masterReadable(t *testing.T) {
	inFlames(t, func(t *testing.T, b *burnt, m *Manager, spm string) {
		for range 2 { // with its SPM, and without
			if _, err := m.ReconstructMaster(t.Context(), lostMaster); !errors.Is(err, ErrMasterReadable) {
				t.Fatalf("%v", err)
			}
			b.kill(spm)
			time.Sleep(time.Second)
		}
		if id, v := b.master(); id != simMaster || v != 0 || len(b.words) > 0 {
			t.Errorf("%s, %d; words %v", id, v, b.words)
		}
	})
}

// The master is given up when the silent host is dead in the lockspaces of all other domains, and the others gave their word; not
// before. The refusal tells who, why, and how long.
func TestManager_Reconstruct_waitsForDeath(t *testing.T) {
	inFlames(t, func(t *testing.T, b *burnt, m *Manager, spm string) {
		b.lose(spm)
		begun, refused := time.Now(), 0
		var out Reconstructed
		var last time.Duration
		for {
			var err error
			if out, err = m.ReconstructMaster(t.Context(), lostMaster); err == nil {
				break
			}
			var e *UnprovenError
			if !errors.As(err, &e) || len(e.Obstacles) != 1 || e.Obstacles[0].Host != spm || e.Obstacles[0].Answers || e.In() <= 0 {
				t.Fatalf("after %s: %v", time.Since(begun), err)
			}
			if refused > 0 && e.In() > last {
				t.Errorf("the countdown goes up, from %s to %s", last, e.In())
			}
			last = e.In()
			time.Sleep(20 * time.Millisecond)
			b.mu.Lock()
			for h, d := range b.words {
				if d != 0 {
					t.Errorf("%s is bound by its word after a refusal", h)
				}
			}
			b.mu.Unlock()
			if id, _ := b.master(); id != simMaster || b.View().Proofs.Len() != 0 {
				t.Fatal("a refusal left something behind")
			}
			if refused++; time.Since(begun) > time.Minute {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond)
		}
		if early := tooEarly(b, spm); early != "" {
			t.Error(early)
		}
		if took := time.Since(begun); took < 8*time.Second {
			t.Errorf("given up after %s: its leases were not dead", took)
		}
		if out.Former != simMaster || out.Version != 2 || len(out.Promised) != 2 || len(out.Proofs) != 1 || out.Proofs[0].Kind != fsm.ProofDead || out.Proofs[0].Host != spm {
			t.Errorf("%+v", out)
		}
		p, _ := b.View().Pool()
		if p.Master != simOther || p.MasterVersion != 2 || len(p.Former) != 1 || !p.Former[0].Abandoned || b.View().Proofs.Len() != 1 {
			t.Errorf("%+v", p)
		}
		if !b.otherOf(spm).free {
			t.Error("the dead host's record in the new master's lockspace was not freed")
		}
		again, err := m.ReconstructMaster(t.Context(), lostMaster)
		if err != nil || again.Version != 2 || again.Former != simMaster {
			t.Errorf("asked for again: %+v, %v", again, err)
		}
	})
}

// A host that answers and does not give its word cannot be overruled by anybody.
func TestManager_Reconstruct_refusedWord(t *testing.T) {
	inFlames(t, func(t *testing.T, b *burnt, m *Manager, spm string) {
		b.lose(spm)
		time.Sleep(time.Minute)
		b.mu.Lock()
		b.refuse["c"] = errors.New("3 device calls have not come back")
		b.mu.Unlock()
		force := lostMaster
		force.Force, force.Dead = true, []string{"c", spm}
		_, err := m.ReconstructMaster(t.Context(), force)
		var e *UnprovenError
		if !errors.As(err, &e) || len(e.Obstacles) != 1 || !e.Obstacles[0].Answers || e.In() != 0 || !strings.Contains(err.Error(), "3 device calls") {
			t.Fatalf("%v", err)
		}
		if id, _ := b.master(); id != simMaster {
			t.Error(id)
		}
	})
}

// While a master is being given up the leader gives nobody the role under it, also when it can be read again: a host that joined after
// the others had given their word has not given its own.
func TestManager_Reconstruct_startsNobodyMeanwhile(t *testing.T) {
	inFlames(t, func(t *testing.T, b *burnt, m *Manager, spm string) {
		b.lose(spm)
		time.Sleep(time.Minute)
		b.mu.Lock()
		b.asked = func() {
			b.mu.Lock()
			b.lost = false
			b.mu.Unlock()
			time.Sleep(2 * time.Second)
		}
		b.mu.Unlock()
		_, err := m.ReconstructMaster(t.Context(), lostMaster)
		b.mu.Lock()
		defer b.mu.Unlock()
		if err != nil || b.starts != 0 {
			t.Errorf("%d orders to take the role under the master that was given up; %v", b.starts, err)
		}
	})
}

// A host that lives in the lockspace of the lost master, and is dead in all others, is no obstacle; no proof of death may be made of that
// which has its record freed where it lives: its guests' leases would be.
func TestManager_Reconstruct_livesInTheLostLockspace(t *testing.T) {
	inFlames(t, func(t *testing.T, b *burnt, m *Manager, spm string) {
		b.lose(spm)
		time.Sleep(time.Minute)
		b.mu.Lock()
		b.ids = true
		b.mu.Unlock()
		b.sim.mu.Lock()
		b.livesIn = map[string]string{spm: simMaster}
		id, before := b.hosts[spm].id, b.hosts[spm].record(simMaster)
		b.sim.mu.Unlock()
		out, err := m.ReconstructMaster(t.Context(), lostMaster)
		if err != nil || len(out.Proofs) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		if s, ok := out.Proofs[0].Space(simMaster, ""); ok {
			t.Errorf("the proof is about a record that is alive: %+v", s)
		}
		b.sim.mu.Lock()
		defer b.sim.mu.Unlock()
		if b.hosts[spm].record(simMaster).Timestamp == 0 {
			t.Errorf("host id %d was freed in the lockspace where it lives; its record was %+v", id, before)
		}
	})
}

// An SPM that makes sure of its master while that is being given up, because it regained a domain in whose lockspace it was dead when it was
// looked for, makes the commit fail: it serves that domain by then.
func TestManager_Reconstruct_confirmedMeanwhile(t *testing.T) {
	for _, planted := range []bool{false, true} {
		t.Run(fmt.Sprintf("planted=%v", planted), func(t *testing.T) {
			inFlames(t, func(t *testing.T, b *burnt, m *Manager, spm string) {
				b.lose(spm)
				time.Sleep(time.Minute)
				b.mu.Lock()
				b.asked = func() { // when all have been looked at
					if !planted {
						b.must(t, &fsm.ConfigSet{Key: fsm.ConfigMasterConfirmed, Value: spm + " 1"})
					}
				}
				b.mu.Unlock()
				_, err := m.ReconstructMaster(t.Context(), lostMaster)
				if planted { // without the mark nothing stops it
					if id, _ := b.master(); err != nil || id != simOther {
						t.Errorf("%v, %s", err, id)
					}
					return
				}
				if id, _ := b.master(); !errors.Is(err, fsm.ErrConflict) || id != simMaster || b.View().Proofs.Len() != 0 {
					t.Errorf("%v; the master is %s, %d proofs are left", err, id, b.View().Proofs.Len())
				}
				time.Sleep(20 * time.Millisecond)
				b.mu.Lock()
				for h, d := range b.words {
					if d != 0 {
						t.Errorf("%s is bound by its word after a refusal", h)
					}
				}
				b.asked = nil
				b.mu.Unlock()
				if _, err := m.ReconstructMaster(t.Context(), lostMaster); err != nil {
					t.Errorf("looked at again: %v", err)
				}
			})
		})
	}
}

// A person's word counts for the hosts that it names, and is recorded.
func TestManager_Reconstruct_forced(t *testing.T) {
	inFlames(t, func(t *testing.T, b *burnt, m *Manager, spm string) {
		b.lose(spm)
		time.Sleep(time.Second)
		force := lostMaster
		force.Force = true
		if _, err := m.ReconstructMaster(t.Context(), force); !errors.Is(err, ErrMasterNotProven) {
			t.Fatalf("without a name: %v", err)
		}
		force.Dead = []string{spm}
		out, err := m.ReconstructMaster(t.Context(), force)
		if err != nil || len(out.Proofs) != 1 || out.Proofs[0].Kind != fsm.ProofPerson || out.Proofs[0].By != "ann" || !strings.Contains(out.Proofs[0].Evidence, "the array burnt") {
			t.Fatalf("%+v, %v", out, err)
		}
	})
}

// What nobody can read proves nothing: neither the lockspace of another domain, nor that of the one that is to be master.
func TestManager_Reconstruct_unread(t *testing.T) {
	inFlames(t, func(t *testing.T, b *burnt, m *Manager, spm string) {
		b.must(t, &fsm.DomainPut{Domain: fsm.Domain{ID: "dom-9", Name: "unread", Status: fsm.DomainActive}})
		b.lose(spm)
		time.Sleep(time.Minute)
		if _, err := m.ReconstructMaster(t.Context(), lostMaster); !errors.Is(err, ErrMasterNotProven) || !strings.Contains(err.Error(), "dom-9") {
			t.Errorf("a third domain: %v", err)
		}
		unread := lostMaster
		unread.Domain = "dom-9"
		if _, err := m.ReconstructMaster(t.Context(), unread); !errors.Is(err, ErrNewMasterUnread) {
			t.Errorf("onto it: %v", err)
		}
		unread.Domain = "dom-77"
		if _, err := m.ReconstructMaster(t.Context(), unread); !errors.Is(err, fsm.ErrNotFound) {
			t.Errorf("onto a stranger: %v", err)
		}
		unread.Domain = simMaster
		if _, err := m.ReconstructMaster(t.Context(), unread); !errors.Is(err, fsm.ErrConflict) {
			t.Errorf("onto itself: %v", err)
		}
		if id, _ := b.master(); id != simMaster {
			t.Error(id)
		}
	})
}

// The death of a machine that nothing resets is no proof, by the pool's policy; a proof of another kind is.
func TestManager_Reconstruct_unprotected(t *testing.T) {
	inFlames(t, func(t *testing.T, b *burnt, m *Manager, spm string) {
		b.lose(spm)
		time.Sleep(time.Minute)
		_, err := m.ReconstructMaster(t.Context(), lostMaster)
		if !errors.Is(err, ErrMasterNotProven) || !strings.Contains(err.Error(), "nothing resets its machine") {
			t.Fatalf("%v", err)
		}
		h, _ := b.View().Hosts.Get(spm)
		p := fsm.Proof{Kind: fsm.ProofPowerOff, Host: spm, HostID: h.HostID, Generation: h.Generation, Evidence: "its plug was pulled", Time: time.Now().UnixNano()}
		b.sim.mu.Lock()
		for _, ls := range []string{simMaster, simOther} {
			rec := b.hosts[spm].record(ls)
			p.Spaces = append(p.Spaces, fsm.SpaceRecord{Lockspace: ls, Generation: rec.Generation, Timestamp: rec.Timestamp})
		}
		b.sim.mu.Unlock()
		b.must(t, &fsm.ProofAdd{Proof: p})
		time.Sleep(5 * time.Second) // keepers remember records that were freed as they were
		if out, err := m.ReconstructMaster(t.Context(), lostMaster); err != nil || len(out.Proofs) != 0 {
			t.Fatalf("with its power off: %+v, %v", out, err)
		}
	}, func(c *Config) { c.Policy.UnprotectedTakeover = false })
}

// tooEarly is the checker: it tells of a master that was given up while a silent host was neither dead on storage nor proven dead.
func tooEarly(b *burnt, spm string) string {
	if id, _ := b.master(); id == simMaster {
		return ""
	}
	h, _ := b.View().Hosts.Get(spm)
	for _, p := range b.View().Proofs.All() {
		if p.Host == spm && p.Kind != fsm.ProofDead {
			return ""
		}
	}
	b.sim.mu.Lock()
	defer b.sim.mu.Unlock()
	if s := b.hosts[spm].state(); s.State != leases.HostDead && s.State != leases.HostFree {
		return h.Name + " is " + string(s.State) + " and the master was given up"
	}
	return ""
}

// Planted: a leader that asks for no proof is seen.
func TestManager_Reconstruct_planted(t *testing.T) {
	for name, bug := range map[string]string{"sound": "", bugNoProof: bugNoProof} {
		t.Run(name, func(t *testing.T) {
			inFlames(t, func(t *testing.T, b *burnt, m *Manager, spm string) {
				m.bug = bug
				b.lose(spm)
				time.Sleep(time.Second)
				_, _ = m.ReconstructMaster(t.Context(), lostMaster)
				if seen := tooEarly(b, spm); (seen != "") != (bug != "") {
					t.Errorf("the checker says %q", seen)
				}
			})
		})
	}
}
