package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/procs"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// agentScript is a shell script in an agent's place: it starts a "keeper" in a session of its own, as one that must
// outlive the agent does, and ends in order on SIGTERM.
const agentScript = `
setsid sh -c 'exec sleep 100' keeper >/dev/null 2>&1 &
k=$!
echo $k > "$1/keeper.pid"
echo $$ >> "$1/agents"
trap 'kill $k; echo stopped >> "$1/stops"; exit 0' TERM
while :; do sleep 0.02; done
`

// runHost runs a devHost around the fake agent until the test ends or stop is called.
func runHost(t *testing.T) (h *devHost, dir string, stop func()) {
	t.Helper()
	dir = t.TempDir()
	spawn, err := procs.NewSpawner()
	if err != nil {
		t.Fatal(err)
	}
	command := func() *exec.Cmd { return exec.Command("/bin/sh", "-c", agentScript, "agent", dir) }
	var changes atomic.Int32
	h = newDevHost("h1", dir, spawn, command, func() { changes.Add(1) }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		spawn.Close()
		if changes.Load() < 2 {
			t.Errorf("told of %d changes of pids, want at least start and exit", changes.Load())
		}
	}
	t.Cleanup(stop)
	return h, dir, stop
}

// awaitAgents waits until the script has been started n times and its keeper runs.
func awaitAgents(t *testing.T, h *devHost, dir string, n int) {
	t.Helper()
	testutil.Retry(t, 20*time.Second, func() error {
		b, err := os.ReadFile(filepath.Join(dir, "agents"))
		if err != nil {
			return err
		}
		if got := strings.Count(string(b), "\n"); got != n {
			return errors.New("started " + strconv.Itoa(got) + " times")
		}
		pids, err := h.family()
		if err == nil && len(pids) < 2 {
			err = errors.New("keeper not seen yet")
		}
		return err
	})
}

func TestDevHost_offIsProof(t *testing.T) {
	t.Parallel()
	h, dir, _ := runHost(t)
	awaitAgents(t, h, dir, 1)
	if st, err := h.Status(); err != nil || st != fencing.On {
		t.Fatalf("status %v, %v", st, err)
	}
	ev, err := h.Off(testutil.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if ev.Kind != fencing.KindProcessExit || !strings.Contains(ev.Detail, "pid") {
		t.Errorf("evidence %+v", ev)
	}
	if st, err := h.Status(); err != nil || st != fencing.Off {
		t.Fatalf("status after off: %v, %v", st, err)
	}
	if _, err := h.Off(testutil.Deadline(t)); err != nil {
		t.Errorf("off of a host that is off: %v", err)
	}
	h.On()
	awaitAgents(t, h, dir, 2)
}

func TestDevHost_restartsAfterCrash(t *testing.T) {
	t.Parallel()
	h, dir, _ := runHost(t)
	awaitAgents(t, h, dir, 1)
	if err := procs.Kill(testutil.Deadline(t), keeperOf(t, h)); err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(h.agentPID())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitAgents(t, h, dir, 2)
	if d := time.Since(start); d < restartDelay {
		t.Errorf("restarted after %v, want no earlier than %v", d, restartDelay)
	}
}

// keeperOf is the process of the family that is not the agent.
func keeperOf(t *testing.T, h *devHost) int {
	t.Helper()
	pids, err := h.family()
	if err != nil {
		t.Fatal(err)
	}
	return h.agentLast(pids)[0]
}

func TestDevHost_stopsInOrder(t *testing.T) {
	t.Parallel()
	h, dir, stop := runHost(t)
	awaitAgents(t, h, dir, 1)
	stop()
	if _, err := os.Stat(filepath.Join(dir, "stops")); err != nil {
		t.Errorf("the agent was not asked to stop: %v", err)
	}
	if pids, err := h.family(); err != nil || len(pids) > 0 {
		t.Errorf("left over: %v, %v", pids, err)
	}
}

func TestDevState_secondStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := loadDevState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.settle(devOptions{DataDir: dir, Hosts: 3, Profile: "dev"}); err != nil {
		t.Fatal(err)
	}
	if err := st.save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := loadDevState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.settle(devOptions{DataDir: dir, Hosts: 4}); err != nil {
		t.Fatal(err)
	}
	if len(again.Hosts) != 4 || again.Hosts[0] != st.Hosts[0] || len(again.ports()) != 12 {
		t.Errorf("second start has %+v, first had %+v", again.Hosts, st.Hosts)
	}
	if err := again.settle(devOptions{DataDir: dir, Hosts: 2}); !errors.Is(err, errDevHosts) {
		t.Errorf("a smaller pool: %v", err)
	}
	if err := again.settle(devOptions{DataDir: dir, Hosts: 4, Profile: "fast"}); err == nil {
		t.Error("another profile was taken")
	}
}

func TestMakeLUN_keepsContent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lun")
	if made, err := makeLUN(path, 1<<30); err != nil || !made {
		t.Fatal(made, err)
	}
	if made, err := makeLUN(path, 2<<30); err != nil || made {
		t.Fatal(made, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() != 1<<30 {
		t.Errorf("size %v, %v", fi.Size(), err)
	}
}

// A dev pool may get further domains on files beside its LUN, and on nothing else of the machine.
func TestDevAgentConfig_devices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	raw, err := devAgentConfig(dir, devState{LUN: filepath.Join(dir, "lun.img"), Profile: "dev"},
		devMember{Name: "h1", Cluster: 1, Gossip: 2, HTTP: 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{filepath.Join(dir, "lun.img"), filepath.Join(dir, "*.img"), "nbd+unix:///lun?socket=" + filepath.Join(dir, "lun.nbd")} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the allow-list lacks %s", want)
		}
	}
}
