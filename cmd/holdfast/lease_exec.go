package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// Exit statuses of lease acquire --exec besides those of the command.
const (
	exitLeaseLost   = 120 // the lease was lost, or nobody can tell, while the command ran
	exitNotRun      = 121 // the command was not run
	exitCannotExec  = 126 // as a shell has it
	exitNoSuchThing = 127 // as a shell has it
)

// statusError ends the program with a status of its own.
type statusError struct {
	status int
	err    error // nil: nothing to say
}

// Error implements error.
func (e statusError) Error() string { return fmt.Sprint(e.err) }

// Unwrap gives the cause.
func (e statusError) Unwrap() error { return e.err }

// notRun gives an error that came before the command its status; wrong usage stays that.
func notRun(err error) error {
	var st statusError
	var usage usageError
	if err == nil || errors.As(err, &st) || errors.As(err, &usage) {
		return err
	}
	return statusError{exitNotRun, err}
}

// execUnderLease takes the lease for this process, runs the command as a child that is tied to it too, and gives the lease
// back when the child has ended.
func (g *global) execUnderLease(cmd *cobra.Command, args []string, o acquireOptions) error {
	if len(args) < 2 || o.pid != 0 {
		return usagef("--exec comes last, with the command and its arguments behind it, and without --pid")
	}
	id, err := checkLeaseID(args[0])
	if err != nil {
		return err
	}
	me, err := processOf(os.Getpid())
	if err != nil {
		return err
	}
	return g.withLeases(cmd, o.domain, func(c *client.Client, dom string) error {
		u := &underLease{client: c, domain: dom, id: id, who: api.LeaseFor{VM: o.vm, Processes: []api.LeaseProcess{me}}}
		if _, err := waitForLease(cmd.Context(), c, dom, id, u.who, o.wait); err != nil {
			return err
		}
		return u.run(cmd.Context(), args[1:])
	})
}

// underLease is a lease that this process holds for a child.
type underLease struct {
	client     *client.Client
	domain, id string
	who        api.LeaseFor
}

// run starts the command, waits for it, and releases. The thread must live as long as the child: the kernel kills the
// child when the thread that made it ends.
func (u *underLease) run(ctx context.Context, args []string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// What should end us ends the child, and us after it: the lease must not be freed while the child runs.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	child, err := u.start(ctx, args)
	if err != nil {
		return errors.Join(err, u.release(ctx))
	}
	done := make(chan struct{})
	go passOn(child.Process, signals, done)
	waitErr := child.Wait()
	close(done)
	if err := u.release(ctx); err != nil {
		return statusError{exitLeaseLost, fmt.Errorf("the lease was not held to the end of the command (%s): %w", endOf(child, waitErr), err)}
	}
	if s := statusOf(child); s != 0 {
		return statusError{status: s}
	}
	return nil
}

// start makes the child, ties it to the lease while it still waits, and lets it go.
func (u *underLease) start(ctx context.Context, args []string) (*exec.Cmd, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	child := exec.Command(self(), append([]string{"lease", execChildVerb, "--"}, args...)...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.ExtraFiles = []*os.File{r}
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = child.Start()
	_ = r.Close()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", args[0], err)
	}
	if err = u.tie(ctx, child.Process.Pid); err == nil {
		_, err = w.Write([]byte{1})
	}
	if err != nil {
		_ = child.Process.Kill()
		_ = child.Wait()
		return nil, err
	}
	return child, nil
}

// tie adds the child to the processes of the lease.
func (u *underLease) tie(ctx context.Context, pid int) error {
	p, err := processOf(pid)
	if err != nil {
		return err
	}
	with := u.who
	with.Processes = append([]api.LeaseProcess{u.who.Processes[0]}, p)
	_, err = u.client.AcquireLease(ctx, u.domain, u.id, with)
	return err
}

// release gives the lease back, whatever has become of the context.
func (u *underLease) release(ctx context.Context) error {
	_, err := u.client.ReleaseLease(context.WithoutCancel(ctx), u.domain, u.id, u.who)
	return err
}

// passOn hands signals on to the child. Those of the keyboard reach it by themselves.
func passOn(p *os.Process, signals <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGINT && s != syscall.SIGQUIT {
				_ = p.Signal(s) // it may have ended
			}
		case <-done:
			return
		}
	}
}

// statusOf is the child's status as a shell has it.
func statusOf(child *exec.Cmd) int {
	ws, ok := child.ProcessState.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return child.ProcessState.ExitCode()
}

func endOf(child *exec.Cmd, err error) string {
	if err == nil {
		return "which ended well"
	}
	return fmt.Sprintf("%v, status %d", err, statusOf(child))
}

// execChildVerb is for the child only.
const execChildVerb = "exec-child"

// newLeaseExecChildCommand is the child of lease acquire --exec before it becomes the command.
func newLeaseExecChildCommand() *cobra.Command {
	return &cobra.Command{
		Use: execChildVerb, Hidden: true, Args: cobra.MinimumNArgs(1), DisableFlagsInUseLine: true,
		Short: "Wait until the lease is tied to this process, then become the command (not for people)",
		RunE: func(_ *cobra.Command, args []string) error {
			// One byte says go; the end of the pipe says that the parent is gone.
			gate := os.NewFile(3, "go")
			if _, err := io.ReadFull(gate, make([]byte, 1)); err != nil {
				return statusError{exitNotRun, errors.New("the parent ended before the command was tied to the lease")}
			}
			_ = gate.Close()
			path, err := exec.LookPath(args[0])
			if err != nil {
				return statusError{exitNoSuchThing, err}
			}
			return statusError{exitCannotExec, fmt.Errorf("executing %s: %w", path, syscall.Exec(path, args, os.Environ()))}
		},
	}
}
