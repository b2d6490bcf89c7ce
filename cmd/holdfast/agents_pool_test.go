package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/config"
)

// agentPool is a pool of agents set up the way people do it: configuration files, init, tokens, join. Nobody restarts
// them, and nobody switches their power.
type agentPool struct {
	lun    string
	agents []*testAgent
}

// newAgentPool makes a pool of n agents whose API speaks TLS. tweak may change each configuration.
func newAgentPool(t *testing.T, n int, lun string, tweak func(*config.Agent)) *agentPool {
	t.Helper()
	p := &agentPool{lun: lun}
	for i := range n {
		c := agentConfig(t, fmt.Sprintf("h%d", i+1), lun)
		c.Dev = false
		if tweak != nil {
			tweak(&c)
		}
		p.agents = append(p.agents, startAgent(t, c))
	}
	made := mustMember(t, p.agents[0], "init", "--pool", "p1", "--profile", "dev", lun)
	token := made.Token
	for _, a := range p.agents[1:] {
		mustMember(t, a, "join", p.agents[0].conf.Cluster.Listen, "--token", token)
		token = joinTokenByCLI(t, p.agents[0])
	}
	awaitHosts(t, p.agents[0].Client, n)
	p.awaitSPM(t)
	return p
}

// socket is the address of an agent for local root.
func socket(a *testAgent) string { return "unix://" + a.conf.UnixSocket }

// mustMember runs init, join or leave over the agent's socket.
func mustMember(t *testing.T, a *testAgent, args ...string) (m api.Member) {
	t.Helper()
	mustJSON(t, a, &m, args...)
	return m
}

func joinTokenByCLI(t *testing.T, a *testAgent) string {
	t.Helper()
	var tok api.TokenCreated
	mustJSON(t, a, &tok, "operator", "token", "create", "--role", "join")
	return tok.Secret
}

// mustJSON runs a verb over the agent's socket and decodes what it prints.
func mustJSON(t *testing.T, a *testAgent, out any, args ...string) {
	t.Helper()
	status, stdout, stderr := cli(t, append([]string{"--address", socket(a), "-o", "json"}, args...)...)
	if status != exitOK || stderr != "" {
		t.Fatalf("holdfast %v: status %d, %s", args, status, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), out); err != nil {
		t.Fatalf("holdfast %v printed %q: %v", args, stdout, err)
	}
}

// awaitSPM waits until the role is served, as every agent that is asked sees it.
func (p *agentPool) awaitSPM(t *testing.T) api.SPM {
	t.Helper()
	return awaitSPM(t, p.agents[0], 40*time.Second)
}

func awaitSPM(t *testing.T, a *testAgent, wait time.Duration) (spm api.SPM) {
	t.Helper()
	ctx := deadline(t, wait)
	err := poll(ctx, "an SPM serves", func() (err error) {
		spm, _, err = a.SPM(ctx, client.Read{})
		if err == nil && spm.State != api.SPMServing {
			err = fmt.Errorf("the role is %s: %s", spm.State, spm.Reason)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return spm
}

// agent finds an agent by the name of its host.
func (p *agentPool) agent(t *testing.T, host string) *testAgent {
	t.Helper()
	for _, a := range p.agents {
		if a.conf.Name == host {
			return a
		}
	}
	t.Fatalf("no agent is called %q", host)
	return nil
}

// other is some agent that is not the one named.
func (p *agentPool) other(host string) *testAgent {
	for _, a := range p.agents {
		if a.conf.Name != host {
			return a
		}
	}
	return p.agents[0]
}

// kill sends SIGKILL to an agent, which leaves its keeper to do what it must, and waits for the agent's end.
func (a *testAgent) kill(t *testing.T) {
	t.Helper()
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-a.done
}

// halt stops an agent in order, to be run again later.
func (a *testAgent) halt(t *testing.T) {
	t.Helper()
	a.stop(t)
	<-a.done
}

// again runs an agent that was killed or halted, and waits until it answers. The test that made the agent stops it.
func (a *testAgent) again(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(a.log, os.O_APPEND|os.O_WRONLY, 0o600)
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
	ctx := deadline(t, 20*time.Second)
	if err := poll(ctx, "the agent answers", func() error { _, err := a.Health(ctx); return err }); err != nil {
		t.Fatalf("%v\n%v", err, tail(a.log, 20))
	}
}

// alive fails the test when the agent has ended.
func (a *testAgent) alive(t *testing.T) {
	t.Helper()
	select {
	case err := <-a.done:
		a.done <- err
		t.Errorf("agent %s has ended: %v; %v", a.conf.Name, err, tail(a.log, 10))
	default:
	}
}

// refusal runs a verb over the agent's socket that must fail, and checks that it says why in a way that helps.
func refusal(t *testing.T, a *testAgent, code string, args ...string) *api.Error {
	t.Helper()
	status, stdout, stderr := cli(t, append([]string{"--address", socket(a)}, args...)...)
	e, err := parseRefusal(stderr)
	if status != exitFailed || err != nil || e.Code != code {
		t.Errorf("holdfast %.100q: status %d, stdout %.200q, stderr %.600q; want status 1 and code %s", args, status, stdout, stderr, code)
	} else if e.NextStep == "" {
		t.Errorf("holdfast %.100q: no next step in %q", args, stderr)
	}
	return e
}

// picker gives tests that run at the same time different ports.
var picker struct {
	sync.Mutex
	taken map[int]bool
}

func pickPort(t *testing.T) int {
	t.Helper()
	picker.Lock()
	defer picker.Unlock()
	if picker.taken == nil {
		picker.taken = map[int]bool{}
	}
	ports, err := pickPorts(1, picker.taken)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// newLUN is a sparse file of its own directory.
func newLUN(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "lun.img")
	sparse(t, path, size)
	return path
}

// awaitPort waits until something listens on a loopback port.
func awaitPort(t *testing.T, port int) {
	t.Helper()
	ctx := deadline(t, 10*time.Second)
	err := poll(ctx, fmt.Sprintf("port %d is open", port), func() error {
		c, err := net.DialTimeout("tcp", loopback(port), time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

var errNotThere = errors.New("not there yet")
