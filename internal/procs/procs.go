// Package procs starts, finds, kills and waits for processes in a way that can serve as a proof that they are gone.
//
// A Spawner starts children that die with their parent. A Handle is a pidfd, so that neither a signal nor a wait can
// hit another process that got the same number. Family finds what a child has started and left behind.
package procs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that the process had exited before it could be looked at.
var ErrGone = errors.New("the process has exited")

// pollSlice bounds how long a wait goes without looking at its context.
const pollSlice = 20 * time.Millisecond

// Handle is one process, safe against reuse of its number. It is not safe for concurrent use.
type Handle struct {
	pid int
	fd  int
}

// Open takes a handle on a running process. It fails with ErrGone when there is none of that number.
func Open(pid int) (*Handle, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("opening process %d: %w", pid, err)
	}
	return &Handle{pid: pid, fd: fd}, nil
}

// PID is the number of the process.
func (h *Handle) PID() int { return h.pid }

// Signal sends a signal; a process that has exited is no error.
func (h *Handle) Signal(s unix.Signal) error {
	err := unix.PidfdSendSignal(h.fd, s, nil, 0)
	if err == nil || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return fmt.Errorf("sending %s to process %d: %w", s, h.pid, err)
}

// Wait returns nil once the process has exited: all its threads are gone, and with them every system call it had
// under way. An orphan that was given to this process is reaped.
func (h *Handle) Wait(ctx context.Context) error {
	for {
		gone, err := h.exited(pollSlice)
		if err != nil {
			return err
		}
		if gone {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for process %d to exit: %w", h.pid, ctx.Err())
		}
	}
}

// exited polls the pidfd, which becomes readable when the process has exited.
func (h *Handle) exited(wait time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(wait.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return false, fmt.Errorf("polling process %d: %w", h.pid, err)
	}
	return n > 0, nil
}

// Close lets go of the process.
func (h *Handle) Close() error { return unix.Close(h.fd) }

// Reap takes the exit status of an orphan that was given to this process, after Wait, so that no zombie stays. It must
// not be called for a process that os/exec waits for. For one that is no child it does nothing.
func (h *Handle) Reap() {
	_, _ = unix.Wait4(h.pid, nil, unix.WNOHANG, nil)
}

// Kill sends SIGKILL to an orphan or a stranger, waits until it has exited and reaps it. One that has exited before is
// success.
func Kill(ctx context.Context, pid int) error {
	h, err := Open(pid)
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Signal(unix.SIGKILL); err != nil {
		return err
	}
	return h.waitAndReap(ctx)
}

// WaitGone waits until an orphan or a stranger has exited by itself and reaps it.
func WaitGone(ctx context.Context, pid int) error {
	h, err := Open(pid)
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.Close()
	return h.waitAndReap(ctx)
}

func (h *Handle) waitAndReap(ctx context.Context) error {
	if err := h.Wait(ctx); err != nil {
		return err
	}
	h.Reap()
	return nil
}
