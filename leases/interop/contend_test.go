package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

var defaultGeometry = leases.Geometry512

// contentionN gives daemons and keepers on a busy machine room for their renewals.
const contentionN = 2 * time.Second

// Host ids and counter slots of a contention test.
const (
	idA     = 1 // sanlock
	idB     = 2 // sanlock
	idOurs  = 3 // a Lockspace in this process
	idAgent = 4 // an agent with its keeper
	// idReader is one more of ours, which only shares.
	idReader = 5
)

// contentionTime is how long the hosts contend: short, or as long as the environment says.
func contentionTime(t testing.TB, short time.Duration) time.Duration {
	t.Helper()
	s := os.Getenv("HOLDFAST_INTEROP_TIME")
	if s == "" {
		return short
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("HOLDFAST_INTEROP_TIME: %v", err)
	}
	return d
}

// arena is two daemons and our hosts on one resource, with a counter under its lease.
type arena struct {
	t     *testing.T
	lun   *lun
	tally *tally
	hold  time.Duration
	a, b  *daemon
	ours  *host
	wg    sync.WaitGroup
	// deaths of whole hosts
	deaths atomic.Int64
	// stuck users of a daemon: a call of theirs did not come back
	stuck atomic.Int64
}

// endTime is how long a daemon's user may take for its last round.
const endTime = time.Minute

// newArena joins all hosts but the agent, which joins by itself.
func newArena(t *testing.T, bugs plant.Bugs) *arena {
	l := newLUN(t, lunOptions{hosts: 16, n: contentionN})
	ar := &arena{t: t, lun: l, tally: newTally(), hold: 2 * time.Millisecond, a: startDaemon(t, l, "a"), b: startDaemon(t, l, "b")}
	var wg sync.WaitGroup
	for id, d := range map[int]*daemon{idA: ar.a, idB: ar.b} {
		wg.Go(func() {
			if err := d.tryJoin(id, contentionN); err != nil {
				t.Error(err)
			}
		})
	}
	cfg := hostConfig(l, idOurs, contentionN)
	cfg.Bugs = bugs
	ar.ours = joinHost(t, l, cfg)
	wg.Wait()
	return ar
}

// runOurs counts in this process.
func (ar *arena) runOurs(ctx context.Context) {
	spec := ar.ours.spec(1)
	spec.NoWait = true
	w := &worker{dev: ar.lun.open(ar.t), off: ar.lun.counter(), slot: idOurs, hold: ar.hold, say: func(s string) { ar.tally.line(idOurs, s) },
		grab: func(ctx context.Context) (uint64, func(time.Duration) error, func(context.Context) error, error) {
			lease, err := ar.ours.Acquire(ctx, spec)
			if err != nil {
				return 0, nil, nil, err
			}
			return lease.Epoch(), lease.Check, lease.Release, nil
		}}
	ar.wg.Go(func() { w.run(ctx) })
}

// hostDeaths: one of so many kills takes the whole host, with the lease on disk. It comes back under its name with the
// next generation, which makes its old leases takeable at once.
const hostDeaths = 8

// life is a worker that is killed after a random time between from and to, again and again; 0 is never.
type life struct {
	slot     int
	from, to time.Duration
	start    func() (kill, stop func())
}

func (ar *arena) live(ctx context.Context, l life) {
	ar.wg.Go(func() {
		for ctx.Err() == nil {
			kill, stop := l.start()
			if l.to == 0 || !sleep(ctx, l.from+rand.N(l.to-l.from)) {
				<-ctx.Done()
				stop()
				return
			}
			kill()
			ar.tally.mu.Lock()
			ar.tally.slot(l.slot).killed++
			ar.tally.mu.Unlock()
		}
	})
}

// runTheirs counts through a daemon.
func (ar *arena) runTheirs(ctx context.Context, d *daemon, slot int, from, to time.Duration) {
	ar.live(ctx, life{slot: slot, from: from, to: to, start: func() (kill, stop func()) {
		ar.revive(d, slot)
		u := startUser(ar.t, d)
		u.send("count", ar.lun.path, ar.lun.counter(), slot, ar.lun.theirs(1), ar.hold.Microseconds())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for line := range u.lines {
				ar.tally.line(slot, line)
			}
		}()
		end := func() { <-done; u.wait() }
		kill = func() {
			host := rand.N(hostDeaths) == 0
			if host { // its user must not outlive the daemon, which no watchdog sees to here, nor the daemon its user
				_ = syscall.Kill(d.cmd.Process.Pid, syscall.SIGSTOP)
			}
			_ = u.cmd.Process.Kill()
			end()
			if host {
				d.kill()
				ar.deaths.Add(1)
			}
		}
		return kill, func() {
			_ = u.in.Close()
			select {
			case <-done:
			case <-time.After(endTime):
				ar.stuck.Add(1)
				_ = u.cmd.Process.Kill()
			}
			end()
		}
	}})
}

// revive brings a dead daemon back under its name.
func (ar *arena) revive(d *daemon, id int) {
	if d.dead {
		d.start()
		d.join(id, contentionN)
	}
}

// runAgent counts through a keeper.
func (ar *arena) runAgent(ctx context.Context, from, to time.Duration) {
	ar.live(ctx, life{slot: idAgent, from: from, to: to, start: func() (kill, stop func()) {
		a := startAgent(ar.t, ar.lun, idAgent, idAgent, ar.hold, func(s string) { ar.tally.line(idAgent, s) })
		kill = func() {
			if rand.N(2) > 0 {
				a.kill()
				return
			}
			a.killHost()
			ar.deaths.Add(1)
		}
		return kill, a.stop
	}})
}

// sleep waits; false when the context ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// finish waits for all workers and reads the counter.
func (ar *arena) finish() {
	ar.wg.Wait()
	var c counter
	if err := c.decode(ar.lun.sectorAt(ar.t, ar.lun.counter())); err != nil {
		ar.t.Fatal(err)
	}
	ar.tally.final(&c)
	ar.t.Logf("count %d, version %d, %d hosts died; %v", c.total, c.version, ar.deaths.Load(), ar.tally)
}

// notStuck wants each host to get the lease once more.
func (ar *arena) notStuck() {
	ar.t.Helper()
	for id, d := range map[int]*daemon{idA: ar.a, idB: ar.b} {
		ar.revive(d, id)
		u := startUser(ar.t, d)
		retry(ar.t, 10*time.Second, func() error {
			if rc, _ := u.acquire(ar.lun.theirs(1), 0); rc < 0 {
				return fmt.Errorf("the daemon %s cannot have the lease at the end: %d", d.name, rc)
			}
			return nil
		})
		u.must("release", ar.lun.theirs(1))
	}
	retry(ar.t, 10*time.Second, func() error {
		lease, err := ar.ours.Acquire(within(ar.t, 5*time.Second), ar.ours.spec(1))
		if err != nil {
			return err
		}
		return lease.Release(within(ar.t, 5*time.Second))
	})
}

// TestContention_counter is test 9: two daemons, a keeper and a lockspace of ours increment one counter under one
// lease. Users of the daemons, the agent, and whole hosts are killed in the middle. The count is exact, no version has two owners,
// and nobody is locked out in the end.
func TestContention_counter(t *testing.T) {
	t.Parallel()
	ar := newArena(t, plant.Bugs{})
	ctx, cancel := context.WithTimeout(context.Background(), contentionTime(t, 60*time.Second))
	defer cancel()
	ar.runOurs(ctx)
	ar.runAgent(ctx, 8*time.Second, 20*time.Second)
	ar.runTheirs(ctx, ar.a, idA, 0, 0)
	ar.runTheirs(ctx, ar.b, idB, 200*time.Millisecond, 2*time.Second)
	ar.finish()
	if bad := ar.tally.bad(); len(bad) > 0 {
		t.Fatalf("%d violations:\n%s", len(bad), strings.Join(bad[:min(len(bad), 20)], "\n"))
	}
	for _, slot := range []int{idA, idB, idOurs, idAgent} {
		if ar.tally.slot(slot).done < 20 {
			t.Errorf("worker %d did next to nothing", slot)
		}
	}
	if n := ar.stuck.Load(); n > 0 {
		t.Errorf("%d users of a daemon did not come back from a call", n)
	}
	if ar.tally.slot(idB).killed < 10 || ar.tally.slot(idAgent).killed < 2 {
		t.Error("too few were killed")
	}
	ar.notStuck()
}

// TestContention_catchesPlantedBug: with one of our hosts broken the same arena must find two holders.
func TestContention_catchesPlantedBug(t *testing.T) {
	t.Parallel()
	ar := newArena(t, plant.Bugs{SkipPhase2Read: true})
	ctx, cancel := context.WithTimeout(context.Background(), contentionTime(t, 90*time.Second))
	defer cancel()
	begin := time.Now()
	ar.ours.io.Inject(faulty.Fault{Ops: faulty.Write, Delay: 2 * time.Millisecond}) // a slow path makes races
	ar.runOurs(ctx)
	ar.runTheirs(ctx, ar.a, idA, 0, 0)
	ar.runTheirs(ctx, ar.b, idB, 0, 0)
	for len(ar.tally.bad()) == 0 && sleep(ctx, 50*time.Millisecond) {
	}
	cancel()
	ar.wg.Wait()
	bad := ar.tally.bad()
	if len(bad) == 0 {
		t.Fatalf("not found in %v; %v", time.Since(begin), ar.tally)
	}
	t.Logf("found after %v: %s; %v", time.Since(begin).Round(time.Millisecond), bad[0], ar.tally)
}
