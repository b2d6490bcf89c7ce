package interop

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

// crash is what a resource of a crash test goes through before its host dies: the host has it in one mode, or not, begins
// something, and dies after so many writes of that.
type crash struct {
	resource int
	has      string
	does     string // take or turn to a mode, or drop
	writes   int
	stays    bool // the lease stays the dead host's until it counts as dead
}

const (
	takeEX = "take EX"
	takeSH = "take SH"
	turnEX = "convert to EX"
	turnSH = "convert to SH"
	drop   = "release"
)

// An exclusive acquire is three writes (our block twice, the leader), a release two (our block, the leader), a shared
// acquire both with a block that says shared in the middle, a conversion to SH two and one to EX four.
var crashes = []crash{
	{1, "", takeEX, 1, false},
	{2, "", takeEX, 2, true},
	{3, "", takeEX, 3, true},
	{4, exclusive, drop, 1, true},
	{5, "", takeSH, 4, true},
	{6, "", takeSH, 5, true},
	{7, exclusive, turnSH, 1, true},
	{8, shared, turnEX, 3, true},
}

func (c *crash) String() string {
	return fmt.Sprintf("has %q, dies in %s after write %d", c.has, c.does, c.writes)
}

// run lets a host of ours do it.
func (c *crash) run(s side) error {
	switch c.does {
	case takeEX:
		return s.take(exclusive)
	case takeSH:
		return s.take(shared)
	case turnEX:
		return s.turn(exclusive)
	case turnSH:
		return s.turn(shared)
	}
	return s.drop()
}

// command is the same for a user of sanlock.
func (c *crash) command(res string) []any {
	switch c.does {
	case takeEX:
		return []any{"acquire", 0, res}
	case takeSH:
		return []any{"acquire", 0, res + ":SH"}
	case turnEX:
		return []any{"convert", res}
	case turnSH:
		return []any{"convert", res + ":SH"}
	}
	return []any{"release", res}
}

// takenOver judges when a dead host's resource was had: stamp is the host's last renewal, at the moment, on one clock.
func takenOver(t *testing.T, what string, stamp, at, n time.Duration) {
	t.Helper()
	took, dead := at-stamp, 8*n+watchdog
	t.Logf("%s: had by the other side %v after the last renewal", what, took.Round(10*time.Millisecond))
	if took <= dead || took > dead+2*n+10*time.Second {
		t.Errorf("%s: taken %v after the last renewal, not in the seconds after %v", what, took, dead)
	}
}

// hadAtOnce judges when a resource was had that the dead host did not hold; begin is the first attempt.
func hadAtOnce(t *testing.T, what string, begin, at time.Duration) {
	t.Helper()
	if took := at - begin; took > 8*time.Second {
		t.Errorf("%s: was free, but had only after %v", what, took)
	}
}

// TestCrash_oursTheyTakeOver is test 11: our host dies at each write of acquire and release, and a daemon gets every
// lease, never too early.
func TestCrash_oursTheyTakeOver(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	retry(t, 20*time.Second, func() error { return inState(d.state(3), "LIVE") })
	for _, c := range crashes {
		s := &ourSide{h: h, i: c.resource}
		if c.has != "" {
			if err := s.take(c.has); err != nil {
				t.Fatal(err)
			}
		}
		h.io.Inject(faulty.Fault{Ops: faulty.Write, Off: l.offset(c.resource), Len: mib, After: c.writes, Err: faulty.EIO})
		complete := c.writes == map[string]int{takeEX: 3, takeSH: 5}[c.does]
		if err := c.run(s); c.has == "" && (err == nil) != complete {
			t.Fatalf("%v: %v", &c, err)
		}
	}
	h.crash()
	stamp := time.Duration(l.record(t, 3).Timestamp) * time.Second
	for _, c := range crashes {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			u, begin := startUser(t, d), monotonic(t)
			if rc, v := u.eventually(l.theirs(c.resource), 110*time.Second); rc < 0 || v == 0 {
				t.Fatalf("%d, version %d", rc, v)
			}
			if c.stays {
				takenOver(t, c.String(), stamp, monotonic(t), fast)
			} else {
				hadAtOnce(t, c.String(), begin, monotonic(t))
			}
		})
	}
}

func inState(got, want string) error {
	if got != want {
		return fmt.Errorf("state %q, not %q", got, want)
	}
	return nil
}

// TestCrash_theirsWeTakeOver is test 11 the other way: a daemon is killed at each write.
func TestCrash_theirsWeTakeOver(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	h := ours(t, l, 3)
	for _, c := range crashes {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			crashTheirs(t, l, h, 10+c.resource, &c, func(lease *leases.Lease, stamp, died, at time.Duration) {
				if c.stays {
					takenOver(t, c.String(), stamp, at, fast)
				} else {
					hadAtOnce(t, c.String(), died, at)
				}
				if err := lease.Release(within(t, 10*time.Second)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// crashTheirs joins a daemon as host id, kills it in the middle of c, and tells when we got the resource.
func crashTheirs(t *testing.T, l *lun, h *host, id int, c *crash, had func(lease *leases.Lease, stamp, died, at time.Duration)) {
	t.Helper()
	d := startDaemon(t, l, fmt.Sprintf("d%d", id))
	d.join(id, fast)
	retry(t, 20*time.Second, func() error { return inState(string(h.HostStatus(id).State), "LIVE") })
	u, res := startUser(t, d), l.theirs(c.resource)
	switch c.has {
	case exclusive:
		u.must("acquire", 0, res)
	case shared:
		u.must("acquire", 0, res+":SH")
	}
	d.hook.arm(l.offset(c.resource), l.offset(c.resource+1), c.writes-1, killAfter)
	u.send(c.command(res)...)
	d.hook.wait(t)
	d.reap()
	died := boot()
	stamp := time.Duration(l.record(t, id).Timestamp)*time.Second + boot() - monotonic(t)
	lease, err := h.eventually(c.resource, 110*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	had(lease, stamp, died, boot())
}

// TestCrash_catchesPlantedBug: a host of ours that takes over without W is found by the same measurement.
func TestCrash_catchesPlantedBug(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	cfg := hostConfig(l, 3, fast)
	cfg.Bugs = plant.Bugs{TakeOverEarly: true}
	h := joinHost(t, l, cfg)
	crashTheirs(t, l, h, 13, &crashes[2], func(_ *leases.Lease, stamp, _, at time.Duration) {
		if at-stamp > 8*fast+watchdog {
			t.Errorf("taken after %v: the planted bug did nothing", at-stamp)
		}
	})
}

// TestRestart_ours is test 12: we come back under our name in 2N, with the next generation, and what we held before
// can be taken by everyone at once.
func TestRestart_ours(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	h.acquire(1)
	h.acquire(2)
	h.crash()
	begin := boot()
	again := ours(t, l, 3)
	if took := boot() - begin; took > 4*fast || again.Generation() != 2 {
		t.Errorf("back after %v with generation %d", took, again.Generation())
	}
	u := startUser(t, d)
	begin = boot()
	if rc, v := u.acquire(l.theirs(1), 0); rc < 0 || v != 2 {
		t.Errorf("sanlock, on the lease of a former life of ours: %d, version %d", rc, v)
	}
	if lease := again.acquire(2); lease.Epoch() != 2 {
		t.Errorf("version %d", lease.Epoch())
	}
	if took := boot() - begin; took > 8*fast {
		t.Errorf("the leases of the former life were had only after %v", took)
	}
}

// TestRestart_theirs is test 12 with a daemon that is killed and started again under the same name.
func TestRestart_theirs(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	u := startUser(t, d)
	u.must("acquire", 0, l.theirs(1))
	u.must("acquire", 0, l.theirs(2))
	d.kill()
	h.refused(1, 5)
	d.start()
	d.join(5, fast)
	if rec := l.record(t, 5); rec.OwnerGeneration != 2 {
		t.Errorf("generation %d", rec.OwnerGeneration)
	}
	begin := boot()
	if lease := h.acquire(1); lease.Epoch() != 2 {
		t.Errorf("version %d", lease.Epoch())
	}
	if rc, v := startUser(t, d).acquire(l.theirs(2), 0); rc < 0 || v != 2 {
		t.Errorf("%d, version %d", rc, v)
	}
	if took := boot() - begin; took > 8*fast {
		t.Errorf("the leases of the former life were had only after %v", took)
	}
}

// TestCrash_leaveWithLeases: a host that left without releasing leaves nothing that others wait for.
func TestCrash_leaveWithLeases(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	u := startUser(t, d)
	u.must("acquire", 0, l.theirs(1))
	d.leave(5) // kills u, with the lease on disk
	if sig := u.endedBy(20 * time.Second); sig == 0 {
		t.Error("the user outlived its lockspace")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*fast)
	defer cancel()
	if _, err := h.Acquire(ctx, h.spec(1)); err != nil {
		t.Error(err)
	}
}
