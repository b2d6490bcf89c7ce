package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/procs"
)

// devProcess is a `holdfast dev` in a process of its own, seen from outside: demo, benchmark and end-to-end tests use
// it as a person would. It is not safe for concurrent use, but its clients are.
type devProcess struct {
	dir     string
	cmd     *exec.Cmd
	spawn   *procs.Spawner
	started time.Time
	exited  chan error
	ended   bool // stop or killSupervisor has been called
	clients []*client.Client
}

const (
	devStartTimeout = 60 * time.Second
	devStopTimeout  = 60 * time.Second
)

// startDev starts a supervisor on dir and waits until its pool is ready. Its output goes to the file log.
func startDev(ctx context.Context, dir, log string, args ...string) (*devProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	return startDevBinary(ctx, self, dir, log, args...)
}

// startDevBinary is startDev for another build of the program.
func startDevBinary(ctx context.Context, binary, dir, log string, args ...string) (*devProcess, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the supervisor's log: %w", err)
	}
	defer out.Close()
	p := &devProcess{dir: dir, started: time.Now(), exited: make(chan error, 1)}
	if p.spawn, err = procs.NewSpawner(); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(binary, append([]string{"dev", "--data-dir", dir}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.spawn.Start(p.cmd); err != nil {
		p.spawn.Close()
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	if err := p.awaitReady(ctx, log); err != nil {
		_, _ = p.stop() // what went wrong before says more
		return nil, err
	}
	return p, nil
}

// awaitReady waits for dev.json, or for the supervisor's early end.
func (p *devProcess) awaitReady(ctx context.Context, log string) error {
	ctx, cancel := context.WithTimeout(ctx, devStartTimeout)
	defer cancel()
	var ended error
	err := poll(ctx, "dev.json appears", func() error {
		select {
		case err := <-p.exited:
			p.exited <- err
			ended = fmt.Errorf("the supervisor ended: %w; its last words:\n%s", orDone(err), strings.Join(tail(log, 20), "\n"))
			return nil
		default:
		}
		return p.fresh()
	})
	if err := errors.Join(err, ended); err != nil {
		return err
	}
	for _, h := range p.file().Hosts {
		c, err := client.New(client.Config{Address: h.HTTP})
		if err != nil {
			return fmt.Errorf("making a client for %s: %w", h.Name, err)
		}
		p.clients = append(p.clients, c)
	}
	return nil
}

// fresh says whether dev.json is this supervisor's: one that was killed leaves its own behind.
func (p *devProcess) fresh() error {
	fi, err := os.Stat(devFilePath(p.dir))
	if err != nil {
		return err
	}
	if fi.ModTime().Before(p.started) {
		return errors.New("dev.json is an earlier supervisor's")
	}
	return nil
}

func orDone(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// readDevFile reads DIR/dev.json.
func readDevFile(dir string) (devFile, error) {
	b, err := os.ReadFile(devFilePath(dir))
	if err != nil {
		return devFile{}, fmt.Errorf("reading dev.json: %w", err)
	}
	var f devFile
	if err := json.Unmarshal(b, &f); err != nil {
		return devFile{}, fmt.Errorf("reading dev.json: %w", err)
	}
	return f, nil
}

// file is dev.json as it is now; empty when the pool is not ready.
func (p *devProcess) file() devFile {
	f, err := readDevFile(p.dir)
	if err != nil {
		return devFile{}
	}
	return f
}

// client talks to the i-th host.
func (p *devProcess) client(i int) *client.Client { return p.clients[i] }

// index is the place of a host in dev.json; -1: there is none of that name.
func (p *devProcess) index(host string) int {
	for i, h := range p.file().Hosts {
		if h.Name == host {
			return i
		}
	}
	return -1
}

// other is the place of some host that is not the one named.
func (p *devProcess) other(host string) int {
	for i, h := range p.file().Hosts {
		if h.Name != host {
			return i
		}
	}
	return 0
}

// spm waits until the role is served and says by whom.
func (p *devProcess) spm(ctx context.Context) (spm api.SPM, err error) {
	err = poll(ctx, "an SPM serves", func() (err error) {
		for _, c := range p.clients {
			spm, _, err = c.SPM(ctx, client.Read{})
			if err == nil && spm.State == api.SPMServing {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("the SPM is %s", spm.State))
	})
	return spm, err
}

// awaitUp waits until every host is up, an SPM serves and dev.json has every pid.
func (p *devProcess) awaitUp(ctx context.Context) error {
	return poll(ctx, "every host is up", func() error {
		if _, err := readyStatus(ctx, p.clients); err != nil {
			return err
		}
		f := p.file()
		for _, h := range f.Hosts {
			if h.PID == 0 || h.KeeperPID == 0 {
				return errors.New(h.Name + " has no agent or keeper")
			}
		}
		return nil
	})
}

// kill sends SIGKILL to agent and keeper of a host, the keeper first, so that it has no time to free anything.
func (p *devProcess) kill(host string) (string, error) {
	i := p.index(host)
	if i < 0 {
		return "", fmt.Errorf("dev.json has no host %q", host)
	}
	h := p.file().Hosts[i]
	for _, pid := range []int{h.KeeperPID, h.PID} {
		if err := killPID(pid); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s: agent pid %d, keeper pid %d", host, h.PID, h.KeeperPID), nil
}

// killAgent sends SIGKILL to a host's agent alone.
func (p *devProcess) killAgent(host string) error {
	i := p.index(host)
	if i < 0 {
		return fmt.Errorf("dev.json has no host %q", host)
	}
	return killPID(p.file().Hosts[i].PID)
}

func killPID(pid int) error {
	if pid <= 0 {
		return errors.New("dev.json has no pid of a process to kill")
	}
	h, err := procs.Open(pid)
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer h.Close()
	return h.Signal(sigKill)
}

// stop stops the supervisor as Ctrl-C does, and makes sure that no process of any host is left. It returns how many
// processes there were. A second call does nothing.
func (p *devProcess) stop() (int, error) {
	if p.ended {
		return 0, nil
	}
	p.ended = true
	f := p.file()
	for _, c := range p.clients {
		c.Close()
	}
	_ = p.cmd.Process.Signal(os.Interrupt)
	t := time.NewTimer(devStopTimeout)
	defer t.Stop()
	var err error
	select {
	case err = <-p.exited:
	case <-t.C:
		_ = p.cmd.Process.Kill()
		err = errors.Join(fmt.Errorf("the supervisor did not stop within %s", devStopTimeout), <-p.exited)
	}
	p.spawn.Close()
	return 1 + 2*len(f.Hosts), errors.Join(err, p.leftOvers(f))
}

// killSupervisor kills the supervisor as a power cut would, and leaves its hosts to the kernel.
func (p *devProcess) killSupervisor() {
	p.ended = true
	_ = p.cmd.Process.Kill()
	<-p.exited //nolint:errcheck // it says that it was killed, as ordered
	for _, c := range p.clients {
		c.Close()
	}
	p.spawn.Close()
}

// leftOvers says which processes still run.
func (p *devProcess) leftOvers(f devFile) error {
	for _, h := range f.Hosts {
		pids, err := procs.Family(0, devMark+"="+h.DataDir)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			return errors.New("a process of " + h.Name + " was left behind: pid " + strconv.Itoa(pid))
		}
	}
	return nil
}
