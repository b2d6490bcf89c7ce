package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// TestE2E_leaseExec: a command runs under a lease, ends with it, and the lease with the command.
func TestE2E_leaseExec(t *testing.T) {
	p := startPool(t)
	hosts := p.file().Hosts
	id := uuid.NewString()
	on := func(host int, args ...string) []string {
		return append([]string{"lease", "--address", hosts[host].HTTP}, args...)
	}
	if status, _, stderr := cli(t, on(0, "create", id)...); status != 0 {
		t.Fatal(stderr)
	}
	for want, command := range map[int][]string{7: {"sh", "-c", "exit 7"}, 128 + 9: {"sh", "-c", "kill -9 $$"}, exitNoSuchThing: {"/no/such/thing"}, 0: {"true"}} {
		if status, _, stderr := cli(t, on(0, append([]string{"acquire", id, "--exec"}, command...)...)...); status != want {
			t.Errorf("%v: status %d, want %d: %s", command, status, want, stderr)
		}
	}
	held := startExec(t, filepath.Join(p.dir, "child1"), on(1, "acquire", id, "--exec")...)
	status, _, stderr := cli(t, on(2, "acquire", id, "--exec", "true")...)
	if status != exitNotRun || !strings.Contains(stderr, hosts[1].Name) {
		t.Errorf("a lease that host %s has: status %d, %s", hosts[1].Name, status, stderr)
	}
	if status, _, stderr := cli(t, on(1, "acquire", id, "--vm", "vm1")...); status != exitFailed || !strings.Contains(stderr, "busy") {
		t.Errorf("on the same host for a VM: status %d, %s", status, stderr)
	}
	waiter := startExec(t, filepath.Join(p.dir, "child2"), on(2, "acquire", id, "--wait", "30s", "--exec")...)
	_ = waiter.cmd // it waits for the first to be killed
	killed := time.Now()
	_ = held.cmd.Process.Kill()
	awaitGone(t, held.child(t))
	t.Logf("the child is gone %v after its parent", time.Since(killed))
	child := waiter.child(t)
	t.Logf("the waiting host has the lease %v after the kill", time.Since(killed))
	// The agent that holds the lease dies: its keeper stops the command before it frees the lease.
	if err := p.killAgent(hosts[2].Name); err != nil {
		t.Fatal(err)
	}
	if err := waiter.cmd.Wait(); waiter.cmd.ProcessState.ExitCode() != exitLeaseLost {
		t.Errorf("the lease was lost: %v, %s", err, waiter.stderr)
	}
	awaitGone(t, child)
	if status, _, stderr := cli(t, on(0, "acquire", id, "--vm", "vm1", "--wait", "20s")...); status != 0 {
		t.Errorf("after the agent's death: %s", stderr)
	}
	if status, _, stderr := cli(t, on(0, "release", id, "--vm", "vm2")...); status != exitFailed {
		t.Errorf("released for another VM: status %d, %s", status, stderr)
	}
	if status, _, stderr := cli(t, on(0, "release", id, "--vm", "vm1")...); status != 0 {
		t.Errorf("release: %s", stderr)
	}
	if hs, _, err := p.client(1).Hosts(deadline(t, 10*time.Second), client.Read{}); err != nil || hs[0].Watchdog != api.WatchdogNone || !hs[0].Unprotected {
		t.Errorf("a host without a watchdog: %+v, %v", hs, err)
	}
	l, err := p.client(1).Lease(deadline(t, 10*time.Second), p.file().Domain, id)
	if err != nil || l.Status != api.LeaseFree {
		t.Errorf("in the end: %+v, %v", l, err)
	}
}

// execRun is a lease acquire --exec whose command writes its number into a file and sleeps.
type execRun struct {
	cmd    *exec.Cmd
	file   string
	stderr *bytes.Buffer
}

func startExec(t *testing.T, file string, args ...string) *execRun {
	t.Helper()
	r := &execRun{cmd: program(append(args, "sh", "-c", "echo $$ >"+file+"; exec sleep 300")...), file: file, stderr: &bytes.Buffer{}}
	r.cmd.Stderr = r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); _ = r.cmd.Wait() })
	if !strings.Contains(fmt.Sprint(args), "--wait") {
		r.child(t)
	}
	return r
}

// child waits for the command to run.
func (r *execRun) child(t *testing.T) (pid int) {
	t.Helper()
	err := poll(deadline(t, 30*time.Second), "the command runs", func() error {
		b, err := os.ReadFile(r.file)
		if err != nil {
			return err
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err
	})
	if err != nil {
		t.Fatalf("%v: %s", err, r.stderr)
	}
	return pid
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	err := poll(deadline(t, 10*time.Second), "the child is gone", func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return nil
		}
		return errors.New("it still runs")
	})
	if err != nil {
		t.Error(err)
	}
}

func TestProtectExec(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"lease acquire ID --exec sh -c x":                "lease acquire ID --exec -- sh -c x",
		"--address u lease acquire --exec ID":            "--address u lease acquire --exec -- ID",
		"lease acquire ID --exec -- sh -c --exec":        "lease acquire ID --exec -- sh -c --exec",
		"lease acquire ID --exec sh --exec":              "lease acquire ID --exec -- sh --exec",
		"lease acquire ID --exec":                        "lease acquire ID --exec",
		"volume create --exec x":                         "volume create --exec x",
		"lease exec-child -- lease acquire ID --exec sh": "lease exec-child -- lease acquire ID --exec sh",
	} {
		if got := strings.Join(protectExec(strings.Fields(in)), " "); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}
