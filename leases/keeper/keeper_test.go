package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

const mib = 1 << 20

// newLUN makes a file with a lockspace at 0 and two resources behind it.
func newLUN(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lun")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8*mib); err != nil {
		t.Fatal(err)
	}
	ctx := testutil.Deadline(t)
	d := openLUN(t, path)
	if err := leases.InitLockspace(ctx, d, 0, leases.Geometry512, "space", time.Second); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"res", "other"} {
		if err := leases.InitResource(ctx, d, int64(1+i)*mib, leases.Geometry512, "space", name, 250); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func openLUN(t testing.TB, path string) blockdev.Device {
	t.Helper()
	d, err := blockdev.Open(testutil.Deadline(t), path, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func specs(lun string, host int) (LockspaceSpec, ResourceSpec) {
	return LockspaceSpec{Name: "space", Device: lun, HostID: host, HostName: fmt.Sprintf("host-%d", host), Profile: leases.Dev},
		ResourceSpec{Lockspace: "space", Name: "res", Device: lun, Offset: mib}
}

func start(t testing.TB) *Client {
	t.Helper()
	c, err := Start(testutil.Deadline(t), testConfig(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(testutil.Deadline(t)); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// joined starts a keeper and joins.
func joined(t testing.TB, lun string, host int) *Client {
	t.Helper()
	c := start(t)
	ls, _ := specs(lun, host)
	if _, err := c.Join(testutil.Deadline(t), ls); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKeeper_holdsAndGivesBack(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	var a, b *Client
	var wg sync.WaitGroup
	a, b = start(t), start(t)
	lsA, res := specs(lun, 1)
	lsB, _ := specs(lun, 2)
	wg.Go(func() {
		if _, err := b.Join(ctx, lsB); err != nil {
			t.Error(err)
		}
	})
	if gen, err := a.Join(ctx, lsA); err != nil || gen != 1 {
		t.Fatalf("generation %d, %v", gen, err)
	}
	wg.Wait()
	if a.Guard("space", "res").Check(0) == nil {
		t.Error("guard of a lease never taken says yes")
	}
	v, err := a.Acquire(ctx, res)
	if err != nil || v != 1 {
		t.Fatalf("version %d, %v", v, err)
	}
	if again, err := a.Acquire(ctx, res); err != nil || again != v {
		t.Errorf("acquired again: %d, %v", again, err)
	}
	g := a.Guard("space", "res")
	if err := g.Check(time.Second); err != nil || g.Epoch() != 1 {
		t.Errorf("guard: %v, epoch %d", err, g.Epoch())
	}
	if err := g.Check(time.Hour); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("guard for an hour: %v", err)
	}
	checkHeld(t, b, res)
	if err := a.Leave(ctx, "space"); !errors.Is(err, leases.ErrLeasesHeld) {
		t.Errorf("leave with a lease held: %v", err)
	}
	if err := a.Release(ctx, res); err != nil {
		t.Fatal(err)
	}
	if g.Check(0) == nil {
		t.Error("guard survives the release")
	}
	if v, err := b.Acquire(ctx, res); err != nil || v != 2 {
		t.Fatalf("b: version %d, %v", v, err)
	}
}

// checkHeld wants b to be refused with the holder's name, and to see it on inspection.
func checkHeld(t *testing.T, b *Client, res ResourceSpec) {
	t.Helper()
	ctx := testutil.Deadline(t)
	info, err := b.Inspect(ctx, res)
	if err != nil || info.State != leases.ResourceExclusive || info.Owner != 1 || info.Generation != 1 || info.Version != 1 {
		t.Errorf("inspect: %+v, %v", info, err)
	}
	nowait := res
	nowait.NoWait = true
	_, err = b.Acquire(ctx, nowait)
	var held *leases.HeldError
	if !errors.Is(err, leases.ErrHeld) || !errors.As(err, &held) || held.HostID != 1 || held.HostName != "host-1" {
		t.Errorf("acquire of a held lease: %v", err)
	}
	if hosts, err := b.Hosts(ctx, "space"); err != nil || len(hosts) != 2 {
		t.Errorf("hosts: %+v, %v", hosts, err)
	}
	if err := b.Release(ctx, res); !errors.Is(err, leases.ErrNotHeld) {
		t.Errorf("release of what is not held: %v", err)
	}
	if _, err := b.Inspect(ctx, ResourceSpec{Lockspace: "no", Name: "res", Device: res.Device}); !errors.Is(err, ErrNotJoined) {
		t.Errorf("inspect without lockspace: %v", err)
	}
}

// agent is a process that holds the lease.
type agent struct {
	cmd    *exec.Cmd
	keeper int
}

func startAgent(t *testing.T, dir, lun string, env ...string) *agent {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), envRole+"=agent", "AGENT_DIR="+dir, "AGENT_LUN="+lun), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := &agent{cmd: cmd}
	var gen, version int
	if _, err := fmt.Fscan(out, &a.keeper, &gen, &version); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return a
}

// TestKeeper_agentKilled: the lease is free a few milliseconds after SIGKILL of the agent, and the keeper ends.
func TestKeeper_agentKilled(t *testing.T) {
	t.Parallel()
	lun, dir := newLUN(t), t.TempDir()
	a := startAgent(t, dir, lun)
	d := openLUN(t, lun)
	ctx := testutil.Deadline(t)
	begin := time.Now()
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		info, err := leases.ReadLeader(ctx, d, mib, "space", "res")
		if err != nil {
			t.Fatal(err)
		}
		if info.Timestamp == 0 {
			break
		}
	}
	t.Logf("lease free %v after the kill", time.Since(begin))
	_ = a.cmd.Wait()
	testutil.Retry(t, 10*time.Second, func() error {
		if err := syscall.Kill(a.keeper, 0); !errors.Is(err, syscall.ESRCH) && !zombie(a.keeper) {
			return fmt.Errorf("keeper %d still runs: %v", a.keeper, err)
		}
		return nil
	})
	// It left the lockspace too, so the next one joins the same id as a free one.
	c, err := Start(ctx, testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	ls, res := specs(lun, 1)
	if gen, err := c.Join(ctx, ls); err != nil || gen != 2 {
		t.Errorf("generation %d, %v", gen, err)
	}
	if v, err := c.Acquire(ctx, res); err != nil || v != 2 {
		t.Errorf("version %d, %v", v, err)
	}
	if err := c.Close(ctx); err != nil {
		t.Error(err)
	}
}

// zombie: an orphan's parent may be a process that does not reap.
func zombie(pid int) bool {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z")
}

// TestKeeper_killed: without its keeper every guard of the agent says no, and another host can free the dead one.
func TestKeeper_killed(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	a, b := joined(t, lun, 1), joined(t, lun, 2)
	_, res := specs(lun, 1)
	if _, err := a.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	g := a.Guard("space", "res")
	shared := a.page // what a guard sees that was not told of the death
	told := g.(*guard).g
	if err := syscall.Kill(a.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-a.Done()
	if err := g.Check(0); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("guard: %v", err)
	}
	if _, err := a.Hosts(ctx, "space"); !errors.Is(err, ErrGone) {
		t.Errorf("call: %v", err)
	}
	if err := b.FreeHost(ctx, "space", 1, 7); !errors.Is(err, leases.ErrChanged) {
		t.Errorf("freeing another generation: %v", err)
	}
	if err := b.FreeHost(ctx, "space", 1, 1); err != nil {
		t.Errorf("freeing the dead host: %v", err)
	}
	if v, err := b.Acquire(ctx, res); err != nil || v != 2 {
		t.Errorf("after the proof: version %d, %v", v, err)
	}
	untold := &guard{page: shared, clock: a.clock, g: &grant{resource: told.resource, lockspace: told.lockspace, version: told.version, generation: told.generation, join: told.join,
		state: told.state, name: told.name}, name: "untold"}
	testutil.Retry(t, 20*time.Second, func() error {
		if untold.Check(0) == nil {
			return errors.New("still good")
		}
		return nil
	})
}

// TestKeeper_JoinGuarded: the guard of a lockspace says yes while the host id is held and no after a leave and a death.
func TestKeeper_JoinGuarded(t *testing.T) {
	t.Parallel()
	ctx := testutil.Deadline(t)
	lun := newLUN(t)
	c := start(t)
	ls, _ := specs(lun, 1)
	first, err := c.JoinGuarded(ctx, ls)
	if err != nil || first.Check(time.Second) != nil || first.Epoch() != 1 {
		t.Fatalf("%v, %v", first, err)
	}
	if err := first.Check(time.Hour); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("good for an hour: %v", err)
	}
	if err := c.Leave(ctx, "space"); err != nil {
		t.Fatal(err)
	}
	second, err := c.JoinGuarded(ctx, ls)
	if err != nil || second.Check(0) != nil {
		t.Fatalf("joined again: %v", err)
	}
	if err := first.Check(0); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("the guard of an earlier join: %v", err)
	}
	if err := c.Leave(ctx, "space"); err != nil {
		t.Fatal(err)
	}
	ls.HostID = 2 // its generation is 1 too, and the slot the same
	third, err := c.JoinGuarded(ctx, ls)
	if err != nil || third.Epoch() != first.Epoch() || third.Check(0) != nil {
		t.Fatalf("joined as another host: %v", err)
	}
	if err := first.Check(0); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("the guard of an earlier join with the same generation: %v", err)
	}
	second = third
	if err := syscall.Kill(c.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := second.Check(0); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("without a keeper: %v", err)
	}
}

// TestKeeper_sigterm: an orderly end while the agent lives: its guards fail at once, and the lease is freed when it gives
// it back. Until then a write of its may be on the way.
func TestKeeper_sigterm(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	a := joined(t, lun, 1)
	_, res := specs(lun, 1)
	if _, err := a.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	g := a.Guard("space", "res")
	if err := syscall.Kill(a.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, time.Second, func() error {
		if g.Check(0) == nil {
			return errors.New("guard still says yes")
		}
		return nil
	})
	lease := func() uint64 {
		info, err := leases.ReadLeader(ctx, openLUN(t, lun), mib, "space", "res")
		if err != nil {
			t.Error(err)
		}
		return info.Timestamp
	}
	select {
	case <-a.Done():
		t.Error("the keeper did not wait for its agent")
	case <-time.After(leases.Dev.IOTimeout * 3 / 2):
	}
	if lease() == 0 {
		t.Error("freed although the agent may be writing")
	}
	if err := a.Release(ctx, res); err != nil {
		t.Error(err)
	}
	<-a.Done()
	if lease() != 0 {
		t.Error("still held")
	}
}

// TestServer_agentHolds: a keeper that ends waits for leases that are on their way off the disk too.
func TestServer_agentHolds(t *testing.T) {
	t.Parallel()
	agents, other := &holding{}, &holding{tied: &tied{}}
	for want, sp := range map[bool]*space{
		true:  {freeing: map[*holding]bool{agents: true}},
		false: {held: map[string]*holding{"a": other}, freeing: map[*holding]bool{other: true}},
	} {
		s := &server{spaces: map[string]*space{"space": sp}}
		if got := s.agentHolds(); got != want {
			t.Errorf("%+v: %v", sp, got)
		}
	}
}

// TestKeeper_sigtermDeafAgent: an agent that does not give its leases back when the keeper is told to end is ended, and
// then they are free.
func TestKeeper_sigtermDeafAgent(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	a := startAgent(t, t.TempDir(), lun)
	d := openLUN(t, lun)
	begin := time.Now()
	if err := syscall.Kill(a.keeper, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, 20*time.Second, func() error {
		info, err := leases.ReadLeader(testutil.Deadline(t), d, mib, "space", "res")
		if err == nil && info.Timestamp != 0 {
			return errors.New("still held")
		}
		return err
	})
	if took := time.Since(begin); took < leases.Dev.Expiry() {
		t.Errorf("free after %v although the agent lived", took)
	}
	if err := a.cmd.Wait(); err == nil {
		t.Error("the agent was not ended")
	}
}

// TestKeeper_brokenClient: garbage on the socket costs the connection, not the leases.
func TestKeeper_brokenClient(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	a := joined(t, lun, 1)
	_, res := specs(lun, 1)
	if _, err := a.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	if _, err := a.call(ctx, &request{Method: "nonsense"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown method: %v", err)
	}
	for _, m := range []string{methodJoin, methodAcquire, methodRelease, methodInspect, methodLeave, methodHosts, methodFreeHost} {
		if _, err := a.call(ctx, &request{Method: m}); err == nil {
			t.Errorf("empty %s accepted", m)
		}
	}
	a.writing.Lock()
	_, _ = a.conn.Write([]byte("\xff\xff\xff\xffgarbage"))
	a.writing.Unlock()
	g := a.Guard("space", "res")
	begin := time.Now()
	testutil.Retry(t, 10*time.Second, func() error {
		if err := g.Check(0); err != nil {
			t.Fatalf("lease gone after %v: %v", time.Since(begin), err)
		}
		if time.Since(begin) < leases.Dev.RenewalPeriod()+500*time.Millisecond {
			return errors.New("wait for a renewal")
		}
		return nil
	})
	if err := syscall.Kill(a.PID(), syscall.SIGKILL); err != nil { // in order it would end only with its agent
		t.Fatal(err)
	}
	<-a.Done()
}

// TestKeeper_sameDir: the second keeper waits for the first, and gives up when that stays.
func TestKeeper_sameDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx := testutil.Deadline(t)
	first, err := Start(ctx, testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(dir)
	cfg.LockWait = 100 * time.Millisecond
	if _, err := Start(ctx, cfg); !errors.Is(err, ErrGone) {
		t.Errorf("second keeper: %v", err)
	}
	cfg.LockWait = 20 * time.Second
	var wg sync.WaitGroup
	wg.Go(func() {
		second, err := Start(ctx, cfg)
		if err != nil {
			t.Error(err)
			return
		}
		if err := second.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := first.Close(ctx); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// TestKeeper_memory reports the keeper's resident memory with a lockspace and a lease.
func TestKeeper_memory(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	a := joined(t, lun, 1)
	_, res := specs(lun, 1)
	if _, err := a.Acquire(testutil.Deadline(t), res); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmLck") {
			t.Log(line)
		}
	}
}

// BenchmarkAcquireRelease is the whole way from the agent through the keeper to a file and back.
func BenchmarkAcquireRelease(b *testing.B) {
	lun := newLUN(b)
	c := joined(b, lun, 1)
	_, res := specs(lun, 1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for b.Loop() {
		if _, err := c.Acquire(ctx, res); err != nil {
			b.Fatal(err)
		}
		if err := c.Release(ctx, res); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGuard is what every guarded write pays.
func BenchmarkGuard(b *testing.B) {
	lun := newLUN(b)
	c := joined(b, lun, 1)
	_, res := specs(lun, 1)
	if _, err := c.Acquire(testutil.Deadline(b), res); err != nil {
		b.Fatal(err)
	}
	g := c.Guard("space", "res")
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Check(time.Second); err != nil {
			b.Fatal(err)
		}
	}
}

// nbdLUN serves a LUN until the test ends, again after each call of stop.
func nbdLUN(t *testing.T, lun string) (uri string, serve, stop func()) {
	t.Helper()
	testutil.NeedTool(t, "nbdkit")
	sock := filepath.Join(t.TempDir(), "nbd.sock")
	var server *exec.Cmd
	serve = func() {
		server = exec.Command("nbdkit", "--foreground", "--unix", sock, "file", lun)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		testutil.Retry(t, 10*time.Second, func() error { _, err := os.Stat(sock); return err })
	}
	stop = func() {
		_ = server.Process.Kill()
		_ = server.Wait() // killed
		_ = os.Remove(sock)
	}
	serve()
	t.Cleanup(func() { stop() })
	return "nbd+unix:///?socket=" + sock, serve, stop
}

// TestKeeper_gone: a LUN that was gone for a moment, and was asked for meanwhile, is there again for the lease that was held, and for
// all that the lockspace does.
func TestKeeper_gone(t *testing.T) {
	t.Parallel()
	uri, serve, stop := nbdLUN(t, newLUN(t))
	c := joined(t, uri, 1)
	_, res := specs(uri, 1)
	if _, err := c.Acquire(testutil.Deadline(t), res); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := c.Inspect(testutil.Deadline(t), res); !errors.Is(err, blockdev.ErrGone) {
		t.Errorf("without the LUN: %v", err)
	}
	serve()
	testutil.Retry(t, 5*time.Second, func() error { _, err := c.Inspect(testutil.Deadline(t), res); return err })
	if err := c.Release(testutil.Deadline(t), res); err != nil {
		t.Errorf("release: %v", err)
	}
	if _, err := c.ReadHost(testutil.Deadline(t), "space", 1); err != nil {
		t.Errorf("the lockspace: %v", err)
	}
	if _, err := c.Acquire(testutil.Deadline(t), res); err != nil {
		t.Errorf("acquire: %v", err)
	}
}

// TestKeeper_agentKilled_nbd: what the agent sent to a server may still be carried out, so the lease stays for N.
func TestKeeper_agentKilled_nbd(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	uri, _, _ := nbdLUN(t, lun)
	a := startAgent(t, t.TempDir(), uri)
	d := openLUN(t, lun)
	begin := time.Now()
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, 20*time.Second, func() error {
		info, err := leases.ReadLeader(testutil.Deadline(t), d, mib, "space", "res")
		if err == nil && info.Timestamp != 0 {
			return errors.New("still held")
		}
		return err
	})
	if took := time.Since(begin); took < leases.Dev.IOTimeout {
		t.Errorf("free after %v, before the I/O deadline", took)
	}
}

// TestServer_halt: a request that comes while the keeper ends begins no call that the end does not wait for.
func TestServer_halt(t *testing.T) {
	t.Parallel()
	s := newServer(quiet(), nil, nil, nil)
	gate, over := make(chan struct{}), make(chan struct{})
	if !s.begin(1, func() {}, func() { <-gate }) {
		t.Fatal("no call may begin")
	}
	go func() { s.halt(); close(over) }()
	<-s.base.Done()
	if s.begin(2, func() {}, func() { t.Error("a call began") }) {
		t.Error("a call may begin")
	}
	select {
	case <-over:
		t.Error("it did not wait for the call")
	default:
	}
	close(gate)
	<-over
}
