package manager

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// domainSim is a simulated pool whose hosts monitor two domains, and let go of one that goes into maintenance.
type domainSim struct {
	*sim
	begun time.Time

	mu       sync.Mutex                   // guards what follows
	codes    map[string]map[string]string // host, domain: what a look finds; missing: ok
	uses     map[string][]string          // host: what uses simOther there
	stays    map[string]bool              // hosts that do not let go
	delay    time.Duration
	late     bool
	sent     map[string]uint64          // host: the looks that it has told the leader of
	resent   int                        // reports that the leader had already
	reopened map[string][]time.Duration // domain on host: when it was asked to open it again
}

func newDomainSim(t *testing.T, names ...string) *domainSim {
	t.Helper()
	d := &domainSim{sim: newSim(t, names...), begun: time.Now(), codes: map[string]map[string]string{}, uses: map[string][]string{}, stays: map[string]bool{},
		reopened: map[string][]time.Duration{}, sent: map[string]uint64{}}
	for _, id := range []string{simMaster, simOther} {
		d.must(t, &fsm.DomainPut{Domain: fsm.Domain{ID: id, Name: "san-" + id, Size: 1000, Free: 900}})
	}
	return d
}

// simulateDomains runs fn with three hosts and a leader on c.
func simulateDomains(t *testing.T, fn func(t *testing.T, d *domainSim, m *Manager)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDomainSim(t, "a", "b", "c")
		m, stop := d.lead(t, "c", d.wire)
		defer d.check(t)
		defer stop()
		d.until(t, "first election", 3*time.Second, func() bool { return d.serving() != "" })
		time.Sleep(4 * time.Second) // everybody has looked
		fn(t, d, m)
	})
}

// wire makes a manager see the domains.
func (d *domainSim) wire(c *Config) {
	c.Cluster = d
	c.Limits = func(*fsm.State, fsm.Domain) SpaceLimits { return SpaceLimits{Warn: 200, Critical: 100} }
}

// set makes looks of hosts at a domain find something from now on.
func (d *domainSim) set(domain, code string, hosts ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range hosts {
		if d.codes[h] == nil {
			d.codes[h] = map[string]string{}
		}
		d.codes[h][domain] = code
	}
}

// Call adds what monitors say to pings.
func (d *domainSim) Call(ctx context.Context, host, method string, in, out any) error {
	if method == MethodReopen {
		if err := d.sim.Call(ctx, host, MethodPing, struct{}{}, &PingReply{}); err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		key := in.(ReopenRequest).Domain + " on " + host
		d.reopened[key] = append(d.reopened[key], time.Since(d.begun))
		return nil
	}
	err := d.sim.Call(ctx, host, method, in, out)
	if rep, ok := out.(*PingReply); ok && err == nil {
		d.report(host, in.(PingRequest), rep)
	}
	return err
}

// report is one host's. A look ends each second.
func (d *domainSim) report(host string, req PingRequest, rep *PingReply) {
	d.mu.Lock()
	defer d.mu.Unlock()
	passed := time.Since(d.begun)
	looks := uint64(passed/time.Second) + 1
	rep.DomainsSeq = looks
	if req.Domains == looks {
		return
	}
	if d.sent[host] == looks {
		d.resent++
	}
	d.sent[host] = looks
	for _, id := range []string{simMaster, simOther} {
		dom, _ := d.View().Domains.Get(id)
		r := DomainReport{Domain: id, Code: DomainOK, Looks: looks, Age: passed % time.Second, Status: dom.CurrentStatus(), Delay: d.delay,
			Acquired: true, Open: true, Late: d.late && host == "a", MetadataSize: 100, MetadataUsed: 10}
		if id == simOther {
			r.Uses = d.uses[host]
			if r.Status == fsm.DomainMaintenance {
				continue
			}
			r.Open = r.Status != fsm.DomainPreparing || d.stays[host] || len(r.Uses) > 0
			r.Acquired = r.Open
		}
		if code := d.codes[host][id]; code != "" {
			r.Code, r.Detail = code, "simulated"
		}
		rep.Domains = append(rep.Domains, r)
	}
}

func (d *domainSim) domain(id string) fsm.Domain {
	dom, _ := d.View().Domains.Get(id)
	return dom
}

func (d *domainSim) is(id, status string) func() bool {
	return func() bool { return d.domain(id).CurrentStatus() == status }
}

func (d *domainSim) asked(key string) []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.reopened[key])
}

// A domain that nobody reaches becomes inactive after the failure time and not before, and active again when two hosts see it.
func TestDomains_nobodyReachesOne(t *testing.T) {
	simulateDomains(t, func(t *testing.T, d *domainSim, _ *Manager) {
		failure := DefaultPolicy("dev").Domains.Failure
		d.set(simOther, DomainHung, "a", "b", "c")
		took := d.until(t, "inactive", 3*failure, d.is(simOther, fsm.DomainInactive))
		if took < failure || took > failure+2500*time.Millisecond {
			t.Errorf("inactive after %v, the failure time is %v", took, failure)
		}
		dom := d.domain(simOther)
		if !slices.Equal(dom.Failing, []string{"a", "b", "c"}) || dom.Reason == "" || dom.Since == 0 || !hasEvent(d.sim, "domain.inactive") {
			t.Errorf("%+v", dom)
		}
		if other := d.domain(simMaster); other.CurrentStatus() != fsm.DomainActive || len(other.Failing) > 0 {
			t.Errorf("the other domain: %+v", other)
		}
		d.set(simOther, "", "a")
		time.Sleep(1500 * time.Millisecond)
		if !d.is(simOther, fsm.DomainInactive)() {
			t.Error("active by one look of one host")
		}
		d.set(simOther, "", "b")
		d.until(t, "active again", 2500*time.Millisecond, d.is(simOther, fsm.DomainActive))
		d.set(simOther, "", "c")
		d.until(t, "nobody fails", 10*time.Second, func() bool { dom := d.domain(simOther); return len(dom.Failing) == 0 && dom.Deadline == 0 })
	})
}

// One host's trouble is not the domain's: it is named at once, with a deadline, and the log does not grow while it lasts.
func TestDomains_oneHostFails(t *testing.T) {
	simulateDomains(t, func(t *testing.T, d *domainSim, _ *Manager) {
		d.set(simOther, DomainUnreachable, "b")
		d.until(t, "named", 6*time.Second, func() bool { return slices.Equal(d.domain(simOther).Failing, []string{"b"}) })
		dom := d.domain(simOther)
		if dom.Deadline == 0 || !strings.Contains(dom.Reason, "b: a LUN cannot be opened or read") || !hasEvent(d.sim, "domain.unreachable") {
			t.Errorf("%+v", dom)
		}
		time.Sleep(30 * time.Second)
		index := d.View().Index
		time.Sleep(5 * time.Minute)
		if grown := d.View().Index - index; !d.is(simOther, fsm.DomainActive)() || grown > 3 {
			t.Errorf("%s, %d entries in the log for a trouble that does not change", d.domain(simOther).Status, grown)
		}
	})
}

// A host whose path comes and goes does not fill the log.
func TestDomains_flappingPath(t *testing.T) {
	simulateDomains(t, func(t *testing.T, d *domainSim, _ *Manager) {
		index := d.View().Index
		time.Sleep(time.Second - time.Since(d.begun)%time.Second + 500*time.Millisecond) // between looks
		for i := range 60 {
			d.set(simOther, []string{DomainHung, ""}[i%2], "b")
			time.Sleep(time.Second)
		}
		if grown := d.View().Index - index; grown > 0 {
			t.Errorf("%d entries for failures of a moment", grown)
		}
		for i := range 60 {
			d.set(simOther, []string{DomainHung, ""}[i%2], "b")
			time.Sleep(5 * time.Second)
		}
		if grown := d.View().Index - index; grown < 20 || grown > 2*300/uint64(failingEvery/time.Second)+4 {
			t.Errorf("%d entries in five minutes", grown)
		}
		if !d.is(simOther, fsm.DomainActive)() {
			t.Errorf("%+v", d.domain(simOther))
		}
	})
}

// Without a quorum nothing is recorded; a new leader gives every domain the whole failure time from its own beginning.
func TestDomains_quorumAndNewLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDomainSim(t, "a", "b", "c")
		_, stop := d.lead(t, "c", d.wire)
		d.until(t, "first election", 3*time.Second, func() bool { return d.serving() != "" })
		time.Sleep(2 * time.Second)
		d.sim.mu.Lock()
		d.quorum = false
		d.sim.mu.Unlock()
		d.set(simOther, DomainHung, "a", "b", "c")
		time.Sleep(time.Minute)
		if dom := d.domain(simOther); dom.CurrentStatus() != fsm.DomainActive || len(dom.Failing) > 0 {
			t.Errorf("a leader without a quorum recorded %+v", dom)
		}
		stop()
		d.sim.mu.Lock()
		d.quorum = true
		d.sim.mu.Unlock()
		_, stop = d.lead(t, "a", d.wire)
		defer stop()
		failure := DefaultPolicy("dev").Domains.Failure
		if took := d.until(t, "inactive", 3*failure, d.is(simOther, fsm.DomainInactive)); took < failure {
			t.Errorf("a leader of %v judged", took)
		}
		d.check(t)
	})
}

// Hosts that miss a domain are asked to try again with growing pauses, and at once when another one reaches it.
func TestDomains_retries(t *testing.T) {
	simulateDomains(t, func(t *testing.T, d *domainSim, m *Manager) {
		d.set(simOther, DomainUnreachable, "a", "b", "c")
		time.Sleep(20 * time.Minute)
		asked := d.asked(simOther + " on a")
		if n := len(asked); n < 5 || n > 12 {
			t.Fatalf("asked %d times in 20 minutes: %v", n, asked)
		}
		if first := asked[1] - asked[0]; first < 15*time.Second-time.Second || first > 21*time.Second {
			t.Errorf("the second attempt came %v after the first", first)
		}
		last := asked[len(asked)-1] - asked[len(asked)-2]
		if last < 225*time.Second-time.Second || last > 301*time.Second {
			t.Errorf("the last pause was %v", last)
		}
		d.set(simOther, "", "b")
		d.until(t, "asked at once", 2*time.Second, func() bool { return len(d.asked(simOther+" on a")) > len(asked) })
		if len(d.asked(simMaster+" on a")) > 0 {
			t.Error("asked about a domain that it reaches")
		}
		d.set(simOther, DomainUnreachable, "b")
		time.Sleep(time.Minute)
		before := len(d.asked(simOther + " on c"))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := m.ActivateDomain(ctx, DomainWish{Domain: simOther, By: "eve"}); d.is(simOther, fsm.DomainInactive)() && !errors.Is(err, ErrDomainWaits) {
			t.Errorf("activating a domain that nobody reaches: %v", err)
		}
		if len(d.asked(simOther+" on c")) == before {
			t.Error("domain activate asks nobody to try again")
		}
	})
}

// The whole way into maintenance and back.
func TestDomains_maintenance(t *testing.T) {
	simulateDomains(t, func(t *testing.T, d *domainSim, m *Manager) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := m.DeactivateDomain(ctx, DomainWish{Domain: simMaster, By: "eve"}); !errors.Is(err, ErrMasterDomain) || !strings.Contains(err.Error(), "set-master") {
			t.Errorf("the master: %v", err)
		}
		if _, err := m.DeactivateDomain(ctx, DomainWish{Domain: "none", By: "eve"}); !errors.Is(err, fsm.ErrNotFound) {
			t.Errorf("no domain: %v", err)
		}
		dom, err := m.DeactivateDomain(ctx, DomainWish{Domain: simOther, By: "eve", Reason: "firmware"})
		if err != nil || dom.Status != fsm.DomainMaintenance || dom.Reason != "wanted by eve: firmware" {
			t.Fatalf("%+v, %v", dom, err)
		}
		d.set(simOther, DomainUnreachable, "a", "b", "c")
		time.Sleep(time.Minute)
		if dom := d.domain(simOther); dom.Status != fsm.DomainMaintenance || len(dom.Failing) > 0 || len(d.asked(simOther+" on a")) > 0 {
			t.Errorf("in maintenance: %+v", dom)
		}
		if _, err := m.DeactivateDomain(ctx, DomainWish{Domain: simOther, By: "eve"}); err != nil {
			t.Errorf("once more: %v", err)
		}
		d.set(simOther, "", "a", "b", "c")
		if dom, err = m.ActivateDomain(ctx, DomainWish{Domain: simOther, By: "eve"}); err != nil || dom.Status != fsm.DomainActive {
			t.Errorf("%+v, %v", dom, err)
		}
		time.Sleep(time.Second) // events follow what they tell of
		for _, kind := range []string{"domain.preparing_maintenance", "domain.maintenance", "domain.activating", "domain.active"} {
			if n := countEvents(d.sim, kind); n != 1 {
				t.Errorf("%d events %s", n, kind)
			}
		}
	})
}

// What uses a domain keeps it out of maintenance and is named, also when it came after the refusal could have been given.
func TestDomains_maintenanceOfOneInUse(t *testing.T) {
	simulateDomains(t, func(t *testing.T, d *domainSim, m *Manager) {
		use := func(what ...string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.uses["b"] = what
		}
		use("attached volume web1")
		time.Sleep(1500 * time.Millisecond)
		_, err := m.DeactivateDomain(t.Context(), DomainWish{Domain: simOther, By: "eve"})
		if !errors.Is(err, ErrDomainUsed) || !strings.Contains(err.Error(), "attached volume web1 on b") || !d.is(simOther, fsm.DomainActive)() {
			t.Errorf("%v, %+v", err, d.domain(simOther))
		}
		use()
		time.Sleep(1500 * time.Millisecond)
		done := make(chan error, 1)
		go func() {
			_, err := m.DeactivateDomain(t.Context(), DomainWish{Domain: simOther, By: "eve"})
			done <- err
		}()
		synctest.Wait()
		use("attached volume db")
		if err := <-done; !errors.Is(err, ErrDomainUsed) || !strings.Contains(err.Error(), "attached volume db on b") {
			t.Errorf("%v", err)
		}
		d.until(t, "back in use", 5*time.Second, d.is(simOther, fsm.DomainActive))
	})
}

// A host that is silent keeps a domain from maintenance until it is known to be down.
func TestDomains_maintenanceWaitsForSilentHost(t *testing.T) {
	simulateDomains(t, func(t *testing.T, d *domainSim, m *Manager) {
		d.sim.mu.Lock()
		d.hosts["b"].hung = true
		d.switchUp = false
		d.sim.mu.Unlock()
		time.Sleep(time.Second)
		_, err := m.DeactivateDomain(t.Context(), DomainWish{Domain: simOther, By: "eve"})
		if !errors.Is(err, ErrDomainWaits) || !d.is(simOther, fsm.DomainPreparing)() || !strings.Contains(d.domain(simOther).Reason, "b does not answer") {
			t.Fatalf("%v, %+v", err, d.domain(simOther))
		}
		d.kill("b")
		if _, err := m.DeactivateDomain(t.Context(), DomainWish{Domain: simOther, By: "eve"}); err != nil {
			t.Errorf("after it is known to be down: %v", err)
		}
	})
}

// A host that does not let go is named, and activating ends the wait.
func TestDomains_maintenanceGivenUp(t *testing.T) {
	simulateDomains(t, func(t *testing.T, d *domainSim, m *Manager) {
		d.mu.Lock()
		d.stays["a"] = true
		d.mu.Unlock()
		done := make(chan error, 1)
		go func() {
			_, err := m.DeactivateDomain(t.Context(), DomainWish{Domain: simOther, By: "eve"})
			done <- err
		}()
		d.until(t, "named", 10*time.Second, func() bool {
			return strings.Contains(d.domain(simOther).Reason, "wanted by eve; it waits: a has not let go of the domain yet")
		})
		if _, err := m.ActivateDomain(t.Context(), DomainWish{Domain: simOther, By: "eve"}); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, ErrDomainUsed) {
			t.Errorf("whoever waited for maintenance: %v", err)
		}
	})
}

// Warnings are said once when they begin and once when they end, whoever leads.
func TestDomains_warnings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDomainSim(t, "a", "b", "c")
		put := func(free int64, seq uint64) {
			d.must(t, &fsm.DomainPut{Domain: fsm.Domain{ID: simOther, Name: "san", Size: 1000, Free: free, Seq: seq}})
		}
		trouble := func(delay time.Duration, late bool) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.delay, d.late = delay, late
		}
		put(150, 1)
		trouble(6*time.Second, true)
		for _, leader := range []string{"c", "a"} {
			_, stop := d.lead(t, leader, d.wire)
			time.Sleep(2 * time.Minute)
			stop()
		}
		for kind, want := range map[string]int{warnLowSpace: 1, warnSlow: 6, warnLate: 2, warnCriticalSpace: 0, clearSpace: 0, clearLate: 0, warnMetadata: 0} {
			if n := countEvents(d.sim, kind); n != want {
				t.Errorf("%d events %s, want %d", n, kind, want)
			}
		}
		_, stop := d.lead(t, "b", d.wire)
		defer stop()
		put(50, 2)
		trouble(time.Millisecond, false)
		time.Sleep(2 * time.Minute)
		put(205, 3) // not enough for the end of the warning
		time.Sleep(2 * time.Minute)
		if countEvents(d.sim, clearSpace) > 0 {
			t.Error("a warning ended within its own margin")
		}
		put(500, 4)
		time.Sleep(2 * time.Minute)
		for kind, want := range map[string]int{warnCriticalSpace: 1, clearSpace: 1, clearSlow: 6, clearLate: 2, warnLowSpace: 2} {
			if n := countEvents(d.sim, kind); n != want {
				t.Errorf("then %d events %s, want %d", n, kind, want)
			}
		}
	})
}

// Reports travel when there is something new in them, and not with every ping.
func TestDomains_reportsTravelOnce(t *testing.T) {
	simulateDomains(t, func(t *testing.T, d *domainSim, _ *Manager) {
		time.Sleep(time.Minute)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.resent > 0 || d.sent["a"] < 60 {
			t.Errorf("after %d looks %d reports were sent again", d.sent["a"], d.resent)
		}
	})
}

// A host that says that something changed is asked at once.
func TestManager_AskHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDomainSim(t, "a", "b", "c")
		m, stop := d.lead(t, "c", d.wire, func(c *Config) {
			c.Tick, c.Policy.Domains.ReportAge, c.Policy.Domains.Notice = time.Minute, time.Hour, 1
		})
		defer stop()
		time.Sleep(5*time.Minute + 30*time.Second)
		quiet := "a" // the SPM is asked more often
		if d.serving() == quiet {
			quiet = "b"
		}
		d.set(simOther, DomainUnreachable, quiet)
		time.Sleep(2 * time.Second)
		if len(d.domain(simOther).Failing) > 0 {
			t.Fatal("known before anybody asked")
		}
		m.AskHost(quiet)
		m.AskHost("nobody")
		d.until(t, "known", time.Second, func() bool { return slices.Equal(d.domain(simOther).Failing, []string{quiet}) })
	})
}
