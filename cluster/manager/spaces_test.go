package manager

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// A proof frees the dead host in every lockspace, once, and names what it is about.
func TestManager_freesInEveryLockspace(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		gone := s.otherOf(spm).gen
		s.kill(spm)
		s.until(t, "free in the other lockspace", 5*time.Second, func() bool { return s.otherOf(spm).free })
		p, ok := s.View().ProofOf(s.hosts[spm].id, simOther, gone)
		if !ok || len(p.Spaces) != 2 || p.Generation != 1 {
			t.Fatalf("proof %+v", p)
		}
		s.until(t, "on again", 20*time.Second, func() bool { return s.switched().on == 1 })
		time.Sleep(10 * time.Second)
		if o := s.otherOf(spm); o.frees != 1 || o.gen != gone+1 || o.free {
			t.Errorf("%+v", o)
		}
	})
}

// noPowerOn is a switch that cannot switch on, so that a dead host stays dead.
func noPowerOn(s *sim) { s.mu.Lock(); defer s.mu.Unlock(); s.noOn = true }

// One write can be on its way when a host dies; what changes the record a second time is somebody who renews.
func TestManager_lateWriteIsFreedOnceMore(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		noPowerOn(s)
		s.kill(spm)
		s.until(t, "free", 5*time.Second, func() bool { return s.otherOf(spm).free })
		s.late(spm)
		s.until(t, "free again", 10*time.Second, func() bool { return s.otherOf(spm).free })
		if !hasEvent(s, "proof.late") || hasEvent(s, kindVoid) {
			t.Error("the late write was not told of, or taken for more")
		}
		s.late(spm)
		s.until(t, "void", 10*time.Second, func() bool { return hasEvent(s, kindVoid) })
		time.Sleep(10 * time.Second)
		if o := s.otherOf(spm); o.free || o.frees != 2 {
			t.Errorf("freed by a proof that is void: %+v", o)
		}
		if n := countEvents(s, kindVoid); n != 1 {
			t.Errorf("%d events %s", n, kindVoid)
		}
	})
}

// A host that took its id anew in one lockspace before it was off: the proof says nothing about that generation there.
func TestManager_newerGenerationIsNotProven(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, _ *Manager, spm string) {
		noPowerOn(s)
		s.mu.Lock()
		s.beforeOff = func(h *simHost) { h.other.gen++ }
		s.mu.Unlock()
		s.kill(spm)
		s.until(t, "free in the master's", 5*time.Second, func() bool { return hasEvent(s, kindFreed) })
		time.Sleep(10 * time.Second)
		o := s.otherOf(spm)
		if _, ok := s.View().ProofOf(s.hosts[spm].id, simOther, o.gen); ok || o.free {
			t.Errorf("a generation that nobody saw before the off is proven: %+v", o)
		}
	})
}

// disk is one lockspace with one record, and counts what is freed.
type disk struct {
	rec   leases.HostRecord
	freed int
}

func (*disk) Joined() []string { return []string{"d"} }
func (d *disk) Hosts(context.Context, string) ([]leases.HostStatus, error) {
	return []leases.HostStatus{{HostID: d.rec.HostID, Generation: d.rec.Generation, Timestamp: d.rec.Timestamp}}, nil
}
func (d *disk) ReadHost(context.Context, string, int) (leases.HostRecord, error) { return d.rec, nil }
func (d *disk) FreeRecord(_ context.Context, _ string, seen leases.HostRecord) error {
	if seen != d.rec {
		return leases.ErrChanged
	}
	d.freed++
	d.rec.Timestamp = 0
	return nil
}

// late is a keeper that looked before the host came back.
type late struct {
	*disk
	was leases.HostStatus
}

func (l late) Hosts(context.Context, string) ([]leases.HostStatus, error) {
	return []leases.HostStatus{l.was}, nil
}

// A record that has changed since the keeper judged it is not what was judged: a host that was dead and came back a moment ago lives.
func TestWitness_Sight_changedSince(t *testing.T) {
	t.Parallel()
	rec := func(gen, ts uint64) leases.HostRecord {
		return leases.HostRecord{HostID: 2, Generation: gen, Timestamp: ts, IOTimeout: time.Second}
	}
	was := leases.HostStatus{HostID: 2, Generation: 3, Timestamp: 100, State: leases.HostDead, Silent: time.Minute}
	for _, c := range []struct {
		name string
		now  leases.HostRecord
		want leases.HostState
	}{
		{"as it was", rec(3, 100), leases.HostDead},
		{"it came back", rec(4, 200), leases.HostLive},
		{"it renewed", rec(3, 101), leases.HostLive},
		{"it left", rec(3, 0), leases.HostFree},
	} {
		w := &Witness{HostID: 1, Spaces: late{&disk{rec: c.now}, was}}
		rep, err := w.Sight(t.Context(), SightRequest{HostIDs: []int{2}, Disk: true})
		if err != nil || len(rep.Seen) != 1 || rep.Seen[0].State != c.want || rep.Seen[0].Record.Generation != c.now.Generation || c.want == leases.HostLive && rep.Seen[0].Silent != 0 {
			t.Errorf("%s: %+v, %v; want %s", c.name, rep.Seen, err, c.want)
		}
		h := fsm.Host{Name: "b", HostID: 2}
		seen := sights{}
		seen.newest(rep.Seen)
		if dead := len(seen.over()) == 1; dead != (c.want != leases.HostLive) {
			t.Errorf("%s: dead by storage: %v", c.name, dead)
		}
		if c.want == leases.HostLive && alive(h, seen, Policy{LeaseLife: 8 * time.Second}) == nil {
			t.Errorf("%s: a person's word is taken without force", c.name)
		}
	}
}

// known is a mirror with these proofs.
type known []fsm.Proof

func (k known) ProofOf(hostID int, lockspace string, generation uint64) (fsm.Proof, bool) {
	st := fsm.New()
	for i, p := range k {
		b, err := fsm.Encode(&fsm.ProofAdd{Proof: p}, "")
		if err != nil {
			panic(err)
		}
		st.Apply(uint64(i+1), b)
	}
	return st.View().ProofOf(hostID, lockspace, generation)
}

// The way to a keeper's FreeRecord leads through a proof in the host's own mirror, and no other.
func TestWitness_Free(t *testing.T) {
	t.Parallel()
	proof := func(kind string, gen, ts uint64) fsm.Proof {
		return fsm.Proof{Kind: kind, Host: "x", HostID: 7, Generation: 40, Spaces: []fsm.SpaceRecord{{Lockspace: "d", Generation: gen, Timestamp: ts}}}
	}
	for name, tc := range map[string]struct {
		proofs  known
		rec     leases.HostRecord
		noLate  bool
		verdict Verdict
		err     error
		freed   int
	}{
		"no proof":             {nil, leases.HostRecord{Generation: 3, Timestamp: 50}, false, "", ErrNoProof, 0},
		"proof":                {known{proof(fsm.ProofPowerOff, 3, 50)}, leases.HostRecord{Generation: 3, Timestamp: 50}, false, VerdictFree, nil, 1},
		"older generation":     {known{proof(fsm.ProofPowerOff, 2, 50)}, leases.HostRecord{Generation: 3, Timestamp: 50}, false, "", ErrNoProof, 0},
		"of another lockspace": {known{{Kind: fsm.ProofExit, Host: "x", HostID: 7, Generation: 3}}, leases.HostRecord{Generation: 3, Timestamp: 50}, false, "", ErrNoProof, 0},
		"free already":         {known{proof(fsm.ProofPowerOff, 3, 50)}, leases.HostRecord{Generation: 3}, false, VerdictDone, nil, 0},
		"late write":           {known{proof(fsm.ProofPowerOff, 3, 50)}, leases.HostRecord{Generation: 3, Timestamp: 54}, false, VerdictLate, nil, 1},
		"second late write":    {known{proof(fsm.ProofPowerOff, 3, 50)}, leases.HostRecord{Generation: 3, Timestamp: 54}, true, VerdictVoid, nil, 0},
		"too late":             {known{proof(fsm.ProofPowerOff, 3, 50)}, leases.HostRecord{Generation: 3, Timestamp: 59}, false, VerdictVoid, nil, 0},
		"changed, a person":    {known{proof(fsm.ProofPerson, 3, 50)}, leases.HostRecord{Generation: 3, Timestamp: 54}, false, VerdictVoid, nil, 0},
		"person":               {known{proof(fsm.ProofPerson, 3, 50)}, leases.HostRecord{Generation: 3, Timestamp: 50}, false, VerdictFree, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				tc.rec.HostID, tc.rec.IOTimeout = 7, time.Second
				d := &disk{rec: tc.rec}
				w := &Witness{Host: "me", HostID: 1, Master: "m", Spaces: d, Proofs: tc.proofs}
				rep, err := w.Free(ctx, FreeRequest{HostID: 7, Lockspace: "d", Generation: 3, Late: !tc.noLate})
				if rep.Verdict != tc.verdict || !errors.Is(err, tc.err) || d.freed != tc.freed {
					t.Errorf("verdict %q, freed %d, %v", rep.Verdict, d.freed, err)
				}
			})
		})
	}
}

// A record that moves on between two requests is never freed by the older one.
func TestWitness_Free_movedOn(t *testing.T) {
	t.Parallel()
	d := &disk{rec: leases.HostRecord{HostID: 7, Generation: 4, Timestamp: 60}}
	w := &Witness{HostID: 1, Master: "m", Spaces: d, Proofs: known{{Kind: fsm.ProofPowerOff, Host: "x", HostID: 7, Generation: 1,
		Spaces: []fsm.SpaceRecord{{Lockspace: "d", Generation: 3, Timestamp: 50}}}}}
	rep, err := w.Free(t.Context(), FreeRequest{HostID: 7, Lockspace: "d", Generation: 3, Late: true})
	if rep.Verdict != VerdictVoid || err != nil || d.freed != 0 {
		t.Errorf("verdict %q, freed %d, %v", rep.Verdict, d.freed, err)
	}
}

// judgeFunc is Judge or a mistake in its place.
type judgeFunc func(p fsm.Proof, lockspace, master string, rec leases.HostRecord) Verdict

// unjust looks for a verdict that frees what the proof is not about, without knowing how it is made. The record's history
// is told by what is drawn: same is as it was seen, late is one write of the dead host, alive is anything else.
func unjust(judge judgeFunc, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 2))
	kinds := []string{fsm.ProofExit, fsm.ProofPowerOff, fsm.ProofPerson, ""}
	for range 20_000 {
		p := fsm.Proof{Kind: kinds[r.IntN(4)], Host: "x", HostID: 1 + r.IntN(2), Generation: uint64(1 + r.IntN(3)),
			Spaces: []fsm.SpaceRecord{{Lockspace: "d", Generation: uint64(1 + r.IntN(3)), Timestamp: uint64(100 + r.IntN(3))}}}
		rec := leases.HostRecord{HostID: 1, Generation: uint64(1 + r.IntN(3)), Timestamp: uint64(98 + r.IntN(20)), IOTimeout: time.Second}
		if r.IntN(4) == 0 {
			rec.Timestamp = 0
		}
		ls, sp := []string{"d", "e"}[r.IntN(2)], p.Spaces[0]
		v := judge(p, ls, "m", rec)
		frees := v == VerdictFree || v == VerdictLate
		same := rec.Timestamp == sp.Timestamp
		late := rec.Timestamp > sp.Timestamp && rec.Timestamp <= sp.Timestamp+8 && p.Kind != fsm.ProofPerson
		switch {
		case !frees:
		case p.Kind == "" || p.HostID != 1 || ls != "d":
			return "frees without a proof about this record"
		case rec.Generation != sp.Generation:
			return "frees another generation"
		case !same && !late:
			return "frees a record that changed"
		case late && v != VerdictLate:
			return "does not tell a late write"
		}
	}
	return ""
}

func TestJudge_neverUnjust(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		if v := unjust(Judge, seed); v != "" {
			t.Fatalf("seed %d: %s", seed, v)
		}
	}
}

func TestJudge_plantedBugs(t *testing.T) {
	t.Parallel()
	for want, bug := range map[string]judgeFunc{
		"without a proof": func(p fsm.Proof, ls, m string, rec leases.HostRecord) Verdict {
			p.Kind = cmp.Or(p.Kind, fsm.ProofExit)
			return Judge(p, ls, m, rec)
		},
		"another generation": func(p fsm.Proof, ls, m string, rec leases.HostRecord) Verdict {
			if sp, ok := p.Space(ls, m); ok {
				rec.Generation = min(rec.Generation, sp.Generation) // an older proof is taken for a newer one
			}
			return Judge(p, ls, m, rec)
		},
		"that changed": func(p fsm.Proof, ls, m string, rec leases.HostRecord) Verdict {
			if sp, ok := p.Space(ls, m); ok && rec.Timestamp != 0 {
				rec.Timestamp = sp.Timestamp
			}
			return Judge(p, ls, m, rec)
		},
		"late write": func(p fsm.Proof, ls, m string, rec leases.HostRecord) Verdict {
			if v := Judge(p, ls, m, rec); v != VerdictLate {
				return v
			}
			return VerdictFree
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			if got := unjust(bug, 3); !strings.Contains(got, want) {
				t.Fatalf("the checker said %q", got)
			}
		})
	}
}

// A host that was removed leaves proofs behind. They say nothing about one that joins under the same name, with another host id and, as
// every host that joins, generation 1.
func TestProof_ofANamesake(t *testing.T) {
	simulate(t, func(t *testing.T, s *sim, m *Manager, spm string) {
		h := s.hostOf(spm)
		s.until(t, "the role settled", time.Second, func() bool { st, _ := m.Status(); return st.Row == RowAdopt })
		before := s.leaseVersion()
		s.must(t, &fsm.ProofAdd{Proof: fsm.Proof{Kind: fsm.ProofDead, Host: spm, HostID: h.HostID + 50, Generation: h.Generation, Time: time.Now().UnixNano()}})
		for range 100 {
			time.Sleep(50 * time.Millisecond)
			if st, _ := m.Status(); st.Row != RowAdopt {
				t.Fatalf("%s: %s", st.Row, st.Why)
			}
		}
		if s.leaseVersion() != before || s.hostOf(spm).CurrentState() != fsm.HostUp || hasEvent(s, kindFreed) {
			t.Errorf("%+v, %v", s.hostOf(spm), s.View().Events())
		}
		former := h
		former.HostID += 50
		if got := provenGeneration(s.View(), former, h.Generation); got != h.Generation {
			t.Errorf("about the former one it counts as %d", got)
		}
	})
}
