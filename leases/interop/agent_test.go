package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// keeperConfig starts this binary as the keeper.
func keeperConfig(dir string) keeper.Config {
	return keeper.Config{Args: []string{}, Env: []string{envRole + "=keeper"}, Dir: dir, Log: quiet()}
}

// keeperSpecs are lockspace and resource i for a keeper that is host id.
func (l *lun) keeperSpecs(id int, n time.Duration, i int) (keeper.LockspaceSpec, keeper.ResourceSpec) {
	return keeper.LockspaceSpec{Name: space, Device: l.path, Geometry: l.geo, HostID: id, HostName: fmt.Sprintf("ours-%d", id), Profile: profile(n)},
		keeper.ResourceSpec{Lockspace: space, Name: resName(i), Device: l.path, Offset: l.offset(i), NoWait: true}
}

// agent is a process with a keeper of its own that counts under the lease of resource 1, until it is killed or its
// input ends.
type agent struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	done   chan struct{}
	keeper atomic.Int64 // its process id, 0 until the agent has told
}

// startAgent runs an agent as host id; line gets what it reports.
func startAgent(t testing.TB, l *lun, id, slot int, hold time.Duration, line func(string)) *agent {
	t.Helper()
	a := &agent{cmd: exec.Command(os.Args[0]), done: make(chan struct{})}
	dir := fmt.Sprintf("%s/agent%d", l.dir, id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a.cmd.Env = append(os.Environ(), envRole+"=agent", "INTEROP_LUN="+l.path, "INTEROP_DIR="+dir, "INTEROP_HOST="+strconv.Itoa(id),
		"INTEROP_SLOT="+strconv.Itoa(slot), "INTEROP_HOLD="+hold.String())
	a.cmd.Stderr = os.Stderr
	var err error
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.done)
		for s := bufio.NewScanner(out); s.Scan(); {
			var pid int64
			if _, err := fmt.Sscanf(s.Text(), "k %d", &pid); err == nil {
				a.keeper.Store(pid)
				continue
			}
			line(s.Text())
		}
		_ = a.cmd.Wait()
	}()
	return a
}

func (a *agent) kill() {
	_ = a.cmd.Process.Kill()
	<-a.done
}

// killHost ends agent and keeper so that the keeper cannot free anything.
func (a *agent) killHost() {
	if pid := int(a.keeper.Load()); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	}
	a.kill()
}

// stop lets it give everything back.
func (a *agent) stop() {
	_ = a.in.Close()
	<-a.done
}

// agentMain is the agent's process.
func agentMain() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	id, err1 := strconv.Atoi(os.Getenv("INTEROP_HOST"))
	slot, err2 := strconv.Atoi(os.Getenv("INTEROP_SLOT"))
	hold, err3 := time.ParseDuration(os.Getenv("INTEROP_HOLD"))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	return count(ctx, os.Getenv("INTEROP_LUN"), os.Getenv("INTEROP_DIR"), id, slot, hold)
}

// count starts a keeper, joins, and counts until the context ends.
func count(ctx context.Context, path, dir string, id, slot int, hold time.Duration) error {
	start, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l := &lun{path: path, geo: defaultGeometry}
	dev, err := blockdev.Open(start, path, blockdev.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	k, err := keeper.Start(start, keeperConfig(dir))
	if err != nil {
		return err
	}
	fmt.Println("k", k.PID())
	ls, res := l.keeperSpecs(id, contentionN, 1)
	if _, err := k.Join(start, ls); err != nil {
		return err
	}
	w := &worker{dev: dev, off: l.counter(), slot: slot, hold: hold, say: func(s string) { fmt.Println(s) }, grab: keeperGrab(k, res)}
	w.run(ctx)
	end, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return k.Close(end)
}

// keeperGrab takes res from a keeper.
func keeperGrab(k *keeper.Client, res keeper.ResourceSpec) grab {
	return func(ctx context.Context) (uint64, func(time.Duration) error, func(context.Context) error, error) {
		v, err := k.Acquire(ctx, res)
		if err != nil {
			return 0, nil, nil, err
		}
		return v, k.Guard(res.Lockspace, res.Name).Check, func(ctx context.Context) error { return k.Release(ctx, res) }, nil
	}
}
