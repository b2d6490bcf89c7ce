package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/cluster/startable"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

const vmLease = "6d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02"

// startWorld is a LUN with the lease of a VM, two hosts that renew, and what the cluster has recorded. h2 has the lease; h1 asks
// whether the VM may be started elsewhere. Everything runs under virtual time, on the real lease code.
type startWorld struct {
	recorded
	mem    *blockdev.Mem
	spec   leases.ResourceSpec
	clock  *clock.Virtual
	policy startable.Policy

	hosts [3]*leases.Lockspace // by host id
	stop  [3]func()
	lease *leases.Lease // of h2
}

const startMiB = 1 << 20

func inStartWorld(t *testing.T, test func(w *startWorld)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &startWorld{recorded: recorded{t, fsm.New()}, mem: blockdev.NewMem(2*startMiB, 512), clock: &clock.Virtual{Start: time.Now().Add(-time.Hour)}}
		w.spec = leases.ResourceSpec{Name: vmLease, Device: w.mem, Offset: startMiB, NoWait: true}
		w.must(leases.InitLockspace(w.ctx(), w.mem, 0, leases.Geometry512, statesDomain, leases.Fast.IOTimeout))
		w.must(leases.InitResource(w.ctx(), w.mem, startMiB, leases.Geometry512, statesDomain, vmLease, 8))
		w.do(&fsm.ClusterInit{ClusterID: "c", Version: 1, Host: fsm.Host{Name: "h1"}, Time: 1},
			&fsm.TokenCreate{Token: fsm.Token{ID: "t", Role: fsm.TokenJoin, SecretHash: "x", Expires: 100}},
			&fsm.HostJoin{Host: fsm.Host{Name: "h2", KeyHash: "k", Watchdog: fsm.WatchdogDevice}, TokenID: "t", Time: 2},
			&fsm.HostUpdate{Name: "h2", State: new(fsm.HostUp), Time: 3},
			&fsm.PoolCreate{Pool: fsm.Pool{ID: "p", Master: statesDomain, Profile: leases.Fast.Name}, Time: 1})
		for id := 1; id <= 2; id++ {
			w.join(id)
		}
		defer func() {
			for _, stop := range w.stop[1:] {
				stop()
			}
		}()
		time.Sleep(3 * leases.Fast.RenewalPeriod())
		w.acquire(2)
		test(w)
	})
}

func (w *startWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *startWorld) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	w.t.Cleanup(cancel)
	return ctx
}

// join lets a host renew until stop.
func (w *startWorld) join(id int) {
	w.t.Helper()
	ls, err := leases.Join(w.ctx(), leases.LockspaceConfig{Device: w.mem, Name: statesDomain, HostID: id, HostName: fmt.Sprint("h", id),
		Profile: leases.Fast, Clock: w.clock, Log: slog.New(slog.DiscardHandler)})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = ls.Run(ctx) }() // it ends with its context, or because its lease ran out
	w.hosts[id], w.stop[id] = ls, func() { cancel(); <-done }
}

func (w *startWorld) acquire(id int) {
	w.t.Helper()
	l, err := w.hosts[id].Acquire(w.ctx(), w.spec)
	w.must(err)
	w.lease = l
}

// seen is the lease as h1 sees it now.
func (w *startWorld) seen() *xlease.Status {
	w.t.Helper()
	area := make([]byte, 128<<10)
	w.must(w.mem.ReadAt(w.ctx(), area, startMiB))
	r, err := leases.SightResource(area, leases.Geometry512, statesDomain, vmLease)
	w.must(err)
	s, err := leases.ReadSurvey(w.ctx(), w.mem, 0, leases.Geometry512, statesDomain, 250, w.hosts[1].Hosts())
	w.must(err)
	j, err := s.Judge(r)
	w.must(err)
	return &xlease.Status{Record: xlease.Record{ID: vmLease}, Judgement: j}
}

// ask is the answer now.
func (w *startWorld) ask() startable.Answer {
	w.t.Helper()
	return startable.Judge(startFacts(w.View(), statesDomain, w.seen(), time.Now()), w.policy)
}

func (w *startWorld) want(rule startable.Rule, startable bool) startable.Answer {
	w.t.Helper()
	a := w.ask()
	if a.Rule != rule || a.Startable != startable {
		w.t.Errorf("says %+v, not %s", a, rule)
	}
	return a
}

// granted says whether the storage gives h1 the lease now.
func (w *startWorld) granted() bool {
	w.t.Helper()
	l, err := w.hosts[1].Acquire(w.ctx(), w.spec)
	if err != nil {
		return false
	}
	w.must(l.Release(w.ctx()))
	return true
}

// silent lets h2 fall silent, and the manager notice.
func (w *startWorld) silent() {
	w.stop[2]()
	w.do(&fsm.HostUpdate{Name: "h2", State: new(fsm.HostNonResponsive), Reason: new("no answer"), Time: time.Now().UnixNano()})
}

// proof records one about h2's present life.
func (w *startWorld) proof() {
	w.t.Helper()
	rec, err := w.hosts[1].ReadHost(w.ctx(), 2)
	w.must(err)
	w.do(&fsm.ProofAdd{Proof: fsm.Proof{Kind: fsm.ProofPowerOff, Host: "h2", HostID: 2, Generation: rec.Generation, Evidence: "status off by h1", By: "h1",
		Time: time.Now().UnixNano(), Spaces: []fsm.SpaceRecord{{Lockspace: statesDomain, Generation: rec.Generation, Timestamp: rec.Timestamp}}}})
}

// free frees h2's record, as the manager does after a proof.
func (w *startWorld) free() {
	w.t.Helper()
	rec, err := w.hosts[1].ReadHost(w.ctx(), 2)
	w.must(err)
	w.must(w.hosts[1].FreeRecord(w.ctx(), rec))
}

// The holder dies: the answer is no, with a countdown that never grows, until the very moment at which it runs out.
func TestStart_holderDies(t *testing.T) {
	inStartWorld(t, func(w *startWorld) {
		w.want(startable.RuleAlive, false)
		w.silent()
		begun, left, rules := time.Now(), time.Hour, map[startable.Rule]bool{}
		for {
			a := w.ask()
			if a.Startable {
				break
			}
			if rules[a.Rule] = true; a.In > left || a.In == 0 && left > 2*time.Second {
				t.Fatalf("%v after the death the countdown is %v, it was %v", time.Since(begun), a.In, left)
			}
			left = a.In
			time.Sleep(100 * time.Millisecond)
		}
		w.want(startable.RuleDead, true)
		dead := leases.Fast.HostDead()
		if d := time.Since(begun); d < dead-leases.Fast.RenewalPeriod() || d > dead+2*leases.Fast.RenewalPeriod() {
			t.Errorf("startable %v after the death, it is %v", d, dead)
		}
		if !rules[startable.RuleLost] || !rules[startable.RuleSilent] || len(rules) != 2 {
			t.Errorf("on the way there: %v", rules)
		}
		if !w.granted() {
			t.Error("startable, and the storage does not give the lease")
		}
	})
}

// Whatever happens, what is called startable the storage gives.
func TestStart_neverAheadOfTheStorage(t *testing.T) {
	for name, change := range map[string]func(w *startWorld){
		"dies":            func(w *startWorld) { w.silent() },
		"is proven dead":  func(w *startWorld) { w.silent(); w.proof() },
		"is freed":        func(w *startWorld) { w.stop[2](); w.free() },
		"gives it back":   func(w *startWorld) { w.must(w.lease.Release(w.ctx())) },
		"comes back":      func(w *startWorld) { w.stop[2](); w.join(2) },
		"stays":           func(*startWorld) {},
		"loses its entry": func(w *startWorld) { w.silent(); w.do(&fsm.DomainPut{Domain: fsm.Domain{ID: "x", Epoch: 1}}) },
	} {
		t.Run(name, func(t *testing.T) {
			inStartWorld(t, func(w *startWorld) {
				w.policy.UnprotectedTakeover = true // the least careful one
				change(w)
				for range 80 {
					if a := w.ask(); a.Startable && !w.granted() {
						t.Fatalf("the storage refuses what is called startable: %+v", a)
					}
					time.Sleep(500 * time.Millisecond)
				}
			})
		})
	}
}

func TestStart_holderIsProvenDead(t *testing.T) {
	inStartWorld(t, func(w *startWorld) {
		w.silent()
		w.proof()
		a := w.want(startable.RuleProofPending, false)
		if w.granted() {
			t.Error("the storage gives the lease before its holder's record is free")
		}
		w.free()
		b := w.want(startable.RuleProven, true)
		if a.Proof == nil || b.Proof == nil || b.Proof.Kind != fsm.ProofPowerOff || b.Proof.Evidence != "status off by h1" || !w.granted() {
			t.Errorf("%+v, then %+v", a, b)
		}
	})
}

func TestStart_unprotected(t *testing.T) {
	inStartWorld(t, func(w *startWorld) {
		w.do(&fsm.HostUpdate{Name: "h2", Watchdog: new(fsm.WatchdogNone), Time: 4})
		w.silent()
		time.Sleep(2 * leases.Fast.HostDead())
		a := w.want(startable.RuleUnprotected, false)
		if a.In != 0 || !strings.Contains(a.NextStep, "confirm-rebooted h2") || !w.seen().Takeable {
			t.Errorf("%+v", a)
		}
		w.policy.UnprotectedTakeover = true
		w.want(startable.RuleDead, true)
		w.policy.UnprotectedTakeover = false
		w.proof()
		w.want(startable.RuleProven, true)
	})
}

// A proof about a host that has renewed since says nothing: a person was wrong.
func TestStart_proofIsVoid(t *testing.T) {
	inStartWorld(t, func(w *startWorld) {
		w.do(&fsm.HostUpdate{Name: "h2", Watchdog: new(fsm.WatchdogNone), Time: 4})
		w.proof()
		time.Sleep(10 * leases.Fast.RenewalPeriod())
		w.want(startable.RuleAlive, false)
		w.silent()
		time.Sleep(2 * leases.Fast.HostDead())
		w.want(startable.RuleUnprotected, false)
	})
}

func TestStart_otherEnds(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *startWorld)
		rule   startable.Rule
		yes    bool
		says   string
	}{
		"given back": {func(w *startWorld) { w.must(w.lease.Release(w.ctx())) }, startable.RuleFree, true, "h2 gave the lease back"},
		"left":       {func(w *startWorld) { w.stop[2](); w.free() }, startable.RuleLeft, true, "h2 has left"},
		"came back":  {func(w *startWorld) { w.stop[2](); w.join(2) }, startable.RuleCameBack, true, "come back as 2"},
		"maintenance": {func(w *startWorld) { w.do(&fsm.HostUpdate{Name: "h2", State: new(fsm.HostMaintenance), Time: 5}) },
			startable.RuleAlive, false, "alive"},
		"isolated": {func(w *startWorld) {
			w.do(&fsm.HostUpdate{Name: "h2", State: new(fsm.HostIsolated), Reason: new("renews, no answer"), Time: 5})
		},
			startable.RuleAlive, false, "(isolated: renews, no answer)"},
		"old name of a state": {func(w *startWorld) {
			w.do(&fsm.HostUpdate{Name: "h2", State: new(fsm.HostFenced), Reason: new("off"), Time: 5})
		},
			startable.RuleLost, false, "(down: off)"},
		"being fenced": {func(w *startWorld) {
			w.do(&fsm.FenceBegin{Op: fsm.FenceOp{ID: "1", Host: "h2", HostID: 2, Action: fsm.FenceOff, Began: time.Now().Add(-7 * time.Second).UnixNano(),
				Steps: []fsm.FenceStep{{Rung: "power", Result: fsm.StepIntent}}}, Term: 1})
		}, startable.RuleFencing, false, "is being fenced: off, at power (intent), for 7s"},
		"removed from the cluster": {func(w *startWorld) {
			w.silent()
			w.do(&fsm.HostRemove{Name: "h2", Proof: &fsm.Proof{Kind: fsm.ProofPerson, Host: "h2", HostID: 2, Generation: 99}, Time: 6})
		}, startable.RuleAlive, false, "host id 2 is alive"}, // by its record, which is all there is
	} {
		t.Run(name, func(t *testing.T) {
			inStartWorld(t, func(w *startWorld) {
				c.change(w)
				if a := w.want(c.rule, c.yes); !strings.Contains(a.Why, c.says) {
					t.Errorf("says %q, not %q", a.Why, c.says)
				}
			})
		})
	}
}

func TestStartFacts_unreadable(t *testing.T) {
	t.Parallel()
	st := fsm.New().View()
	for _, c := range []struct {
		err  error
		rule startable.Rule
	}{{fmt.Errorf("reading: %w", unix.EIO), startable.RuleUnreadable}, {errors.New("checksum"), startable.RuleDamaged}} {
		a := startable.Judge(startFacts(st, statesDomain, &xlease.Status{Err: c.err}, time.Now()), startable.Policy{})
		if a.Rule != c.rule || a.Startable {
			t.Errorf("%v: %+v", c.err, a)
		}
	}
}

// The words of the rules are a contract: the package, the API's constants, the OpenAPI document and the page name the same.
func TestStart_rulesAreTheSameEverywhere(t *testing.T) {
	t.Parallel()
	rules := []startable.Rule{startable.RuleFree, startable.RuleLeft, startable.RuleProven, startable.RuleCameBack, startable.RuleDead, startable.RuleUnprotected,
		startable.RuleProofPending, startable.RuleFencing, startable.RuleSilent, startable.RuleLost, startable.RuleAlive, startable.RuleNotWatched,
		startable.RuleOldFree, startable.RuleDamaged, startable.RuleUnreadable}
	apis := []string{api.StartFree, api.StartLeft, api.StartProven, api.StartCameBack, api.StartDead, api.StartUnprotected, api.StartProofPending,
		api.StartFencing, api.StartSilent, api.StartLost, api.StartAlive, api.StartNotWatched, api.StartOldFree, api.StartDamaged, api.StartUnreadable}
	source, err := os.ReadFile(filepath.Join("..", "..", "cluster", "startable", "facts.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`(?m)^\tRule\w+ +Rule = `).FindAll(source, -1)); n != len(rules) {
		t.Errorf("the package has %d rules, this test knows %d", n, len(rules))
	}
	doc, _ := os.ReadFile(filepath.Join("..", "..", "http", "openapi.yaml"))
	page, _ := os.ReadFile(filepath.Join("..", "..", "docs", "API.md"))
	enum := regexp.MustCompile(`rule: \{ type: string, enum: \[([^\]]*)\]`).FindSubmatch(doc)
	if enum == nil {
		t.Fatal("the document has no rules")
	}
	in := strings.Split(string(enum[1]), ", ")
	if len(in) != len(rules) {
		t.Errorf("the document has %d rules, the package %d", len(in), len(rules))
	}
	for i, r := range rules {
		if string(r) != apis[i] || !strings.Contains(string(enum[1]), apis[i]) || !strings.Contains(string(page), "`"+apis[i]+"`") {
			t.Errorf("%s is %s in the API, or not documented", r, apis[i])
		}
	}
}
