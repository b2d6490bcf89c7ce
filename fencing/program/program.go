// Package program runs the small programs of fencing: fence agents and soft-restart commands. Each run has a deadline at
// which its whole process group is killed, an environment of its own, bounded output, and nothing secret on its command line.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Path is the search path that programs get; it is also where they may expect their own helpers.
const Path = "/usr/sbin:/usr/bin:/sbin:/bin"

// DefaultOutput is how many bytes of each output are kept.
const DefaultOutput = 16 << 10

// drain is how long output is read on after a program ended: a child of its own may hold the pipe open for ever.
const drain = 500 * time.Millisecond

// ErrNotFound: there is no such program, or it may not be run.
var ErrNotFound = errors.New("the program does not exist or cannot be run")

// Spec is one run.
type Spec struct {
	// Path is the absolute path of the program.
	Path string
	// Args are what everybody on the host can read: no secrets.
	Args []string
	// Env is added to the minimal environment: PATH and LC_ALL=C.
	Env []string
	// Stdin is what the program reads. Secrets travel here.
	Stdin string
	// MaxOutput bounds each output; 0 is DefaultOutput. The rest is read and dropped.
	MaxOutput int
}

// Output is how a run ended.
type Output struct {
	// Code is the exit status, or -1 when a signal ended it.
	Code           int
	Stdout, Stderr string
	// Truncated: there was more output than is kept.
	Truncated bool
	Took      time.Duration
}

// Run runs a program to its end. An exit status other than 0 is not an error: the caller knows what it means. When ctx ends
// first the process group is killed, and the error is ctx's, with what there was of output. Nothing of the group is left.
func Run(ctx context.Context, s Spec) (Output, error) {
	limit := s.MaxOutput
	if limit == 0 {
		limit = DefaultOutput
	}
	stdout, stderr := &limited{max: limit}, &limited{max: limit}
	began := time.Now()
	cmd, err := start(ctx, func() *exec.Cmd {
		cmd := exec.Command(s.Path, s.Args...) //nolint:noctx // its whole group is killed at ctx's end, see wait
		cmd.Env = append([]string{"PATH=" + Path, "LC_ALL=C"}, s.Env...)
		cmd.Dir = "/"
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.Stdin), stdout, stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.WaitDelay = drain
		return cmd
	})
	if err != nil {
		return Output{}, err
	}
	err = wait(ctx, cmd)
	out := Output{
		Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String(),
		Truncated: stdout.cut || stderr.cut, Took: time.Since(began),
	}
	return out, err
}

// start starts the program. One that is just being written, as in an upgrade, is tried again for a moment.
func start(ctx context.Context, prepare func() *exec.Cmd) (*exec.Cmd, error) {
	const tries = 50
	for i := 1; ; i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		cmd := prepare()
		err := cmd.Start()
		if err == nil {
			return cmd, nil
		}
		if !errors.Is(err, syscall.ETXTBSY) || i == tries {
			return nil, startError(cmd.Path, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// startError tells a missing program from other failures.
func startError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC) {
		return fmt.Errorf("starting %s: %w: %w", path, ErrNotFound, err)
	}
	return fmt.Errorf("starting %s: %w", path, err)
}

// wait returns when the program has ended and nothing of its group is left.
func wait(ctx context.Context, cmd *exec.Cmd) error {
	g := &group{id: cmd.Process.Pid}
	stop := context.AfterFunc(ctx, g.kill)
	g.awaitExit()
	late := ctx.Err()
	g.kill() // what it left behind
	stop()
	g.close() // from here on the number may be another's
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case late != nil:
		return late
	case err == nil, errors.As(err, &exit), errors.Is(err, exec.ErrWaitDelay), errors.Is(err, syscall.EPIPE):
		return nil // the exit status tells, and unread input is the program's business
	}
	return fmt.Errorf("running %s: %w", cmd.Path, err)
}

// group is a process group whose leader is our child.
type group struct {
	id     int
	mu     sync.Mutex // guards closed, and is held while killing: the leader is not reaped meanwhile
	closed bool
}

// awaitExit waits until the leader has ended, and leaves it as a zombie, so that its number stays its own.
func (g *group) awaitExit() {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, g.id, &info, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (g *group) kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		_ = syscall.Kill(-g.id, syscall.SIGKILL)
	}
}

func (g *group) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// limited keeps the first max bytes and drops the others. Package exec writes to it from one goroutine.
type limited struct {
	mu  sync.Mutex // guards buf and cut: after WaitDelay exec may leave its goroutine behind for a moment
	max int
	buf bytes.Buffer
	cut bool
}

var _ io.Writer = (*limited)(nil)

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	room := l.max - l.buf.Len()
	if room < len(p) {
		l.cut = true
	}
	l.buf.Write(p[:min(len(p), max(0, room))])
	return len(p), nil
}

func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
