package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// An SPM whose processes are stopped, as by a debugger, a full machine or a suspend, finds out before it writes anything. Each host
// reaches the LUN through a server of its own, whose record tells what was really submitted.
func TestNetPool_stopped(t *testing.T) {
	testutil.NeedTool(t, "ip", "nbdkit")
	p, err := newNetPool(deadline(t, 2*time.Minute), shortDir(t), "dev", 3, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s := &stoppedPool{p}
	t.Run("killed, and back under its name", s.back)
	t.Run("agent and keeper, longer than the lease", func(t *testing.T) { s.longer(t, true, true) })
	t.Run("keeper, longer than the lease", func(t *testing.T) { s.longer(t, false, true) })
	t.Run("agent, longer than the lease", s.agentOnly)
	t.Run("both, shorter than the lease", s.shorter)
}

type stoppedPool struct{ *netPool }

// pids are those of a host's agent and keeper.
func (h *netHost) pids(t *testing.T) (agent, keeper int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(h.conf.DataDir, "keeper.pid"))
	if err != nil {
		t.Fatal(err)
	}
	keeper, err = strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return h.cmd.Process.Pid, keeper
}

func send(t *testing.T, sig syscall.Signal, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatalf("signal %s to %d: %v", sig, pid, err)
		}
	}
}

// spm is who serves, everybody being well.
func (s *stoppedPool) spm(t *testing.T) (*netHost, api.SPM) {
	t.Helper()
	ctx := deadline(t, time.Minute)
	if err := s.awaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	now, _, err := s.hosts[0].SPM(ctx, client.Read{Consistent: true})
	if err != nil {
		t.Fatal(err)
	}
	return s.host(now.Host), now
}

// leadElsewhere keeps the leader alive while a host is stopped, so that the test is about leases alone.
func (s *stoppedPool) leadElsewhere(t *testing.T, h *netHost) {
	t.Helper()
	ctx := deadline(t, 30*time.Second)
	err := poll(ctx, "another host leads", func() error {
		st, _, err := h.Status(ctx, client.Read{})
		if err == nil && st.Raft.Leader == h.name {
			_, err = h.TransferLeadership(ctx, api.RaftTransfer{To: s.other(h.name).name})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// another waits until a host other than h serves under a later epoch.
func (s *stoppedPool) another(t *testing.T, h *netHost, epoch uint64) api.SPM {
	t.Helper()
	return s.serves(t, h, "another host is SPM", func(now api.SPM) bool { return now.Host != h.name && now.Epoch > epoch })
}

// later waits until any host serves under a later epoch.
func (s *stoppedPool) later(t *testing.T, h *netHost, epoch uint64) api.SPM {
	t.Helper()
	return s.serves(t, h, "a host is SPM under a later epoch", func(now api.SPM) bool { return now.Epoch > epoch })
}

// serves waits until an SPM is in office of whom ok is true, by the word of a host other than h.
func (s *stoppedPool) serves(t *testing.T, h *netHost, what string, ok func(api.SPM) bool) api.SPM {
	t.Helper()
	ctx := deadline(t, 40*time.Second)
	var now api.SPM
	err := poll(ctx, what, func() (err error) {
		now, _, err = s.other(h.name).SPM(ctx, client.Read{})
		if err == nil && (now.State != api.SPMServing || !ok(now)) {
			err = fmt.Errorf("%s is %s, epoch %d: %s", now.Host, now.State, now.Epoch, now.Reason)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v; the log of %s: %s\nof another: %s", err, h.name, strings.Join(tail(h.log, 25), "\n"), strings.Join(tail(s.other(h.name).log, 25), "\n"))
	}
	return now
}

// longer stops processes of the SPM until another host has taken over, and looks what the SPM writes when they go on.
func (s *stoppedPool) longer(t *testing.T, agent, keeper bool) {
	h, was := s.spm(t)
	s.leadElsewhere(t, h)
	begun := time.Now()
	agentPID, keeperPID := h.pids(t)
	var stopped []int
	if keeper {
		stopped = append(stopped, keeperPID)
	}
	if agent {
		stopped = append(stopped, agentPID)
	}
	send(t, syscall.SIGSTOP, stopped...)
	defer func() {
		for _, pid := range stopped {
			_ = syscall.Kill(pid, syscall.SIGCONT) // it may have been ended by its agent
		}
	}()
	s.another(t, h, was.Epoch)
	if _, err := s.other(h.name).CreateVolume(deadline(t, 30*time.Second), api.VolumeCreate{Name: fmt.Sprintf("by-the-next-%d", was.Epoch), Size: gib}, ""); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(s.recordOf(h))
	if err != nil {
		t.Fatal(err)
	}
	if keeper && agent {
		send(t, syscall.SIGCONT, stopped...)
	}
	if !(keeper && agent) || !s.ended(t, h) {
		s.told(t, h, begun, "spm.lost", "spm.stop_failed") // the second one when the manager saw the hung keeper first
	}
	s.spm(t) // it has its host id again
	var after []byte
	err = poll(deadline(t, 20*time.Second), "it renews", func() error { // with a new keeper it may have begun to before we looked
		if after, err = os.ReadFile(s.recordOf(h)); err != nil || !bytes.HasPrefix(after, before) {
			t.Fatalf("the record was cut: %v", err)
		}
		if !recordedWrite.Match(after[len(before):]) {
			return errNotThere
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v; the log of %s: %s", err, h.name, strings.Join(tail(h.log, 40), "\n"))
	}
	s.onlyItsOwnRecord(t, h, after[len(before):])
	s.check(t)
}

// ended says whether the keeper, when it went on before its agent did and found everything lost long ago, has ended the agent. Then
// it is started again, as a service manager would.
func (s *stoppedPool) ended(t *testing.T, h *netHost) bool {
	t.Helper()
	select {
	case <-h.done:
	case <-time.After(2 * time.Second):
		return false
	}
	t.Log("the keeper has ended the agent")
	h.done = make(chan struct{})
	if err := s.launch(h, h.conf.Profile); err != nil {
		t.Fatal(err)
	}
	return true
}

var recordedWrite = regexp.MustCompile(`(?m)(Write|Zero|Trim) id=\d+ offset=0x([0-9a-f]+) count=0x([0-9a-f]+)`)

// onlyItsOwnRecord fails when a host has written anything but its record in the lockspace, with which it takes its id anew.
func (s *stoppedPool) onlyItsOwnRecord(t *testing.T, h *netHost, record []byte) {
	t.Helper()
	ctx := deadline(t, 20*time.Second)
	st, _, err := s.hosts[0].Status(ctx, client.Read{})
	if err != nil {
		t.Fatal(err)
	}
	id := slices.IndexFunc(st.Hosts, func(m api.Host) bool { return m.Name == h.name })
	own := s.lockspace(ctx, t) + int64(st.Hosts[id].HostID-1)*512
	writes, stray := strayWrites(record, own)
	if writes == 0 {
		t.Errorf("%s has written nothing, not even its own record", h.name)
	}
	for _, w := range stray {
		t.Errorf("%s submitted after its lease was over: %s; its own record is at %#x", h.name, w, own)
	}
}

// strayWrites counts what a server's record shows as written, and lists all but the one sector at own.
func strayWrites(record []byte, own int64) (n int, stray []string) {
	for _, m := range recordedWrite.FindAllSubmatch(record, -1) {
		n++
		off, _ := strconv.ParseInt(string(m[2]), 16, 64)
		count, _ := strconv.ParseInt(string(m[3]), 16, 64)
		if off != own || count != 512 {
			stray = append(stray, string(m[0]))
		}
	}
	return n, stray
}

// The checker must see a write under the old lease, or it proves nothing. These lines are nbdkit's own.
func TestStrayWrites(t *testing.T) {
	t.Parallel()
	const fine = `2026-11-21 15:52:01.000001 connection=2 Write id=9 offset=0x300200 count=0x200 ...
2026-11-21 15:52:01.000002 connection=2 ...Write id=9 return=0
2026-11-21 15:52:01.000003 connection=2 Flush id=10 ...
2026-11-21 15:52:01.000004 connection=2 Read id=11 offset=0x0 count=0x20000 ...
`
	if n, stray := strayWrites([]byte(fine), 0x300200); n != 1 || len(stray) != 0 {
		t.Errorf("%d writes, %v", n, stray)
	}
	for _, planted := range []string{"Write id=12 offset=0x1200 count=0x200", "Write id=12 offset=0x300200 count=0x400", "Zero id=12 offset=0x500000 count=0x100000",
		"Trim id=12 offset=0x500000 count=0x100000"} {
		if _, stray := strayWrites([]byte(fine+"x connection=3 "+planted+" fua=1 ...\n"), 0x300200); len(stray) != 1 {
			t.Errorf("%s was not seen", planted)
		}
	}
}

// lockspace is where the records of the hosts begin.
func (s *stoppedPool) lockspace(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	dev, err := blockdev.Open(ctx, s.lun, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	d, err := domain.Open(ctx, []blockdev.Device{dev}, domain.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, off, err := d.Lockspace()
	if err != nil {
		t.Fatal(err)
	}
	return off
}

// told waits for an event about a host, of one of these kinds.
func (s *stoppedPool) told(t *testing.T, h *netHost, since time.Time, kinds ...string) {
	t.Helper()
	ctx := deadline(t, 60*time.Second)
	err := poll(ctx, fmt.Sprintf("an event %v", kinds), func() error {
		events, _, err := s.other(h.name).Events(ctx, 0, 200, client.Read{})
		if err == nil && !slices.ContainsFunc(events, func(e api.Event) bool {
			return slices.Contains(kinds, e.Kind) && e.Host == h.name && !e.Time.Before(since)
		}) {
			err = errNotThere
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v; its log: %v", err, tail(h.log, 10))
	}
}

// check lets the pool look at its domain.
func (s *stoppedPool) check(t *testing.T) {
	t.Helper()
	if c, err := s.hosts[0].CheckDomain(deadline(t, 30*time.Second), "master"); err != nil || !c.Clean {
		t.Errorf("domain check: %+v, %v", c, err)
	}
}

// back kills agent and keeper of the SPM and starts the host again. It has its host id after 2N, not after 8N + W, and its new
// generation frees what the old one held.
func (s *stoppedPool) back(t *testing.T) {
	h, was := s.spm(t)
	s.leadElsewhere(t, h)
	agent, keeper := h.pids(t)
	send(t, syscall.SIGKILL, keeper, agent)
	<-h.done
	from := len(tail(h.log, 1<<20))
	begun := time.Now()
	h.done = make(chan struct{})
	if err := s.launch(h, h.conf.Profile); err != nil {
		t.Fatal(err)
	}
	err := poll(deadline(t, 30*time.Second), "it has its host id", func() error {
		for _, line := range tail(h.log, 1<<20)[from:] {
			if strings.Contains(line, "joined lockspace") {
				return nil
			}
		}
		return errNotThere
	})
	took := time.Since(begun)
	if err != nil || took < 2*time.Second || took > 5*time.Second {
		t.Errorf("it had its host id after %s, %v; 2N is 2 s", took, err)
	}
	err = poll(deadline(t, 30*time.Second), "the role is served again", func() error {
		now, _, err := s.other(h.name).SPM(t.Context(), client.Read{})
		if err == nil && (now.State != api.SPMServing || now.Epoch <= was.Epoch) {
			err = errNotThere
		}
		return err
	})
	served := time.Since(begun)
	t.Logf("host id after %s, an SPM after %s", took, served)
	if err != nil || served > 9*time.Second { // dead is 10 s after its last renewal
		t.Errorf("an SPM after %s, %v", served, err)
	}
	s.spm(t)
}

// agentOnly stops the agent while its keeper renews: the lease is never lost, so nobody takes it; when the agent goes on it hears
// what was asked of it, and hands over.
func (s *stoppedPool) agentOnly(t *testing.T) {
	h, was := s.spm(t)
	s.leadElsewhere(t, h)
	agent, _ := h.pids(t)
	begun := time.Now()
	send(t, syscall.SIGSTOP, agent)
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); {
		now, _, err := s.other(h.name).SPM(deadline(t, 5*time.Second), client.Read{})
		if err == nil && now.Epoch != was.Epoch {
			t.Errorf("the role moved to %s although the lease is renewed", now.Host)
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	send(t, syscall.SIGCONT, agent)
	s.told(t, h, begun, "spm.handed_over")
	if now := s.later(t, h, was.Epoch); now.Host != h.name { // it answers again, so it may well be the next one too
		t.Logf("%s is SPM after %s", now.Host, h.name)
	}
	s.spm(t)
	s.check(t)
}

// shorter stops both for a time that the lease outlives: nothing is lost.
func (s *stoppedPool) shorter(t *testing.T) {
	h, was := s.spm(t)
	s.leadElsewhere(t, h)
	agent, keeper := h.pids(t)
	send(t, syscall.SIGSTOP, keeper, agent)
	time.Sleep(3 * time.Second)
	send(t, syscall.SIGCONT, keeper, agent)
	if _, err := s.other(h.name).CreateVolume(deadline(t, 30*time.Second), api.VolumeCreate{Name: "after-a-short-stop", Size: gib}, ""); err != nil {
		t.Error(err)
	}
	s.spm(t)
	events, _, err := s.hosts[0].Events(deadline(t, 10*time.Second), 0, 200, client.Read{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == "spm.lost" && e.Epoch >= was.Epoch {
			t.Errorf("lost in a stop that was shorter than the lease: %s", e.Message)
		}
	}
	s.check(t)
}
