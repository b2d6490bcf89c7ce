package pool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
	"github.com/holdfast-io/holdfast/jepsen/lun"
)

// formed makes a pool with agents on a LUN of the harness.
func formed(t *testing.T, n int, tweak func(*Config)) *Pool {
	t.Helper()
	bin, dir := program(t), shortDir(t)
	serve := served(t, dir)
	c := Config{Dir: dir, Binary: bin, Hosts: n, Profile: "dev", Serve: serve, Log: logger(t)}
	if tweak != nil {
		tweak(&c)
	}
	p, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, p) })
	begun := time.Now()
	if err := p.Form(deadline(t, 90*time.Second)); err != nil {
		t.Fatalf("%v\n%s", err, logsOf(p))
	}
	t.Logf("%d hosts formed a pool in %s", n, time.Since(begun).Round(time.Millisecond))
	return p
}

// served makes a LUN, and tells how a host gets a server for it in its namespace, or on a socket.
func served(t *testing.T, dir string) func(host, ns, addr string) error {
	t.Helper()
	log, err := history.NewLog[history.Entry](dir, history.WritesFile)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	l, err := lun.New(filepath.Join(dir, "lun.img"), 16<<30, log, func() time.Duration { return time.Since(begun) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, errors.Join(l.Close(), log.Close())) })
	return func(host, ns, addr string) error {
		ln, err := listenLUN(ns, addr)
		if err == nil {
			l.Attach(host, ln)
		}
		return err
	}
}

func listenLUN(ns, addr string) (net.Listener, error) {
	if ns == "" {
		return net.Listen("unix", addr) //nolint:noctx // binding does not wait
	}
	return lun.ListenIn(ns, addr)
}

// logsOf is the end of each host's log.
func logsOf(p *Pool) string {
	var b strings.Builder
	for _, h := range p.Hosts() {
		text, _ := os.ReadFile(p.Logs(h))
		lines := strings.Split(string(text), "\n")
		b.WriteString(h + ":\n" + strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	return b.String()
}

// up waits until all is well again.
func up(t *testing.T, p *Pool) {
	t.Helper()
	if err := p.AwaitUp(deadline(t, 90*time.Second)); err != nil {
		t.Fatalf("%v\n%s", err, logsOf(p))
	}
}

// gone says whether a process has exited, whether or not its parent knows.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// leaderOf asks a host who leads.
func leaderOf(t *testing.T, p *Pool, host string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	st, _, err := p.Client(host).Status(ctx, client.Read{})
	if err != nil {
		return ""
	}
	return st.Raft.Leader
}

// Every way to hurt three real hosts, one after the other, each of which must be seen to hurt and to heal.
func TestPool_everyFault(t *testing.T) {
	t.Parallel()
	needRoot(t)
	p := formed(t, 3, nil)
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *Pool)
	}{
		{"kill and start", killAndStart},
		{"pause and resume", pauseAndResume},
		{"power", powerOffAndStart},
		{"attached", attachedVolume},
		{"died by itself", diedByItself},
		{"partition", partitionOfLeader},
		{"storage path", storagePath},
		{"disk", diskOfAgent},
		{"damage and repair", damageAndRepair},
	} {
		begun := time.Now()
		if !t.Run(tt.name, func(t *testing.T) { tt.run(t, p) }) {
			t.Fatal(logsOf(p))
		}
		t.Logf("%s: %s", tt.name, time.Since(begun).Round(time.Millisecond))
	}
	for _, e := range p.Exits() {
		if e.Panic != "" {
			t.Errorf("a panic: %+v", e)
		}
	}
}

func killAndStart(t *testing.T, p *Pool) {
	for _, part := range []Part{Agent, Both} {
		agent, keeper := p.Pids("h3")
		if agent == 0 || keeper == 0 {
			t.Fatalf("agent %d, keeper %d", agent, keeper)
		}
		must(t, p.Kill("h3", part))
		if !gone(agent) || part == Both && !gone(keeper) {
			t.Errorf("after killing %s of h3 it still runs", part)
		}
		if reason, dead := p.Dead("h3"); dead {
			t.Errorf("it was told to die, and counts as dead by itself: %s", reason)
		}
		must(t, p.Start(deadline(t, 30*time.Second), "h3"))
		must(t, p.Start(deadline(t, 30*time.Second), "h3"))
		up(t, p)
	}
	agent, keeper := p.Pids("h3")
	must(t, p.Kill("h3", Keeper))
	if !gone(keeper) {
		t.Error("the killed keeper still runs")
	}
	must(t, poll(deadline(t, 60*time.Second), "there is a new keeper", func() error {
		if _, k := p.Pids("h3"); k == 0 || k == keeper {
			return errors.New("none yet")
		}
		return nil
	}))
	if now, _ := p.Pids("h3"); now != agent {
		t.Logf("the agent was started again after its keeper died: %v", p.Exits())
	}
	up(t, p)
}

func pauseAndResume(t *testing.T, p *Pool) {
	must(t, p.Pause("h2", Both))
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	if _, err := p.Client("h2").Health(ctx); err == nil {
		t.Error("a stopped agent answers")
	}
	must(t, p.Resume("h2", Both))
	if _, err := p.Client("h2").Health(deadline(t, long)); err != nil {
		t.Errorf("it does not go on: %v", err)
	}
	up(t, p)
}

// The export of an attached volume outlives agent and keeper, and stops and ends with its host, which then boots.
func attachedVolume(t *testing.T, p *Pool) {
	ctx := deadline(t, 2*time.Minute)
	h, err := p.host("h2")
	must(t, err)
	v, err := p.Client("h1").CreateVolume(ctx, api.VolumeCreate{Name: "attached", Size: 1 << 30}, "")
	must(t, err)
	_, err = p.Client("h2").AttachVolume(ctx, v.ID, "h2", api.VolumeAttach{})
	must(t, err)
	pids := h.exportPIDs()
	if len(pids) != 1 {
		t.Fatalf("%d exports", len(pids))
	}
	if g, err := p.Growth(ctx, "h2"); err != nil || g.Pauses != 0 {
		t.Errorf("%+v, %v", g, err)
	}
	must(t, p.Pause("h2", Machine))
	if err := allStopped(pids); err != nil {
		t.Errorf("a host is stopped: %v", err)
	}
	must(t, p.Resume("h2", Machine))
	first, err := os.ReadFile(h.bootFile())
	must(t, err)
	must(t, p.Kill("h2", Both))
	if gone(pids[0]) {
		t.Error("the export ended with agent and keeper")
	}
	must(t, p.PowerOff("h2"))
	if !gone(pids[0]) || len(h.exportPIDs()) != 0 {
		t.Error("an export of a host without power runs")
	}
	must(t, p.Start(ctx, "h2"))
	if again, err := os.ReadFile(h.bootFile()); err != nil || bytes.Equal(first, again) {
		t.Errorf("a host that was switched on has not booted: %v", err)
	}
	up(t, p)
}

func powerOffAndStart(t *testing.T, p *Pool) {
	agent, keeper := p.Pids("h2")
	must(t, p.PowerOff("h2"))
	if !gone(agent) || !gone(keeper) {
		t.Error("a host without power runs")
	}
	if err := reaches(p.Namespace("h2"), p.hosts[1].serveAt, short); err == nil {
		t.Error("a host without power reaches the LUN")
	}
	if err := p.Pause("h2", Both); err == nil {
		t.Error("a host without power was stopped")
	}
	must(t, p.Start(deadline(t, 30*time.Second), "h2"))
	up(t, p)
}

func diedByItself(t *testing.T, p *Pool) {
	must(t, p.SetRestart("h2", false))
	agent, _ := p.Pids("h2")
	must(t, unix.Kill(agent, unix.SIGABRT)) // the runtime prints all stacks, as with a panic
	must(t, poll(deadline(t, long), "the death is seen", func() error {
		if reason, dead := p.Dead("h2"); !dead || !strings.Contains(reason, "SIGABRT") {
			return errors.New("not yet: " + reason)
		}
		return nil
	}))
	must(t, p.SetRestart("h2", true)) // the service manager is allowed to again, without Start
	up(t, p)
	if _, dead := p.Dead("h2"); dead {
		t.Error("it runs and counts as dead")
	}
	last := Exit{}
	for _, e := range p.Exits() {
		if e.PID == agent {
			last = e
		}
	}
	if last.Told || !strings.HasPrefix(last.Panic, "SIGABRT") {
		t.Errorf("its end was recorded as %+v", last)
	}
	p.forgetPanics("h2")
}

// forgetPanics drops the planted deaths of a host, so that the end of the test can look for real ones.
func (p *Pool) forgetPanics(name string) {
	h, _ := p.host(name)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.exits {
		h.exits[i].Panic = ""
	}
}

// A leader that cannot send Raft's messages to anybody is replaced.
func partitionOfLeader(t *testing.T, p *Pool) {
	was := leaderOf(t, p, "h1")
	var others []string
	for _, h := range p.Hosts() {
		if h != was {
			others = append(others, h)
			must(t, p.Block(was, h, Raft))
		}
	}
	must(t, poll(deadline(t, 60*time.Second), "another host leads", func() error {
		if now := leaderOf(t, p, others[0]); now == "" || now == was {
			return errors.New("the leader is " + now)
		}
		return nil
	}))
	must(t, p.MendNetwork())
	up(t, p)
	must(t, p.Unplug(others[0]))
	must(t, poll(deadline(t, 60*time.Second), "it is missed", func() error {
		st, _, err := p.Client(others[1]).Status(t.Context(), client.Read{})
		for _, m := range st.Hosts {
			if m.Name == others[0] && m.Alive {
				return errors.New("it is alive to the others")
			}
		}
		return err
	}))
	must(t, p.Plug(others[0]))
	up(t, p)
}

// A host that loses its way to the LUN says that it is not well.
func storagePath(t *testing.T, p *Pool) {
	must(t, p.UnplugStorage("h3"))
	must(t, poll(deadline(t, 60*time.Second), "it is not well", func() error {
		if h, err := p.Client("h3").Health(t.Context()); err == nil && h.OK {
			return errors.New("it is")
		}
		return nil
	}))
	must(t, p.PlugStorage("h3"))
	up(t, p)
}

// A hung and a full disk hold up the agent on it, and nobody else.
func diskOfAgent(t *testing.T, p *Pool) {
	must(t, p.FreezeDisk("h3"))
	ctx := deadline(t, 60*time.Second)
	_, err := p.Client("h1").CreateVolume(ctx, api.VolumeCreate{Name: "frozen", Size: 1 << 30}, "")
	must(t, p.ThawDisk("h3"))
	must(t, err)
	must(t, p.FillDisk("h3"))
	_, err = p.Client("h1").CreateVolume(ctx, api.VolumeCreate{Name: "full", Size: 1 << 30}, "")
	must(t, p.FreeDisk("h3"))
	must(t, err)
	must(t, p.Kill("h3", Both))
	must(t, p.Start(ctx, "h3"))
	up(t, p)
	if n, err := p.Goroutines(ctx, "h3"); err != nil || n < 5 {
		t.Errorf("%d goroutines, %v", n, err)
	}
}

// A damaged log can be put back for as long as nobody has used it; a wiped host belongs to nobody.
func damageAndRepair(t *testing.T, p *Pool) {
	if err := p.Damage("h3", RaftLog, 1); !errors.Is(err, ErrRunning) {
		t.Fatalf("damaging a running host: %v", err)
	}
	must(t, p.PowerOff("h3"))
	h, _ := p.host("h3")
	log := filepath.Join(h.data, "cluster", "raft", "log.db")
	read := func() (b []byte) {
		must(t, h.withDisk(func() (err error) { b, err = os.ReadFile(log); return err }))
		return b
	}
	before := read()
	must(t, p.Damage("h3", RaftLog, 1))
	if bytes.Equal(before, read()) {
		t.Error("nothing was damaged")
	}
	if err := p.Damage("h3", Snapshot, 1); err != nil && !errors.Is(err, ErrNothing) {
		t.Errorf("damaging a snapshot: %v", err)
	}
	ctx := deadline(t, 60*time.Second)
	must(t, p.Repair("h3"))
	if !bytes.Equal(before, read()) {
		t.Error("the repaired log is not the old one")
	}
	must(t, p.Repair("h3"))
	must(t, p.Start(ctx, "h3"))
	up(t, p)
	must(t, p.PowerOff("h3"))
	must(t, p.Damage("h3", RaftLog, 2))
	f, err := os.OpenFile(p.Logs("h3"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("level=INFO " + memberSaid + "\n")
	must(t, errors.Join(err, f.Close()))
	if err := p.Repair("h3"); !errors.Is(err, ErrUsed) {
		t.Errorf("repairing a log that was used: %v", err)
	}
	must(t, p.Wipe("h3"))
	must(t, p.Start(ctx, "h3"))
	if health, err := p.Client("h3").Health(ctx); err != nil || health.Member {
		t.Errorf("after wiping: %+v, %v", health, err)
	}
}

// Without namespaces the pool says what it cannot do, and does the rest.
func TestPool_plain(t *testing.T) {
	t.Parallel()
	p := formed(t, 2, func(c *Config) { c.Plain = true })
	for _, a := range []Ability{Network, Storage, Disk} {
		if p.Can(a) {
			t.Errorf("it says that it can do %s", a)
		}
	}
	for what, err := range map[string]error{"block": p.Block("h1", "h2", All), "unplug": p.Unplug("h1"), "storage": p.UnplugStorage("h1"),
		"freeze": p.FreezeDisk("h1"), "fill": p.FillDisk("h1")} {
		if !errors.Is(err, ErrCannot) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, p.MendNetwork())
	ctx := deadline(t, 60*time.Second)
	must(t, p.PowerOff("h2"))
	must(t, p.Start(ctx, "h2"))
	must(t, p.Pause("h2", Agent))
	must(t, p.Resume("h2", Agent))
	must(t, p.Kill("h2", Both))
	must(t, p.Start(ctx, "h2"))
	up(t, p)
	must(t, p.SetClock("h2", -time.Hour, 500))
	h, _ := p.host("h2")
	b, err := os.ReadFile(h.clockFile())
	if err != nil || len(b) < 16 || int64(binary.LittleEndian.Uint64(b)) != int64(-time.Hour) || binary.LittleEndian.Uint64(b[8:]) != 500 {
		t.Errorf("the clock's file holds %x, %v", b, err)
	}
	must(t, p.Pause("h1", Both)) // closing must let it go on first
}
