package keeper

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// stayWith is the resource "other" for a process, beyond its agent.
func stayWith(lun string, p Process) ResourceSpec {
	return ResourceSpec{Lockspace: "space", Name: "other", Device: lun, Offset: 2 * mib, NoWait: true,
		Holder: &Holder{Name: "export", Processes: []Process{p}, Kill: true, Stay: true}}
}

// heldOnDisk says whether a resource has an owner.
func heldOnDisk(t *testing.T, lun string, off int64, name string) bool {
	t.Helper()
	info, err := leases.ReadLeader(testutil.Deadline(t), openLUN(t, lun), off, "space", name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Timestamp != 0
}

// takeStay acquires both resources and gives the guard that the process would have.
func takeStay(t *testing.T, c *Client, lun string, p Process) blockdev.Guard {
	t.Helper()
	ctx := testutil.Deadline(t)
	_, res := specs(lun, 1)
	if _, err := c.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Acquire(ctx, stayWith(lun, p)); err != nil {
		t.Fatal(err)
	}
	return sharedGuard(t, c)
}

func sharedGuard(t *testing.T, c *Client) blockdev.Guard {
	t.Helper()
	spec, f, err := c.ShareGuard("space", "other")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := OpenGuard(f, spec)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestStay_handOver: what stays is held without a break from one agent to the next, over the next one's whole life; what
// does not is free. The keeper ends with the process.
func TestStay_handOver(t *testing.T) {
	t.Parallel()
	lun, dir := newLUN(t), t.TempDir()
	ctx := testutil.Deadline(t)
	a, err := Start(ctx, testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	ls, _ := specs(lun, 1)
	gen, err := a.Join(ctx, ls)
	if err != nil {
		t.Fatal(err)
	}
	user := startChild(t, obeys)
	g := takeStay(t, a, lun, user.process(t))
	own := a.Guard("space", "other")
	if n, err := a.HandOver(ctx); err != nil || n != 1 {
		t.Fatalf("%d stay, %v", n, err)
	}
	if own.Check(0) == nil {
		t.Error("the guard of the agent that left says yes")
	}
	if err := g.Check(time.Second); err != nil {
		t.Errorf("the guard of the process: %v", err)
	}
	if heldOnDisk(t, lun, mib, "res") {
		t.Error("the agent's own lease is held")
	}
	b := nextAgent(t, dir, lun, a.PID(), gen)
	if v, err := b.Acquire(ctx, stayWith(lun, user.process(t))); err != nil || v != 1 {
		t.Errorf("the lease that stayed: version %d, %v", v, err)
	}
	if again := sharedGuard(t, b); again.Epoch() != g.Epoch() || again.Check(0) != nil || g.Check(0) != nil {
		t.Errorf("guards: %v, %v", again.Check(0), g.Check(0))
	}
	_, res := specs(lun, 1)
	if v, err := b.Acquire(ctx, res); err != nil || v != 2 {
		t.Errorf("the lease of the agent: version %d, %v", v, err)
	}
	awaitRenewal(t, g)
	if n, err := b.HandOver(ctx); err != nil || n != 1 {
		t.Fatalf("%d stay, %v", n, err)
	}
	_ = user.cmd.Process.Kill()
	awaitKeeperEnd(t, a.PID())
	if heldOnDisk(t, lun, 2*mib, "other") {
		t.Error("held without its process")
	}
	if g.Check(0) == nil {
		t.Error("the guard says yes without a keeper")
	}
}

// nextAgent takes the keeper over.
func nextAgent(t *testing.T, dir, lun string, pid int, gen uint64) *Client {
	t.Helper()
	ctx := testutil.Deadline(t)
	b, err := Start(ctx, testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	if b.PID() != pid || !b.Adopted() {
		t.Errorf("keeper %d, adopted %v; want %d", b.PID(), b.Adopted(), pid)
	}
	ls, _ := specs(lun, 1)
	if g, err := b.Join(ctx, ls); err != nil || g != gen {
		t.Errorf("generation %d, %v; want %d", g, err, gen)
	}
	return b
}

// awaitRenewal waits until the keeper has renewed at least once.
func awaitRenewal(t *testing.T, g blockdev.Guard) {
	t.Helper()
	begin := time.Now()
	testutil.Retry(t, 10*time.Second, func() error {
		if err := g.Check(0); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) < leases.Dev.Expiry()+time.Second {
			return errors.New("longer than an expiry")
		}
		return nil
	})
}

func awaitKeeperEnd(t *testing.T, pid int) {
	t.Helper()
	testutil.Retry(t, 10*time.Second, func() error {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) && !zombie(pid) {
			return fmt.Errorf("keeper %d still runs: %v", pid, err)
		}
		return nil
	})
}

// TestStay_agentKilled: SIGKILL of the agent leaves what stays, and the next agent takes it over; without Stay the process is
// ended, as before. A planted keeper that treats all alike fails here.
func TestStay_agentKilled(t *testing.T) {
	t.Parallel()
	lun, dir := newLUN(t), t.TempDir()
	user := startChild(t, obeys)
	p := user.process(t)
	a := startAgent(t, dir, lun, fmt.Sprintf("AGENT_STAY=%d", p.PID), fmt.Sprintf("AGENT_STAY_AT=%d", p.StartTime))
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = a.cmd.Wait()
	freeAfter(t, lun) // the agent's own
	b := nextAgent(t, dir, lun, a.keeper, 1)
	ctx := testutil.Deadline(t)
	if v, err := b.Acquire(ctx, stayWith(lun, p)); err != nil || v != 1 {
		t.Errorf("version %d, %v", v, err)
	}
	g := sharedGuard(t, b)
	if err := b.Release(ctx, stayWith(lun, p)); err != nil {
		t.Error(err)
	}
	if g.Check(0) == nil {
		t.Error("the guard survives the release")
	}
	if n, err := b.HandOver(ctx); err != nil || n != 0 {
		t.Errorf("%d stay, %v", n, err)
	}
	awaitKeeperEnd(t, a.keeper)
}

// TestStay_close: an agent that takes everything down takes down what would stay too.
func TestStay_close(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	c := joined(t, lun, 1)
	user := startChild(t, obeys)
	takeStay(t, c, lun, user.process(t))
	if err := c.Close(testutil.Deadline(t)); err != nil {
		t.Error(err)
	}
	if sig := user.signalled(t); sig != syscall.SIGTERM {
		t.Errorf("ended by %v", sig)
	}
	if heldOnDisk(t, lun, 2*mib, "other") {
		t.Error("still held")
	}
}

// TestStay_sigterm: a keeper that waits for its next agent ends in order when it is told to.
func TestStay_sigterm(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	c, err := Start(ctx, testConfig(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	ls, _ := specs(lun, 1)
	if _, err := c.Join(ctx, ls); err != nil {
		t.Fatal(err)
	}
	user := startChild(t, stubborn)
	takeStay(t, c, lun, user.process(t))
	if n, err := c.HandOver(ctx); err != nil || n != 1 {
		t.Fatalf("%d stay, %v", n, err)
	}
	if err := syscall.Kill(c.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if sig := user.signalled(t); sig != syscall.SIGKILL {
		t.Errorf("ended by %v", sig)
	}
	awaitKeeperEnd(t, c.PID())
	if heldOnDisk(t, lun, 2*mib, "other") {
		t.Error("still held")
	}
}

// TestStay_strangers: whoever does not say who it is does not get in, and the next agent does.
func TestStay_strangers(t *testing.T) {
	t.Parallel()
	lun, dir := newLUN(t), t.TempDir()
	ctx := testutil.Deadline(t)
	a, err := Start(ctx, testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	ls, _ := specs(lun, 1)
	gen, err := a.Join(ctx, ls)
	if err != nil {
		t.Fatal(err)
	}
	user := startChild(t, obeys)
	takeStay(t, a, lun, user.process(t))
	if _, err := a.HandOver(ctx); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, say := range []func(net.Conn) error{
		func(c net.Conn) error { _, err := c.Write([]byte("\xff\xff\xff\xffgarbage")); return err },
		func(c net.Conn) error { return writeFrame(c, &request{Method: methodAdopt, FDs: 1}) },
		func(c net.Conn) error { return writeFrame(c, &request{Method: methodHello}) },
		func(c net.Conn) error {
			return writeFrame(&fdWriter{c, []*os.File{f}}, &request{Method: methodAdopt, FDs: 1})
		},
	} {
		c, err := net.Dial("unix", doorPath(f))
		if err != nil {
			t.Fatal(err)
		}
		if err := say(c); err != nil {
			t.Error(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("was answered: %d bytes, %v", n, err)
		}
		_ = c.Close()
	}
	b := nextAgent(t, dir, lun, a.PID(), gen)
	if err := b.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestOpenGuard_badInput(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "page")
	for name, tc := range map[string]struct {
		size int64
		spec GuardSpec
		want error
	}{
		"short file": {pageBytes - 1, GuardSpec{}, ErrPage}, "no page": {pageBytes, GuardSpec{}, ErrPage},
		"slot": {pageBytes, GuardSpec{Resource: resourceSlots}, ErrInvalid}, "lockspace": {pageBytes, GuardSpec{Lockspace: -1}, ErrInvalid},
	} {
		if err := os.WriteFile(path, make([]byte, tc.size), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenGuard(f, tc.spec); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		_ = f.Close()
	}
	if _, _, err := (&Client{grants: map[string]*grant{}}).ShareGuard("a", "b"); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("a lease that is not held: %v", err)
	}
	if err := (&Holder{Name: "x", Stay: true}).validate(); !errors.Is(err, ErrInvalid) {
		t.Errorf("stay without a process: %v", err)
	}
}
