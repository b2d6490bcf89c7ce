package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/procs"
)

// Off kills the host's agent and keeper and returns when the last of its processes has exited. The host stays off
// until On, whoever restarts what.
func (h *devHost) Off(ctx context.Context) (fencing.Evidence, error) {
	h.power.Lock()
	defer h.power.Unlock()
	h.setPower(false)
	killed, err := h.killFamily()
	if err != nil {
		return fencing.Evidence{}, fmt.Errorf("switching off %s: %w: %w", h.name, fencing.ErrNotConfirmed, err)
	}
	if err := h.awaitExit(ctx); err != nil {
		return fencing.Evidence{}, fmt.Errorf("switching off %s: %w: %w", h.name, fencing.ErrNotConfirmed, err)
	}
	ev := fencing.Evidence{Kind: fencing.KindProcessExit, Detail: killed, Settle: h.settle, At: time.Now().UTC()}
	h.log.Info("the host was switched off", "evidence", ev.Detail)
	return ev, nil
}

// On gives the host power; Run starts the agent.
func (h *devHost) On() {
	h.power.Lock()
	defer h.power.Unlock()
	h.setPower(true)
}

// setPower says what is wanted and wakes Run.
func (h *devHost) setPower(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.powered == on {
		return
	}
	h.powered = on
	close(h.wake)
	h.wake = make(chan struct{})
}

// killFamily kills all processes of the host and waits for every one. It looks again until none is left, because a
// process may have forked between the look and the kill. The text names what was killed.
func (h *devHost) killFamily() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), killGrace)
	defer cancel()
	var seen []string
	for {
		pids, err := h.family()
		if err != nil {
			return "", err
		}
		if len(pids) == 0 {
			return evidenceText(seen), nil
		}
		killed, err := h.killAll(ctx, pids)
		if err != nil {
			return "", err
		}
		seen = append(seen, killed...)
	}
}

// killAll signals all processes before it waits for the first, as a power switch would: the keeper must not have the
// time to see the agent go and to free the lease in good order.
func (h *devHost) killAll(ctx context.Context, pids []int) ([]string, error) {
	var handles []*procs.Handle
	defer func() {
		for _, p := range handles {
			p.Close()
		}
	}()
	var names []string
	for _, pid := range h.agentLast(pids) {
		p, err := procs.Open(pid)
		if errors.Is(err, procs.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		handles = append(handles, p)
		names = append(names, fmt.Sprintf("%s pid %d", processRole(pid), pid))
		if err := p.Signal(sigKill); err != nil {
			return nil, err
		}
	}
	for _, p := range handles {
		if err := h.awaitKilled(ctx, p); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// agentLast puts the agent behind the others.
func (h *devHost) agentLast(pids []int) []int {
	agent := h.agentPID()
	slices.SortFunc(pids, func(a, b int) int {
		return cmp.Or(cmp.Compare(b2i(a == agent), b2i(b == agent)), cmp.Compare(a, b))
	})
	return pids
}

// awaitKilled waits until a process has exited. The agent's exit status is left to Run, that of an orphan is taken.
func (h *devHost) awaitKilled(ctx context.Context, p *procs.Handle) error {
	if err := p.Wait(ctx); err != nil {
		return err
	}
	if p.PID() != h.agentPID() {
		p.Reap()
	}
	return nil
}

// awaitExit waits until Run has seen the agent exit.
func (h *devHost) awaitExit(ctx context.Context) error {
	h.mu.Lock()
	pid, gone := h.pid, h.gone
	h.mu.Unlock()
	if pid == 0 {
		return nil
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func processRole(pid int) string {
	switch {
	case procs.HasArg(pid, "keeper"):
		return "keeper"
	case procs.HasArg(pid, exportVerb):
		return "export"
	}
	return "agent"
}

func evidenceText(seen []string) string {
	if len(seen) == 0 {
		return "no process of the host was running"
	}
	return "killed and waited for: " + strings.Join(seen, ", ")
}
