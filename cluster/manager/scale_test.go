package manager

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// tickPool is a leader's term over so many hosts that answered and ten domains, whose step can be called.
func tickPool(tb testing.TB, hosts int) (*term, func()) {
	tb.Helper()
	tm, view := domainsOf(tb, hosts, 10)
	now := time.Now()
	for _, h := range view.Hosts.All() {
		s := tm.hosts[h.Name]
		s.reply = PingReply{Host: h.Name, HostID: h.HostID, Generation: 1, KeeperOK: true, MasterValid: true, Domains: s.reply.Domains, DomainsSeq: 7}
		s.asked, s.answered, s.last = true, true, now
	}
	return tm, func() { tick(tm, view) }
}

// tick is what step works out in the leader's loop, without the calls to hosts that it begins.
func tick(t *term, view *fsm.State) {
	in := t.inputs(view)
	t.settleOutreach(&in)
	d := Decide(in)
	t.m.explain(view, in, d)
	_ = decideFences(in)
	troubles := t.storageTrouble(view)
	domains := domainIDs(view)
	for i := range in.Hosts {
		f := &in.Hosts[i]
		h, _ := view.Hosts.Get(f.Name)
		_ = t.hostChange(h, t.hostView(h, f, &in, troubles[h.Name]), domains)
	}
	t.recordRole(view, in, d)
	t.lookAfterDomains(view)
}

// What one tick costs the leader.
func BenchmarkTick(b *testing.B) {
	for _, hosts := range []int{50, 100, 200} {
		b.Run(fmt.Sprintf("%d_hosts_10_domains", hosts), func(b *testing.B) {
			tm, tick := tickPool(b, hosts)
			b.ReportAllocs()
			for b.Loop() {
				tick()
			}
			tm.wg.Wait()
		})
	}
}

// A tick's work grows with the hosts and not faster. Allocations are counted, not time: they do not depend on the machine. A term that
// is over begins nothing, so that only the tick is counted.
func TestTick_growsLinearly(t *testing.T) {
	cost := func(hosts int) float64 {
		tm, tick := tickPool(t, hosts)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		tm.ctx = ctx
		tick()
		tm.wg.Wait()
		return testing.AllocsPerRun(5, tick)
	}
	small, big := cost(50), cost(200)
	if small < 50 || big > 6*small { // four times the hosts; a square would be sixteen
		t.Errorf("%.0f allocations with 50 hosts, %.0f with 200", small, big)
	}
}

// counted counts what a leader does to a simulated pool.
type counted struct {
	*sim
	calls atomic.Int64
}

func (c *counted) Call(ctx context.Context, host, method string, in, out any) error {
	c.calls.Add(1)
	return c.sim.Call(ctx, host, method, in, out)
}

// bigPool counts calls and commits of ten well seconds of a pool, and how long a crash of the SPM takes.
func bigPool(t *testing.T, hosts int) (calls int64, commits uint64, failover time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		names := make([]string, hosts)
		for i := range names {
			names[i] = fmt.Sprintf("h%03d", i)
		}
		c := &counted{sim: newSim(t, names...)}
		last := names[hosts-1]
		c.hosts[last].master = false
		_, stop := c.lead(t, last, func(cfg *Config) { cfg.Cluster = c })
		defer c.check(t)
		defer stop()
		c.until(t, "election", 5*time.Second, func() bool { return c.serving() != "" })
		time.Sleep(3 * time.Second)
		calls, commits = c.calls.Load(), c.View().Index
		time.Sleep(10 * time.Second)
		calls, commits = c.calls.Load()-calls, c.View().Index-commits
		spm := c.serving()
		c.kill(spm)
		failover = c.until(t, "failover", 10*time.Second, func() bool { return another(spm)(c.sim) })
	})
	return calls, commits, failover
}

// 200 hosts under virtual time: calls grow with the hosts, what is committed while all is well does not, and the role moves as fast as ever.
func TestScale_200hosts(t *testing.T) {
	t.Parallel()
	few, _, _ := bigPool(t, 20)
	many, commits, failover := bigPool(t, 200)
	err := errors.Join(
		check(many <= 12*few, "%d calls with 200 hosts, %d with 20, in the same time", many, few),
		check(commits <= 10, "%d commits in ten seconds in which nothing happened", commits),
		check(failover < 2*time.Second, "the role took %s", failover))
	if err != nil {
		t.Error(err)
	}
}

func check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
