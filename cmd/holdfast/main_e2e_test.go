package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/config"
	"github.com/holdfast-io/holdfast/internal/procs"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// asProgram makes the test binary behave as the program. The end-to-end tests start themselves that way, so that the
// race detector also watches agents, keepers and supervisors.
const asProgram = "HOLDFAST_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if where := os.Getenv(asChassis); where != "" {
		os.Exit(chassis(where, os.Args[1:]))
	}
	worker := slices.Contains(os.Args, "-test.fuzzworker") // a child too, but one that is to test
	if os.Getenv(asProgram) != "" && !worker {
		os.Exit(mainStatus())
	}
	if err := os.Setenv(asProgram, "1"); err != nil { // for the children
		panic(err)
	}
	// The tests that run side by side mostly wait, for leases of real sanlock to run out: more of them than processors.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// The end-to-end tests run one pool at a time: each is seven processes that depend on time, and two of them on a small
// machine would measure the scheduler. So none of them calls t.Parallel.

// startPool starts a dev pool that is stopped, and looked through for races and left-overs, at the end of the test.
func startPool(t *testing.T, args ...string) *devProcess {
	t.Helper()
	return startPoolIn(t, shortDir(t), args...)
}

func startPoolIn(t *testing.T, dir string, args ...string) *devProcess {
	t.Helper()
	p, err := startDev(t.Context(), dir, filepath.Join(dir, "supervisor.log"), args...)
	if err != nil {
		t.Fatalf("starting the pool: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, dir)
		}
		stopPool(t, p)
		checkLogs(t, dir)
	})
	return p
}

// stopPool stops a pool; a second call does nothing.
func stopPool(t *testing.T, p *devProcess) {
	t.Helper()
	if _, err := p.stop(); err != nil {
		t.Errorf("stopping the pool: %v", err)
	}
}

// shortDir is a temporary directory whose path leaves room for socket names.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func allLogs(dir string) []string {
	logs, _ := filepath.Glob(filepath.Join(dir, "*", "agent.log"))
	return append(logs, filepath.Join(dir, "supervisor.log"))
}

// showLogs prints the end of every log of a pool.
func showLogs(t *testing.T, dir string) {
	t.Helper()
	for _, path := range allLogs(dir) {
		for _, line := range tail(path, 40) {
			t.Logf("%s: %s", filepath.Base(filepath.Dir(path)), line)
		}
	}
}

// checkLogs fails the test for what no log may hold.
func checkLogs(t *testing.T, dir string) {
	t.Helper()
	for _, path := range allLogs(dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for _, bad := range []string{"WARNING: DATA RACE", "panic:", "fatal error:"} {
			if i := bytes.Index(b, []byte(bad)); i >= 0 {
				t.Errorf("%s: %s", path, b[i:min(len(b), i+4000)])
			}
		}
	}
}

// testAgent is one agent without a supervisor.
type testAgent struct {
	*client.Client
	conf config.Agent
	path string // of the configuration file
	log  string
	cmd  *exec.Cmd
	done chan error
}

// agentConfig is a configuration in a new directory on free ports.
func agentConfig(t *testing.T, name string, devices ...string) config.Agent {
	t.Helper()
	dir := shortDir(t)
	ports, err := pickPorts(3, map[int]bool{})
	if err != nil {
		t.Fatal(err)
	}
	m := devMember{Name: name, Cluster: ports[0], Gossip: ports[1], HTTP: ports[2]}
	b, err := devAgentConfig(dir, devState{LUN: filepath.Join(dir, "lun.img"), Profile: "dev"}, m)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	c.Devices, c.Fencing = devices, config.Default().Fencing
	return c
}

// startAgent starts an agent and waits until it answers on its unix socket.
func startAgent(t *testing.T, c config.Agent) *testAgent {
	t.Helper()
	a := launchAgent(t, c)
	ctx := deadline(t, 20*time.Second)
	if err := poll(ctx, "the agent answers", func() error { _, err := a.Health(ctx); return err }); err != nil {
		t.Fatalf("%v\n%v", err, tail(a.log, 20))
	}
	return a
}

// launchAgent starts an agent and leaves it to the caller to look whether it lives.
func launchAgent(t *testing.T, c config.Agent) *testAgent {
	t.Helper()
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	doc, err := config.Print(c)
	if err != nil {
		t.Fatal(err)
	}
	a := &testAgent{conf: c, path: filepath.Join(c.DataDir, "test.yaml"), log: filepath.Join(c.DataDir, "agent.log"), done: make(chan error, 1)}
	if err := os.WriteFile(a.path, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	if a.Client, err = client.New(client.Config{Address: "unix://" + c.UnixSocket}); err != nil {
		t.Fatal(err)
	}
	a.run(t)
	return a
}

func (a *testAgent) run(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	a.cmd = program("agent", "--config", a.path)
	a.cmd.Dir = a.conf.DataDir // where a LUN behind a relative socket is that of this host
	a.cmd.Env = append(os.Environ(), devMark+"="+a.conf.DataDir)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { a.done <- a.cmd.Wait() }()
	t.Cleanup(func() { a.stop(t) })
}

// stop stops the agent in order; its keeper must be gone then.
func (a *testAgent) stop(t *testing.T) {
	t.Helper()
	a.Close()
	_ = a.cmd.Process.Signal(sigTerm)
	timer := time.AfterFunc(30*time.Second, func() { _ = a.cmd.Process.Kill() })
	err := <-a.done
	a.done <- err
	if !timer.Stop() {
		t.Errorf("agent %s did not stop in time", a.conf.Name)
	}
	if pids, err := procs.Family(0, devMark+"="+a.conf.DataDir); err != nil || len(pids) > 0 {
		t.Errorf("agent %s left processes behind: %v, %v", a.conf.Name, pids, err)
	}
	if t.Failed() {
		t.Logf("%s:\n%s", a.conf.Name, strings.Join(withoutRaft(tail(a.log, 200)), "\n"))
	}
	checkLogs(t, filepath.Dir(a.conf.DataDir))
}

// withoutRaft leaves out what raft says about hosts that have stopped, which is all that a report of a failure would show otherwise.
func withoutRaft(lines []string) []string {
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, " part=raft ") })
	return lines[max(0, len(lines)-40):]
}

// program is a command that runs this program.
func program(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return exec.Command(self, args...)
}

// cli runs a verb and returns its exit status and output.
func cli(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := program(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// mustCreate makes n volumes called PREFIX-I through a host.
func mustCreate(t *testing.T, c *client.Client, prefix string, n int) []api.VolumeCreated {
	t.Helper()
	var vs []api.VolumeCreated
	for i := range n {
		v, err := c.CreateVolume(deadline(t, 30*time.Second), api.VolumeCreate{Name: fmt.Sprintf("%s-%d", prefix, i), Size: gib}, "")
		if err != nil {
			t.Fatalf("creating %s-%d: %v", prefix, i, err)
		}
		vs = append(vs, v)
	}
	return vs
}

// mustSPM waits for the role to be served.
func mustSPM(t *testing.T, p *devProcess) api.SPM {
	t.Helper()
	spm, err := p.spm(deadline(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return spm
}

// mustList lists all volumes as the leader has them.
func mustList(t *testing.T, c *client.Client, want int) []api.Volume {
	t.Helper()
	vs, _, err := c.Volumes(deadline(t, 10*time.Second), client.VolumeFilter{}, client.Read{Consistent: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(vs) != want {
		t.Fatalf("%d volumes are listed, want %d", len(vs), want)
	}
	return vs
}

// judgeLUN lets the real programs and our own check look at the pool's LUN.
func judgeLUN(t *testing.T, p *devProcess) {
	t.Helper()
	ctx := deadline(t, 60*time.Second)
	d := &demo{out: &bytes.Buffer{}, pool: p}
	if err := d.checkDomain(ctx); err != nil {
		t.Error(err)
	}
	testutil.NeedTool(t, "lvm", "sanlock", "qemu-img")
	if err := d.judge(ctx); err != nil {
		t.Error(err)
	}
	for _, row := range d.report.rows {
		if row.result == "left out" && os.Getenv("CI") == "true" {
			t.Errorf("%s: %s", row.what, row.detail)
		}
	}
}

// showStatus prints, of a test that failed, what each host of the pool thinks of it. It is deferred: cleanups stop hosts that joined later.
func showStatus(t *testing.T, p *devProcess) {
	t.Helper()
	if !t.Failed() {
		return
	}
	for i := range p.file().Hosts {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		st, _, err := p.client(i).Status(ctx, client.Read{})
		cancel()
		b, _ := json.MarshalIndent(st, "", " ")
		t.Logf("host %d: %v %s", i, err, b)
	}
}
