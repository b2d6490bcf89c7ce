package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// child is a process that a lease can be tied to.
type child struct {
	cmd   *exec.Cmd
	ended chan error
}

func startChild(t *testing.T, script string) *child {
	t.Helper()
	c := &child{cmd: exec.Command("sh", "-c", script), ended: make(chan error, 1)}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var word string
	if _, err := fmt.Fscan(out, &word); err != nil { // its traps are set
		t.Fatal(err)
	}
	go func() { c.ended <- c.cmd.Wait() }()
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	return c
}

const (
	obeys    = `echo ready; exec sleep 60`
	stubborn = `trap "" TERM; echo ready; while :; do sleep 0.2; done`
)

func (c *child) process(t *testing.T) Process {
	t.Helper()
	at, err := StartTime(c.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return Process{PID: c.cmd.Process.Pid, StartTime: at}
}

// signalled waits for the end and says by which signal.
func (c *child) signalled(t *testing.T) syscall.Signal {
	t.Helper()
	select {
	case <-c.ended:
		c.ended <- nil
		return c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
	case <-time.After(30 * time.Second):
		t.Fatal("the process still runs")
		return 0
	}
}

// freeAfter is how long it takes until the lease is free on disk.
func freeAfter(t *testing.T, lun string) time.Duration {
	t.Helper()
	d, begin := openLUN(t, lun), time.Now()
	testutil.Retry(t, 20*time.Second, func() error {
		info, err := leases.ReadLeader(testutil.Deadline(t), d, mib, "space", "res")
		if err == nil && info.Timestamp != 0 {
			return errors.New("still held")
		}
		return err
	})
	return time.Since(begin)
}

// TestHolder_killed: kill -9 of the holder frees its lease, and takes along what came with it.
func TestHolder_killed(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	c := joined(t, lun, 1)
	holder, other := startChild(t, obeys), startChild(t, stubborn)
	_, res := specs(lun, 1)
	res.Holder = &Holder{Name: "vm", Processes: []Process{holder.process(t)}, Kill: true}
	v, err := c.Acquire(ctx, res)
	if err != nil {
		t.Fatal(err)
	}
	more := res
	more.Holder = &Holder{Processes: []Process{holder.process(t), other.process(t)}}
	if again, err := c.Acquire(ctx, more); err != nil || again != v {
		t.Fatalf("a further process: version %d, %v", again, err)
	}
	_ = holder.cmd.Process.Kill()
	if took := freeAfter(t, lun); took > 300*time.Millisecond {
		t.Errorf("free after %v", took)
	} else {
		t.Logf("free after %v", took)
	}
	if sig := other.signalled(t); sig != syscall.SIGKILL {
		t.Errorf("the other ended by %v", sig)
	}
	res.Holder = nil
	testutil.Retry(t, 10*time.Second, func() error { // free on disk is a moment before free here
		again, err := c.Acquire(ctx, res)
		if err == nil && again != v+1 {
			t.Errorf("afterwards: version %d", again)
		}
		return err
	})
}

func TestHolder_refusals(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	c := joined(t, lun, 1)
	a, b := startChild(t, obeys), startChild(t, obeys)
	_, res := specs(lun, 1)
	with := func(h *Holder) ResourceSpec { r := res; r.Holder = h; return r }
	reused := a.process(t)
	reused.StartTime++
	for name, h := range map[string]*Holder{
		"nobody": {}, "init": {Processes: []Process{{PID: 1}}}, "many": {Processes: make([]Process, maxProcesses+1)},
	} {
		if _, err := c.Acquire(ctx, with(h)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Acquire(ctx, with(&Holder{Processes: []Process{reused}})); !errors.Is(err, ErrProcess) {
		t.Errorf("a number that was given out again: %v", err)
	}
	if _, err := c.Acquire(ctx, with(&Holder{Processes: []Process{a.process(t)}})); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]*Holder{"the agent": nil, "a vm": {Name: "vm"}, "b": {Processes: []Process{b.process(t)}}} {
		if _, err := c.Acquire(ctx, with(h)); !errors.Is(err, leases.ErrHeldHere) {
			t.Errorf("%s acquires it too: %v", name, err)
		}
	}
	if err := c.Release(ctx, with(&Holder{Name: "vm"})); !errors.Is(err, leases.ErrHeldHere) {
		t.Errorf("another holder releases it: %v", err)
	}
	if err := c.Release(ctx, with(&Holder{Processes: []Process{a.process(t)}})); err != nil {
		t.Errorf("the holder releases it: %v", err)
	}
	if _, err := c.Acquire(ctx, with(&Holder{Name: "vm"})); err != nil {
		t.Errorf("the agent for a vm: %v", err)
	}
	if err := c.Release(ctx, with(&Holder{Name: "other"})); !errors.Is(err, leases.ErrHeldHere) {
		t.Errorf("released for another vm: %v", err)
	}
}

// TestHolder_agentEnds: at the end of the agent what is tied to it must end too, and only then is its lease free.
func TestHolder_agentEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		script string
		by     syscall.Signal
	}{"obeys": {obeys, syscall.SIGTERM}, "stubborn": {stubborn, syscall.SIGKILL}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lun := newLUN(t)
			ctx := testutil.Deadline(t)
			c, err := Start(ctx, testConfig(t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			ls, res := specs(lun, 1)
			if _, err := c.Join(ctx, ls); err != nil {
				t.Fatal(err)
			}
			p := startChild(t, tc.script)
			res.Holder = &Holder{Processes: []Process{p.process(t)}, Kill: true}
			if _, err := c.Acquire(ctx, res); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
			if sig := p.signalled(t); sig != tc.by {
				t.Errorf("ended by %v", sig)
			}
			freeAfter(t, lun)
		})
	}
}

// TestHolder_storageLost: when the device is gone for 8N, the agent is told, confirms, and stays; the process gets
// SIGTERM, and nothing is released on disk.
func TestHolder_storageLost(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "nbdkit")
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	sock := filepath.Join(t.TempDir(), "nbd.sock")
	server := exec.Command("nbdkit", "--foreground", "--unix", sock, "file", lun)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	testutil.Retry(t, 10*time.Second, func() error { _, err := os.Stat(sock); return err })
	lost := make(chan Loss, 1)
	cfg := testConfig(t.TempDir())
	cfg.OnLost = func(l Loss) { lost <- l }
	c, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(testutil.Deadline(t)) })
	ls, res := specs("nbd+unix:///?socket="+sock, 1)
	if _, err := c.Join(ctx, ls); err != nil {
		t.Fatal(err)
	}
	agents := res
	agents.Name, agents.Offset = "other", 2*mib
	if _, err := c.Acquire(ctx, agents); err != nil {
		t.Fatal(err)
	}
	p := startChild(t, obeys)
	res.Holder = &Holder{Processes: []Process{p.process(t)}, Kill: true}
	if _, err := c.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	g := c.Guard("space", "other")
	_ = server.Process.Kill()
	l := <-lost
	if l.Lockspace != "space" || l.KillIn <= 0 || !errors.Is(g.Check(0), blockdev.ErrLeaseLost) {
		t.Errorf("%+v, guard %v", l, g.Check(0))
	}
	if _, err := c.Join(ctx, ls); !errors.Is(err, ErrRejoin) {
		t.Errorf("joined without confirmation: %v", err)
	}
	if err := c.Confirm(ctx, "space"); err != nil {
		t.Errorf("confirm: %v", err)
	}
	if sig := p.signalled(t); sig != syscall.SIGTERM {
		t.Errorf("ended by %v", sig)
	}
	info, err := leases.ReadLeader(ctx, openLUN(t, lun), mib, "space", "res")
	if err != nil || info.Timestamp == 0 {
		t.Errorf("released on disk after the loss: %+v, %v", info, err)
	}
}

// TestHolder_keeperStopped: a keeper that was stopped for longer than its lease finds out when it goes on, and its users
// are killed at once, since the polite time is over.
func TestHolder_keeperStopped(t *testing.T) {
	t.Parallel()
	lun := newLUN(t)
	ctx := testutil.Deadline(t)
	var told atomic.Bool
	cfg := testConfig(t.TempDir())
	cfg.OnLost = func(Loss) { told.Store(true) }
	c, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(testutil.Deadline(t)) })
	ls, res := specs(lun, 1)
	if _, err := c.Join(ctx, ls); err != nil {
		t.Fatal(err)
	}
	p := startChild(t, obeys)
	res.Holder = &Holder{Processes: []Process{p.process(t)}, Kill: true}
	if _, err := c.Acquire(ctx, res); err != nil {
		t.Fatal(err)
	}
	g := c.Guard("space", "res")
	_ = syscall.Kill(c.PID(), unix.SIGSTOP)
	begin := time.Now()
	testutil.Retry(t, 20*time.Second, func() error {
		if time.Since(begin) < leases.Dev.HostDead() {
			return errors.New("still waiting")
		}
		return nil
	})
	if err := g.Check(0); !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("guard of a stopped keeper: %v", err)
	}
	_ = syscall.Kill(c.PID(), unix.SIGCONT)
	if sig := p.signalled(t); sig != syscall.SIGKILL {
		t.Errorf("ended by %v", sig)
	}
	if told.Load() {
		t.Error("an agent without leases was told to stop")
	}
}
