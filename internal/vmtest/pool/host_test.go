//go:build vmtest

package pool

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	holdfast = "/usr/bin/holdfast"
	lun      = "/dev/vda"
	dataDir  = "/var/lib/holdfast"
	agentLog = "/var/log/agent.log"
	// patience is for whatever the program does in its own time: the machine is emulated, and shared.
	patience = 4 * time.Minute
)

// configuration is that of a pool of one host. Raft's times are long: the processor comes and goes.
const configuration = `
name: h1
data_dir: ` + dataDir + `
profile: fast
watchdog: %s
unprotected_takeover: allow
cluster: {listen: "127.0.0.1:7420"}
gossip: {listen: "127.0.0.1:7421"}
http: {listen: ""}
devices: [` + lun + `]
raft: {heartbeat: 2s, election: 2s, leader_lease: 1s, log_watchdog: 30s}
`

// poolHost is the agent of the one host.
type poolHost struct {
	t     *testing.T // the part of the test that runs
	whole *testing.T // all of it
	agent *exec.Cmd
}

// newHost starts the agent and makes a pool on the empty LUN.
func newHost(t *testing.T, watchdog string) *poolHost {
	t.Helper()
	h := &poolHost{t: t, whole: t}
	for _, dir := range []string{"/etc", dataDir, filepath.Dir(agentLog), "/run/holdfast"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("/etc/holdfast.yaml", fmt.Appendf(nil, configuration, watchdog), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(agentLog)
			t.Logf("the end of the agent's log:\n%s", b[max(0, len(b)-30000):])
		}
	})
	h.start()
	h.must(nil, "init", "--pool", "p", lun)
	h.eventually("a volume is made", func() error {
		return h.try(nil, "volume", "create", "--name", "disk", "--size", "20GiB", "--idempotency-key", "one")
	})
	return h
}

// start starts the agent, and waits for it to answer.
func (h *poolHost) start() {
	h.t.Helper()
	log, err := os.OpenFile(agentLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	h.agent = exec.Command(holdfast, "agent", "--config", "/etc/holdfast.yaml")
	h.agent.Stdout, h.agent.Stderr = log, log
	h.agent.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := h.agent.Start(); err != nil {
		h.t.Fatal(err)
	}
	agent := h.agent
	h.whole.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	h.eventually("the agent answers", func() error {
		c, err := net.DialTimeout("unix", "/run/holdfast/api.sock", time.Minute)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// kill ends the agent with no chance to do anything.
func (h *poolHost) kill() {
	h.t.Helper()
	if err := h.agent.Process.Kill(); err != nil {
		h.t.Fatal(err)
	}
	_ = h.agent.Wait()
}

// refusal is what the program says when it does not do what it was asked for.
type refusal struct {
	status int
	said   string
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.said) }

// try runs the program, and reads its answer if there is a place for it.
func (h *poolHost) try(answer any, args ...string) error {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, holdfast, append(args, "-o", "json")...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	if status := cmd.ProcessState.ExitCode(); status != 0 {
		return &refusal{status, strings.TrimSpace(errs.String())}
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(out.Bytes(), answer)
}

func (h *poolHost) must(answer any, args ...string) {
	h.t.Helper()
	if err := h.try(answer, args...); err != nil {
		h.t.Fatalf("%v: %v", args, err)
	}
}

// eventually repeats f until it succeeds.
func (h *poolHost) eventually(what string, f func() error) {
	h.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	h.t.Fatalf("waiting until %s: %v", what, err)
}

// attachment is what the program says of an attached volume.
type attachment struct {
	Volume, Domain, State, Problem, Mapper, Path string
	Since                                        time.Time
	Allocated                                    int64
}

// attached is the one volume as the host has it now.
func (h *poolHost) attached() (a attachment, err error) {
	var v struct{ Attached []attachment }
	if err := h.try(&v, "volume", "show", "disk"); err != nil {
		return a, err
	}
	if len(v.Attached) != 1 {
		return a, fmt.Errorf("attached: %+v", v.Attached)
	}
	return v.Attached[0], nil
}

// awaitAttached waits until the volume is in the host's hands.
func (h *poolHost) awaitAttached() attachment {
	h.t.Helper()
	var a attachment
	h.eventually("the volume is attached", func() (err error) {
		if a, err = h.attached(); err == nil && (a.State != "attached" || a.Problem != "") {
			err = fmt.Errorf("%+v", a)
		}
		return err
	})
	return a
}

// record is what the agent keeps of the attached volume.
type record struct {
	State   string
	Process struct{ PID int }
	Version uint64
	Device  struct{ Name, UUID string }
	Lease   struct {
		Lockspace, Name, Device string
		Offset                  int64
	}
}

func (h *poolHost) record() record {
	h.t.Helper()
	files, err := filepath.Glob(dataDir + "/attached/*.json")
	if err != nil || len(files) != 1 {
		h.t.Fatalf("records %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		h.t.Fatal(err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		h.t.Fatalf("%v: %s", err, b)
	}
	return r
}

// process is the pid of the program's process with this verb; 0: there is none.
func process(verb string) int {
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		if args := strings.Split(string(b), "\x00"); err == nil && len(args) > 1 && filepath.Base(args[0]) == "holdfast" && slices.Contains(args[1:2], verb) {
			return pid
		}
	}
	return 0
}

// killProcess ends one with no chance to do anything.
func (h *poolHost) killProcess(pid int) {
	h.t.Helper()
	if pid <= 1 {
		h.t.Fatalf("no process %d", pid)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
}
