package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// TestE2E_damagedRaftLog: bits that turned over in Raft's log end an agent's start with a word on what to do, and with nothing else; with
// the right bytes back it goes on.
func TestE2E_damagedRaftLog(t *testing.T) {
	lun := newLUN(t, 12*gib)
	a := startAgent(t, agentConfig(t, "h1", lun))
	mustMember(t, a, "init", "--pool", "p", "--profile", "dev", lun)
	awaitSPM(t, a, testutil.DefaultDeadline)
	mustCreate(t, a.Client, "a", 3)
	a.kill(t)
	log := filepath.Join(a.conf.DataDir, "cluster", "raft", "log.db")
	good, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	bad := []byte(string(good))
	for page := 0; page < len(bad); page += 4096 {
		bad[page+8] ^= 0x42 // what kind of page it is
		bad[page+40] ^= 1
	}
	for name, b := range map[string][]byte{"bits": bad, "the end is gone": good[:3*4096]} {
		if err := os.WriteFile(log, b, 0o600); err != nil {
			t.Fatal(err)
		}
		status, said := refusedStart(t, a)
		if status <= 0 || !strings.Contains(said, log) || !strings.Contains(said, "join again") || strings.Contains(said, "panic") || strings.Contains(said, "goroutine") {
			t.Errorf("%s: status %d: %s", name, status, said)
		}
		t.Logf("%s: %s", name, said)
	}
	if err := os.WriteFile(log, good, 0o600); err != nil {
		t.Fatal(err)
	}
	a.again(t)
	mustCreate(t, a.Client, "b", 1)
	mustList(t, a.Client, 4)
}

// refusedStart runs an agent that must end by itself; the status is -1 when it does not.
func refusedStart(t *testing.T, a *testAgent) (status int, said string) {
	t.Helper()
	self := program("agent", "--config", a.path)
	cmd := exec.CommandContext(deadline(t, 30*time.Second), self.Path, self.Args[1:]...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return 0, string(out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}
