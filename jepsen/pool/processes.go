package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/procs"
)

// Part is which of a host's two processes something is done to.
type Part string

// The parts.
const (
	Agent  Part = "agent"
	Keeper Part = "keeper"
	Both   Part = "both"
	// Writers are the agent and the exports.
	Writers Part = "writers"
	// Machine is all that runs on the host: agent, keeper, and the exports of attached volumes, which outlive both.
	Machine Part = "machine"
)

// killTime bounds the wait for processes that were killed.
const killTime = 15 * time.Second

// orphanTime bounds the wait for a keeper that has lost its agent.
const orphanTime = 10 * time.Minute

// family lists the host's processes.
func (h *host) family() ([]int, error) { return procs.Family(0, h.mark()) }

// keeperPIDs are the host's keepers: one, or two while the last agent's is winding down.
func (h *host) keeperPIDs() []int { return h.verbPIDs("keeper") }

// exportPIDs serve the volumes that are attached on the host.
func (h *host) exportPIDs() []int { return h.verbPIDs("export") }

// verbPIDs are the host's processes with a verb of the program.
func (h *host) verbPIDs(verb string) []int {
	all, err := h.family()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(pid int) bool { return !procs.HasArg(pid, verb) })
}

// agentPID is the agent's pid; 0 when there is none.
func (h *host) agentPID() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pid
}

// pids are the processes of a part, the agent last.
func (h *host) pids(part Part) (pids []int, err error) {
	agent := h.agentPID()
	switch part {
	case Agent:
	case Keeper:
		return h.keeperPIDs(), nil
	case Both:
		pids = h.keeperPIDs()
	case Writers:
		pids = h.exportPIDs()
	case Machine:
		all, err := h.family()
		if err != nil {
			return nil, err
		}
		pids = slices.DeleteFunc(all, func(pid int) bool { return pid == agent })
	default:
		return nil, fmt.Errorf("a host has no part %q", part)
	}
	if agent != 0 {
		pids = append(pids, agent)
	}
	return pids, nil
}

// Pids are a host's agent and its keeper; 0 where there is none.
func (p *Pool) Pids(name string) (agent, keeper int) {
	h, err := p.host(name)
	if err != nil {
		return 0, 0
	}
	agent = h.agentPID()
	for _, pid := range h.keeperPIDs() {
		if keeper == 0 || parent(pid) == agent {
			keeper = pid
		}
	}
	return agent, keeper
}

// parent reads who started a process, or adopted it.
func parent(pid int) int {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1]) // the kernel writes a number
	return n
}

// Pause stops processes of a host with SIGSTOP. Their connections and leases stay as they are.
func (p *Pool) Pause(name string, part Part) error { return p.signal(name, part, unix.SIGSTOP) }

// Resume lets stopped processes go on.
func (p *Pool) Resume(name string, part Part) error { return p.signal(name, part, unix.SIGCONT) }

func (p *Pool) signal(name string, part Part, s unix.Signal) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	pids, err := h.pids(part)
	if err != nil {
		return err
	}
	if len(pids) == 0 && s == unix.SIGSTOP {
		return fmt.Errorf("stopping the %s of %s: it does not run", part, name)
	}
	for _, pid := range pids {
		err = errors.Join(err, signalPID(pid, s))
	}
	if err != nil || s != unix.SIGSTOP {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	return poll(ctx, fmt.Sprintf("the %s of %s has stopped", part, name), func() error { return allStopped(pids) })
}

// allStopped says which thread still runs: the signal is on its way for a moment. One that waits for a disk stops afterwards.
func allStopped(pids []int) error {
	for _, pid := range pids {
		stats, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "stat"))
		if err != nil {
			return err
		}
		for _, path := range stats {
			b, err := os.ReadFile(path)
			if err != nil {
				continue // the thread has ended
			}
			state := strings.TrimSpace(string(b[strings.LastIndexByte(string(b), ')')+1:]))
			if !strings.ContainsAny(state[:1], "TtDZX") {
				return fmt.Errorf("a thread of process %d still runs", pid)
			}
		}
	}
	return nil
}

// signalPID sends a signal; a process that has exited is no error.
func signalPID(pid int, s unix.Signal) error {
	h, err := procs.Open(pid)
	if errors.Is(err, procs.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Signal(s)
}

// reapAtEnd takes the exit status of a keeper that was left to us.
func reapAtEnd(pid int) {
	ctx, cancel := context.WithTimeout(context.Background(), orphanTime)
	defer cancel()
	_ = procs.WaitGone(ctx, pid) // its end is all that is asked for
}

// open takes handles on all processes that still run.
func open(pids []int) (handles []*procs.Handle, err error) {
	for _, pid := range pids {
		h, err := procs.Open(pid)
		if errors.Is(err, procs.ErrGone) {
			continue
		}
		if err != nil {
			closeHandles(handles)
			return nil, err
		}
		handles = append(handles, h)
	}
	return handles, nil
}

func closeHandles(handles []*procs.Handle) {
	for _, h := range handles {
		h.Close()
	}
}

// sweepProcesses makes sure at the end that nothing of the host runs: keepers get the time for an ordered exit, then a kill.
func (h *host) sweepProcesses() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	// Exports outlive their agent, and keepers wait for them: what is attached now is attached for good.
	if err := h.kill(h.exportPIDs(), nil); err != nil {
		return err
	}
	pids, err := h.family()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if procs.WaitGone(ctx, pid) != nil { // it takes too long
			h.log.Warn("a process did not end in time and is killed", "pid", pid, "after", stopGrace)
		}
	}
	err = h.killAll(nil)
	h.orphans.Wait()
	return err
}
