package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// TestStorage_lost is test 17: the file is truncated under both. Ours stops using its leases half of N before 8N,
// sanlock signals its users at 8N, and neither writes another byte.
func TestStorage_lost(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	lease := h.acquire(1)
	u := startUser(t, d)
	u.must("acquire", 0, l.theirs(2))
	mine := time.Duration(l.record(t, 3).Timestamp) * time.Second
	theirs := time.Duration(l.record(t, 5).Timestamp) * time.Second
	if err := os.Truncate(l.path, 0); err != nil {
		t.Fatal(err)
	}
	for lease.Check(0) == nil {
		time.Sleep(5 * time.Millisecond)
	}
	took := boot() - mine
	t.Logf("ours: lease over %v after the last renewal", took)
	if took < 15*fast/2 || took > 15*fast/2+1500*time.Millisecond { // the timestamp has no fractions
		t.Errorf("ours: lease over after %v", took)
	}
	if err := h.loss(10 * time.Second); !errors.Is(err, leases.ErrLost) {
		t.Error(err)
	}
	if sig := u.endedBy(20 * time.Second); sig != syscall.SIGTERM {
		t.Errorf("sanlock's user ended by %v", sig)
	}
	if took := monotonic(t) - theirs; took < 8*fast || took > 8*fast+6*time.Second {
		t.Errorf("sanlock's user was signalled after %v", took)
	} else {
		t.Logf("sanlock: user gone %v after the last renewal", took)
	}
	if err := lease.Release(within(t, 5*time.Second)); !errors.Is(err, leases.ErrLost) {
		t.Errorf("release: %v", err)
	}
	if st, err := os.Stat(l.path); err != nil || st.Size() != 0 {
		t.Errorf("somebody wrote to what is left: %v, %v", st, err)
	}
}

// stopped is a keeper with a lease that was stopped, as a hypervisor or a debugger would, right after a renewal. Its agent
// is a process that does nothing, so that the keeper can end it.
type stopped struct {
	lun    *lun
	keeper *keeper.Client
	agent  *exec.Cmd
	guard  blockdev.Guard
	record leases.Leader // at the stop
}

func stopKeeper(t *testing.T, l *lun) *stopped {
	t.Helper()
	s := &stopped{lun: l, agent: exec.Command("sleep", "600")}
	if err := s.agent.Start(); err != nil {
		t.Fatal(err)
	}
	cfg := keeperConfig(l.dir)
	cfg.AgentPID = s.agent.Process.Pid
	k, err := keeper.Start(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.keeper = k
	t.Cleanup(func() {
		_ = syscall.Kill(k.PID(), syscall.SIGCONT)
		_ = s.agent.Process.Kill() // which ends the keeper
		_ = s.agent.Wait()
		_ = k.Close(within(t, 30*time.Second)) // with a lost lockspace that is an error
	})
	s.hold(t)
	return s
}

// hold joins and takes resource 1, and stops the keeper after its next renewal.
func (s *stopped) hold(t *testing.T) {
	t.Helper()
	ls, res := s.lun.keeperSpecs(3, fast, 1)
	if _, err := s.keeper.Join(within(t, 30*time.Second), ls); err != nil {
		t.Fatal(err)
	}
	if _, err := s.keeper.Acquire(within(t, 10*time.Second), res); err != nil {
		t.Fatal(err)
	}
	s.guard = s.keeper.Guard(space, resName(1))
	for s.record = s.lun.record(t, 3); s.lun.record(t, 3) == s.record; {
		time.Sleep(20 * time.Millisecond)
	}
	s.record = s.lun.record(t, 3)
	if err := syscall.Kill(s.keeper.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// age is the time since the last renewal, to a second.
func (s *stopped) age() time.Duration { return boot() - time.Duration(s.record.Timestamp)*time.Second }

func (s *stopped) resume(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(s.keeper.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// TestStorage_stopped is the second half of test 17: our keeper is stopped for 5N, 7N, 9N, and for longer than it takes
// to be dead. In time, it goes on; too late, it finds out before it writes anything. The guard says no by itself.
func TestStorage_stopped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n     int
		alive bool
	}{{5, true}, {6, true}, {9, false}, {12, false}} {
		t.Run(fmt.Sprintf("%dN", c.n), func(t *testing.T) {
			t.Parallel()
			l := newLUN(t, lunOptions{})
			d := startDaemon(t, l, "a")
			d.join(5, fast)
			s := stopKeeper(t, l)
			for s.age() < time.Duration(c.n)*fast {
				if s.guard.Check(0) == nil && s.age() > 8*fast+time.Second {
					t.Fatal("the guard says yes though nobody renews")
				}
				time.Sleep(20 * time.Millisecond)
			}
			before := l.leader(t, 1)
			s.resume(t)
			time.Sleep(5 * fast) // two renewals
			if renewed := l.record(t, 3) != s.record; renewed != c.alive {
				t.Errorf("renewed after the stop: %v", renewed)
			}
			if good := s.guard.Check(0) == nil; good != c.alive {
				t.Errorf("the guard says %v", good)
			}
			if l.leader(t, 1) != before {
				t.Error("the resource was written to")
			}
			if rc, _ := startUser(t, d).acquire(l.theirs(1), noWait); rc != rcIDLive && rc != rcNoWait {
				t.Errorf("sanlock on the lease: %d", rc)
			}
		})
	}
}

// TestStorage_stopped7: stopped for 7N, the keeper is back within its lease or not, but never with a doubt.
func TestStorage_stopped7(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	s := stopKeeper(t, l)
	for s.age() < 7*fast {
		time.Sleep(20 * time.Millisecond)
	}
	s.resume(t)
	time.Sleep(5 * fast)
	rec := l.record(t, 3)
	if good := s.guard.Check(0) == nil; good != (rec != s.record) {
		t.Errorf("guard %v, record renewed %v", good, rec != s.record)
	}
	if rec.OwnerGeneration != 1 {
		t.Errorf("generation %d", rec.OwnerGeneration)
	}
}

// TestStorage_stoppedTillDead: a daemon takes over from a keeper that is stopped, and what wakes up then writes nothing.
func TestStorage_stoppedTillDead(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	s := stopKeeper(t, l)
	u := startUser(t, d)
	if rc, v := u.eventually(l.theirs(1), 120*time.Second); rc < 0 || v != 2 {
		t.Fatalf("%d, version %d", rc, v)
	}
	takenOver(t, "from a stopped keeper", time.Duration(s.record.Timestamp)*time.Second+monotonic(t)-boot(), monotonic(t), fast)
	theirs := l.leader(t, 1)
	s.resume(t)
	ended := make(chan error, 1)
	go func() { ended <- s.agent.Wait() }()
	select {
	case <-ended: // by now the agent is long past its time
	case <-time.After(20 * time.Second):
		t.Error("the keeper did not end its agent")
	}
	time.Sleep(3 * fast)
	if block := l.block(t, 1, 3); l.record(t, 3) != s.record || l.leader(t, 1) != theirs || block.Released() {
		t.Error("the keeper wrote after it was dead to all others")
	}
	if s.guard.Check(0) == nil {
		t.Error("the guard says yes")
	}
}
