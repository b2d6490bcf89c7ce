package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// restartDelay is how long an agent that died by itself stays down, as a service manager would have it.
	restartDelay = 2 * time.Second
	// stopGrace bounds an ordered stop before SIGKILL.
	stopGrace = 20 * time.Second
)

// errOff says that the agent is not to run any more.
var errOff = errors.New("the host was stopped meanwhile")

// run keeps the agent running while it is wanted, until ctx ends; then it stops it in order and waits.
func (h *host) run(ctx context.Context) {
	for h.awaitWanted(ctx) {
		if err := h.runOnce(ctx); err != nil && !errors.Is(err, errOff) {
			h.log.Error("the agent could not be started", "error", err)
		}
		h.pause(ctx)
	}
}

// awaitWanted waits until there is to be an agent. False: ctx ended.
func (h *host) awaitWanted(ctx context.Context) bool {
	for {
		h.mu.Lock()
		want, wake := h.want && (h.restart || h.again || !h.died()), h.wake
		h.mu.Unlock()
		if ctx.Err() != nil {
			return false
		}
		if want {
			return true
		}
		select {
		case <-wake:
		case <-ctx.Done():
		}
	}
}

// setWant says what is wanted and wakes run.
func (h *host) setWant(want bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.want = want
	h.signal()
}

// signal wakes run. Caller holds mu.
func (h *host) signal() {
	close(h.wake)
	h.wake = make(chan struct{})
}

// runOnce starts the agent and returns when it has exited. When ctx ends it is told to stop, then killed.
func (h *host) runOnce(ctx context.Context) error {
	cmd, from, err := h.launch()
	if err != nil {
		return err
	}
	h.mu.Lock()
	gone := h.gone
	h.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { h.terminate(cmd, gone) })
	defer stop()
	err = cmd.Wait()
	h.exited(ctx, cmd.Process.Pid, from, err)
	return nil
}

// launch forks the agent with its output in the log, unless it is not wanted any more. from is where its words begin there.
func (h *host) launch() (cmd *exec.Cmd, from int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.want {
		return nil, 0, errOff
	}
	log, err := os.OpenFile(h.p.Logs(h.name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("opening the log of %s: %w", h.name, err)
	}
	defer log.Close()
	if fi, err := log.Stat(); err == nil {
		from = fi.Size()
	}
	cmd = h.command()
	cmd.Stdout, cmd.Stderr = log, log
	if err := h.p.spawn.Start(cmd); err != nil {
		h.record(Exit{Host: h.name, At: time.Now(), Reason: "it could not be started: " + err.Error()})
		return nil, 0, err
	}
	h.pid, h.gone, h.again = cmd.Process.Pid, make(chan struct{}), false
	h.log.Info("the agent was started", "pid", h.pid)
	return cmd, from, nil
}

// exited records the end of an agent and has its keeper reaped.
func (h *host) exited(ctx context.Context, pid int, from int64, status error) {
	h.adopt()
	text, asked := "exit status 0", ctx.Err() != nil
	if status != nil {
		text = status.Error()
	}
	panicked := panicText(h.p.Logs(h.name), from)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.record(Exit{Host: h.name, PID: pid, At: time.Now(), Reason: text, Told: asked || !h.want, Panic: panicked})
	h.pid = 0
	close(h.gone)
	h.log.Info("the agent has exited", "pid", pid, "status", text)
}

// adopt sees to it that keepers and exports which have lost their agent are reaped when they end. Their end may take a while: keepers
// free the leases first, and exports go on as long as their volumes are attached.
func (h *host) adopt() {
	for _, pid := range append(h.keeperPIDs(), h.exportPIDs()...) {
		h.mu.Lock()
		known := h.keepers[pid]
		h.keepers[pid] = true
		h.mu.Unlock()
		if !known {
			h.orphans.Go(func() { reapAtEnd(pid) })
		}
	}
}

// terminate asks the agent to stop, and kills it when it takes too long.
func (h *host) terminate(cmd *exec.Cmd, gone <-chan struct{}) {
	_ = cmd.Process.Signal(unix.SIGTERM) // it may have exited
	t := time.NewTimer(stopGrace)
	defer t.Stop()
	select {
	case <-gone:
	case <-t.C:
		h.log.Warn("the agent did not stop in time and is killed", "pid", cmd.Process.Pid, "after", stopGrace)
		_ = cmd.Process.Kill() // it may have exited
	}
}

// pause waits for the restart delay, or until what is wanted changes.
func (h *host) pause(ctx context.Context) {
	h.mu.Lock()
	wake, wait := h.wake, h.want && h.restart
	h.mu.Unlock()
	if !wait {
		return
	}
	t := time.NewTimer(restartDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}
