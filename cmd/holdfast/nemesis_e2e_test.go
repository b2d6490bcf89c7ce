package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/nemesis/safe"
)

// A pool takes every kind of fault, and is whole afterwards.
func TestNemesis_devPool(t *testing.T) {
	p := startPool(t)
	mustCreate(t, p.client(0), "mine", 2)
	spm := mustSPM(t, p).Host
	i := slices.IndexFunc(p.file().Hosts, func(h devFileHost) bool { return h.Name == spm })
	socket := "unix://" + filepath.Join(p.file().Hosts[i].DataDir, "api.sock")
	pid := p.file().Hosts[i].PID

	status, stdout, stderr := cli(t, "--address", socket, "-o", "json", "nemesis", "--time", "15s", "--yes", "--seed", "7")
	if status != exitOK {
		t.Fatalf("status %d, %s", status, stderr)
	}
	var rep safe.Report
	if err := json.Unmarshal([]byte(stdout), &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Bounds) != 4 || rep.Created == 0 || rep.Read == 0 || rep.Seed != 7 {
		t.Errorf("%+v", rep)
	}
	faults := 0
	for _, b := range rep.Bounds {
		faults += b.Faults
		t.Logf("%-14s %d times, %d failed %v; no create %+v; no read %+v", b.Kind, b.Faults, b.Failed, b.Errors, b.Creates, b.Reads)
	}
	if faults < 3 || !strings.Contains(stderr, "a test pool") {
		t.Errorf("%d faults; it said %s", faults, stderr)
	}
	if rep.Bounds[2].Faults > 0 && p.file().Hosts[i].PID == pid {
		t.Error("the agent is the same process after it was killed")
	}
	if err := p.awaitUp(deadline(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	mustList(t, p.client(0), 2) // its own volumes are gone, mine are there
	judgeLUN(t, p)

	t.Run("nobody confirms", func(t *testing.T) {
		status, _, stderr := cli(t, "--address", p.file().API, "nemesis") // standard input is empty
		if status != exitFailed || !strings.Contains(stderr, "not confirmed") || !strings.Contains(stderr, "No agent is killed") {
			t.Errorf("status %d, %s", status, stderr)
		}
	})
	t.Run("an agent that is not here", func(t *testing.T) {
		status, _, stderr := cli(t, "--address", p.file().API, "nemesis", "--yes", "--kind", "agent.kill")
		if status != exitUsage || !strings.Contains(stderr, "unix socket") {
			t.Errorf("status %d, %s", status, stderr)
		}
	})
	t.Run("for ever", func(t *testing.T) {
		if status, _, stderr := cli(t, "nemesis", "--yes", "--time", "61m"); status != exitUsage {
			t.Errorf("status %d, %s", status, stderr)
		}
	})
}

// A pool that is not marked is not touched; one that is marked says so.
func TestNemesis_onlyTestPools(t *testing.T) {
	p := newAgentPool(t, 1, newLUN(t, 12*gib), nil)
	status, _, stderr := cli(t, "--address", socket(p.agents[0]), "nemesis", "--yes")
	if status != exitFailed || !strings.Contains(stderr, "not a test pool") || !strings.Contains(stderr, "--test-pool") {
		t.Errorf("status %d, %s", status, stderr)
	}
	if _, stdout, _ := cli(t, "--address", socket(p.agents[0]), "status"); strings.Contains(stdout, "test pool") {
		t.Error(stdout)
	}
	marked := startAgent(t, agentConfig(t, "h1", newLUN(t, 12*gib)))
	if status, _, stderr := cli(t, "--address", socket(marked), "init", "--pool", "t", "--profile", "dev", "--test-pool", marked.conf.Devices[0]); status != exitOK {
		t.Fatal(stderr)
	}
	var s api.Status
	mustJSON(t, marked, &s, "status")
	if _, stdout, _ := cli(t, "--address", socket(marked), "status"); !s.Pool.TestPool || !strings.Contains(stdout, "a test pool") {
		t.Errorf("%+v, %s", s.Pool, stdout)
	}
}
