package main

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/procs"
)

// A host dies with its data directory. It is removed once storage says that it is dead, and joins again under its name.
func TestE2E_removeLostHost(t *testing.T) {
	p := startPool(t)
	defer showStatus(t, p)
	ctx := deadline(t, 120*time.Second)
	first, cluster := p.client(0), devClusterAddress(t, p, 0)
	lost := joinAs(t, p, "h4", cluster)
	awaitHosts(t, first, 4)
	if err := poll(ctx, "h4 has joined the lockspace", func() error { _, err := first.MoveSPM(ctx, api.SPMMove{To: "h4"}); return err }); err != nil {
		t.Fatal(err)
	}
	_, err := first.RemoveHost(ctx, "h4", api.HostRemove{})
	wantCode(t, err, api.CodeConflict) // it answers
	_, err = first.RemoveHost(ctx, "h9", api.HostRemove{})
	wantCode(t, err, api.CodeNotFound)

	killAll(t, lost)
	asked := time.Now()
	if e := asError(removeNow(p)); e.Code != api.CodeConflict || e.RetryAfter <= 0 || e.NextStep == "" {
		t.Errorf("while storage says that it lives: %+v", e)
	}
	if err := poll(ctx, "h4 is removed", func() error { return removeNow(p) }); err != nil {
		t.Fatal(err)
	}
	t.Logf("removed %v after it died", time.Since(asked).Round(time.Millisecond))
	if took := time.Since(asked); took < 8*time.Second {
		t.Errorf("removed after %v: its leases were not dead", took)
	}
	awaitHosts(t, first, 3)
	if err := poll(ctx, "raft has three servers", func() error { return raftServers(p, 3) }); err != nil {
		t.Error(err)
	}

	joinAs(t, p, "h4", cluster)
	awaitHosts(t, first, 4)
	if h, _, err := first.Host(ctx, "h4", client.Read{Consistent: true}); err != nil || h.HostID != 5 {
		t.Errorf("it came back as %+v, %v", h, err)
	}
	if spm, err := first.MoveSPM(ctx, api.SPMMove{To: "h4"}); err != nil || spm.Host != "h4" {
		t.Errorf("moving the role to it: %+v, %v", spm, err)
	}
	mustCreate(t, first, "after", 2)
	mustList(t, p.client(1), 2)
	judgeLUN(t, p)
}

// joinAs starts an agent on an empty data directory and lets it join.
func joinAs(t *testing.T, p *devProcess, name, cluster string) *testAgent {
	t.Helper()
	ctx := deadline(t, 60*time.Second)
	tok, err := p.client(0).CreateToken(ctx, api.TokenCreate{Role: api.RoleJoin})
	if err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, agentConfig(t, name, p.file().LUN))
	if _, err := a.Join(ctx, api.Join{Address: cluster, Token: tok.Secret}); err != nil {
		t.Fatal(err)
	}
	return a
}

// killAll kills agent and keeper at once, so that nobody frees the leases.
func killAll(t *testing.T, a *testAgent) {
	t.Helper()
	pids, err := procs.Family(0, devMark+"="+a.conf.DataDir)
	if err != nil || len(pids) < 2 {
		t.Fatalf("processes %v of %s: %v", pids, a.conf.Name, err)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // the keeper must not see the agent end
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

// removeNow asks any host.
func removeNow(p *devProcess) error {
	c := p.client(1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := c.RemoveHost(ctx, "h4", api.HostRemove{})
	return err
}

// raftServers wants so many raft servers.
func raftServers(p *devProcess, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	peers, err := p.client(0).RaftPeers(ctx)
	if err == nil && len(peers) != n {
		err = fmt.Errorf("there are %v", peers)
	}
	return err
}
