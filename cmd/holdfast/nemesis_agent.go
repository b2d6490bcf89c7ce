package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/procs"
)

// localAgent is the agent behind a unix socket. Whom it may hurt the kernel decides.
// It is not safe for concurrent use.
type localAgent struct {
	socket  string
	stopped *procs.Handle // nil: it does not stand still
}

// localAgent is the agent of the address, if that is a socket of this machine.
func (g *global) localAgent() (*localAgent, bool) {
	addr := cmp.Or(g.address, os.Getenv("HOLDFAST_ADDR"), client.DefaultAddress)
	path, ok := strings.CutPrefix(addr, "unix://")
	return &localAgent{socket: path}, ok
}

// pid asks the kernel who listens on the socket.
func (a *localAgent) pid() (int, error) {
	conn, err := net.DialTimeout("unix", a.socket, time.Second) //nolint:noctx // it has a time-out
	if err != nil {
		return 0, fmt.Errorf("no agent listens on the socket: %w", err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("asking who listens on %s: %w", a.socket, err)
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, cerr); err != nil {
		return 0, fmt.Errorf("asking who listens on %s: %w", a.socket, err)
	}
	pid := int(cred.Pid)
	if pid <= 1 || pid == os.Getpid() || !procs.HasArg(pid, "agent") {
		return 0, fmt.Errorf("process %d, which listens on %s, is not an agent of this machine", pid, a.socket)
	}
	return pid, nil
}

// Kill kills the agent and waits until another one answers.
func (a *localAgent) Kill(ctx context.Context) error {
	pid, err := a.pid()
	if err != nil {
		return err
	}
	if err := procs.Kill(ctx, pid); err != nil {
		return fmt.Errorf("killing the agent: %w", err)
	}
	c, err := client.New(client.Config{Address: "unix://" + a.socket, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer c.Close()
	return poll(ctx, "something has started the agent again", func() error {
		h, err := c.Health(ctx)
		if err == nil && !h.OK {
			err = errors.New(h.Reason)
		}
		return err
	})
}

// Stop stops the agent. The process is kept hold of: one that stands still may not answer at its socket for long.
func (a *localAgent) Stop() error {
	pid, err := a.pid()
	if err != nil {
		return err
	}
	if a.stopped, err = procs.Open(pid); err != nil {
		return fmt.Errorf("stopping the agent: %w", err)
	}
	return a.stopped.Signal(unix.SIGSTOP)
}

// Continue lets it go on.
func (a *localAgent) Continue() error {
	if a.stopped == nil {
		return nil
	}
	h := a.stopped
	a.stopped = nil
	if err := errors.Join(h.Signal(unix.SIGCONT), h.Close()); err != nil {
		return fmt.Errorf("letting the agent go on: %w; send SIGCONT to process %d", err, h.PID())
	}
	return nil
}
