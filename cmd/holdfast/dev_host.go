package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/procs"
)

const (
	// restartDelay is how long a host that died by itself stays down, as a service manager would have it.
	restartDelay = 2 * time.Second
	// stopGrace bounds an ordered stop before SIGKILL.
	stopGrace = 20 * time.Second
	// killGrace bounds the wait for processes that were killed.
	killGrace = 15 * time.Second
)

// devMark names the host in the environment of everything it starts, so that a keeper is found even in a session of
// its own.
const devMark = "HOLDFAST_DEV_HOST"

// devHost is one host of a dev pool: the agent's process, its power switch and its restarts. Run owns the process;
// Off, On and stopping only change what Run is to do.
type devHost struct {
	name    string
	mark    string
	output  string        // file that the agent's output is appended to; empty: nowhere
	settle  time.Duration // for Evidence: not zero when the LUN is behind a socket
	command func() *exec.Cmd
	spawn   *procs.Spawner
	changed func() // told that pids have changed; must not block
	log     *slog.Logger

	power sync.Mutex // one Off or On at a time

	mu      sync.Mutex    // guards what follows
	powered bool          // wanted: the host has power
	wake    chan struct{} // closed and renewed when powered changes
	pid     int           // of the agent; 0: none
	gone    chan struct{} // closed when the agent of pid has exited
	session int           // of the last agent, whose orphans may still live
}

func newDevHost(name, dataDir string, spawn *procs.Spawner, command func() *exec.Cmd, changed func(), log *slog.Logger) *devHost {
	return &devHost{
		name: name, mark: devMark + "=" + dataDir, command: command, spawn: spawn, changed: changed,
		log: log.With("host", name), powered: true, wake: make(chan struct{}),
	}
}

// Run keeps the agent running while the host has power, until ctx ends; then it stops it in order and waits.
func (h *devHost) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if !h.awaitPower(ctx) {
			break
		}
		if err := h.runOnce(ctx); err != nil {
			h.log.Error("the agent could not be started", "error", err)
		}
		h.pause(ctx)
	}
	return h.sweep()
}

// awaitPower waits until the host is switched on. False: ctx ended.
func (h *devHost) awaitPower(ctx context.Context) bool {
	for {
		h.mu.Lock()
		on, wake := h.powered, h.wake
		h.mu.Unlock()
		if on {
			return true
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return false
		}
	}
}

// runOnce starts the agent and returns when it has exited. When ctx ends it is told to stop, then killed.
func (h *devHost) runOnce(ctx context.Context) error {
	cmd, gone, err := h.start()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { h.terminate(cmd, gone) })
	defer stop()
	err = cmd.Wait()
	h.exited(gone)
	h.log.Info("the agent has exited", "pid", cmd.Process.Pid, "status", exitText(err))
	return nil
}

// start forks the agent and records its pid, unless the power went off meanwhile.
func (h *devHost) start() (*exec.Cmd, chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.powered {
		return nil, nil, errors.New("the host was switched off meanwhile")
	}
	cmd, err := h.fork()
	if err != nil {
		return nil, nil, fmt.Errorf("starting the agent: %w", err)
	}
	h.pid, h.session, h.gone = cmd.Process.Pid, cmd.Process.Pid, make(chan struct{})
	h.log.Info("the agent was started", "pid", h.pid)
	h.changed()
	return cmd, h.gone, nil
}

// fork starts the command with the host's mark and its output in the log. The child has its own copy of the log.
func (h *devHost) fork() (*exec.Cmd, error) {
	cmd := h.command()
	cmd.Env = append(cmd.Environ(), h.mark)
	if h.output != "" {
		log, err := os.OpenFile(h.output, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
	}
	return cmd, h.spawn.Start(cmd)
}

// exited records that the agent is gone.
func (h *devHost) exited(gone chan struct{}) {
	h.mu.Lock()
	h.pid = 0
	close(gone)
	h.mu.Unlock()
	h.changed()
}

// terminate asks the agent to stop, and kills it when it takes too long.
func (h *devHost) terminate(cmd *exec.Cmd, gone <-chan struct{}) {
	_ = cmd.Process.Signal(sigTerm)
	t := time.NewTimer(stopGrace)
	defer t.Stop()
	select {
	case <-gone:
	case <-t.C:
		h.log.Warn("the agent did not stop in time and is killed", "pid", cmd.Process.Pid, "after", stopGrace)
		_ = cmd.Process.Kill()
	}
}

// pause waits for the restart delay, or until power or ctx changes.
func (h *devHost) pause(ctx context.Context) {
	h.mu.Lock()
	wake, on := h.wake, h.powered
	h.mu.Unlock()
	if !on || ctx.Err() != nil {
		return
	}
	t := time.NewTimer(restartDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
	h.reapOrphans(time.Second)
}

// reapOrphans gives what the last agent left behind (its keeper) a moment to finish and takes its exit status.
func (h *devHost) reapOrphans(wait time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	pids, err := h.family()
	if err != nil {
		return
	}
	for _, pid := range pids {
		if ctx.Err() == nil && procs.HasArg(pid, exportVerb) && wait < stopGrace {
			continue // it waits for the next agent
		}
		if err := procs.WaitGone(ctx, pid); err != nil {
			h.log.Warn("a process of the last agent is still there", "pid", pid, "error", err)
		}
	}
}

// sweep makes sure at the end that nothing of the host is left: the keeper gets time for an ordered exit, then a kill. Exports of
// attached volumes, which would go on without their agent, are told to end.
func (h *devHost) sweep() error {
	if err := h.endExports(); err != nil {
		h.log.Warn("attached volumes could not be detached in order", "error", err)
	}
	h.reapOrphans(stopGrace)
	_, err := h.killFamily()
	return err
}

// endExports asks the exports of attached volumes to detach.
func (h *devHost) endExports() error {
	pids, err := h.family()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if !procs.HasArg(pid, exportVerb) {
			continue
		}
		p, err := procs.Open(pid)
		if errors.Is(err, procs.ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(p.Signal(sigTerm), p.Close()); err != nil {
			return err
		}
	}
	return nil
}

// family lists the host's processes: its agent, and all that it or an earlier agent has started.
func (h *devHost) family() ([]int, error) {
	h.mu.Lock()
	session := h.session
	h.mu.Unlock()
	return procs.Family(session, h.mark)
}

// agentPID is the agent's pid; 0 when there is none.
func (h *devHost) agentPID() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pid
}

// Status says whether any process of the host is left.
func (h *devHost) Status() (fencing.State, error) {
	pids, err := h.family()
	if err != nil {
		return fencing.Unknown, err
	}
	if len(pids) > 0 {
		return fencing.On, nil
	}
	return fencing.Off, nil
}

func exitText(err error) string {
	if err == nil {
		return "0"
	}
	return err.Error()
}
