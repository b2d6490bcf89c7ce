package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/leases"
)

// Config says how to start a keeper.
type Config struct {
	// Binary to run; the running one when empty.
	Binary string
	// Args for it; {"keeper"} when nil.
	Args []string
	// Env is added to the agent's environment.
	Env []string
	// Dir is the agent's data directory. Only one keeper runs on it; a new one waits for the old one.
	Dir string
	// LockWait is how long it waits for that; a minute when 0.
	LockWait time.Duration
	// AgentPID is the process whose end frees the leases; this process when 0.
	AgentPID int
	// Stderr gets the keeper's log; the agent's own stderr when nil. With a file the keeper can go on logging when the
	// agent is gone.
	Stderr *os.File
	// Watchdog says what resets the machine when users outlive their leases; see watchdog.ParseSpec. None when empty.
	Watchdog string
	// OnLost is called when a lockspace is lost under which the agent holds leases. It must not block; see Loss.
	OnLost func(Loss)
	// OnRequest is called when another host asks for a resource that is held, once for each request, and OnEvent for each
	// event that a host of a lockspace sends us. They are called one after the other, and may use the Client but for Close.
	OnRequest func(RequestSeen)
	OnEvent   func(lockspace string, e leases.HostEvent)
	// Log is required.
	Log *slog.Logger
}

// Start runs a keeper and waits until it answers. The keeper holds nothing yet.
func Start(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Log == nil || cfg.Dir == "" {
		return nil, errors.New("keeper needs a directory and a logger")
	}
	if _, ok := ctx.Deadline(); !ok {
		return nil, errors.New("starting the keeper needs a deadline")
	}
	c, err := adopt(ctx, cfg)
	if err == nil && c == nil {
		c, err = spawn(cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("starting the keeper: %w", err)
	}
	if _, err := c.call(ctx, &request{Method: methodHello}); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the keeper: %w", err), c.giveUp())
	}
	return c, nil
}

// giveUp ends a client that got no answer: a keeper of its own is killed, one that others' leases depend on is left.
func (c *Client) giveUp() error {
	if c.adopted {
		c.leave()
	} else {
		c.watch.kill()
	}
	<-c.done
	c.loops.Wait()
	return c.err
}

// spawn makes page, sockets and pidfd, starts the process and the loops that serve it.
func spawn(cfg Config) (*Client, error) {
	pageFile, err := newPageFile()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, errors.Join(err, pageFile.Close())
	}
	defer theirs.Close()
	c, err := launch(cfg, pageFile, ours, theirs)
	if err != nil {
		return nil, errors.Join(err, ours.Close(), pageFile.Close())
	}
	c.run()
	return c, nil
}

// launch starts the process and makes its client. The client owns pageFile and ours.
func launch(cfg Config, pageFile *os.File, ours net.Conn, theirs *os.File) (*Client, error) {
	pidfd, err := agentPidfd(cfg.AgentPID)
	if err != nil {
		return nil, err
	}
	defer pidfd.Close()
	p, err := mapPage(pageFile, false)
	if err != nil {
		return nil, err
	}
	c := newClient(cfg, p, pageFile, ours)
	if c.cmd, err = command(cfg, pageFile, theirs, pidfd); err != nil {
		return nil, err
	}
	if err = c.cmd.Start(); err != nil {
		return nil, err
	}
	c.pid = c.cmd.Process.Pid
	if c.watch, err = watchPID(c.pid); err != nil { // its status is not collected yet, so the number is its own
		_ = c.cmd.Process.Kill()
		return nil, errors.Join(err, c.cmd.Wait())
	}
	return c, nil
}

// command is the keeper's command line. It gets a session of its own, so that a signal to the terminal's group does
// not reach it.
func command(cfg Config, files ...*os.File) (*exec.Cmd, error) {
	binary, args := cfg.Binary, cfg.Args
	if binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		binary = self
	}
	if args == nil {
		args = []string{"keeper"}
	}
	cmd := exec.CommandContext(context.Background(), binary, args...) // no context: it outlives the call that starts it, and us
	cmd.Env = append(os.Environ(), "GOGC=25", fmt.Sprintf("GOMEMLIMIT=%d", memoryLimit), envDir+"="+cfg.Dir)
	if cfg.Watchdog != "" {
		cmd.Env = append(cmd.Env, envWatchdog+"="+cfg.Watchdog)
	}
	if cfg.LockWait > 0 {
		cmd.Env = append(cmd.Env, envWait+"="+cfg.LockWait.String())
	}
	cmd.Env = append(cmd.Env, cfg.Env...)
	cmd.ExtraFiles = files
	cmd.Stderr = io.Writer(os.Stderr)
	if cfg.Stderr != nil {
		cmd.Stderr = cfg.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// socketPair gives the agent's end as a connection and the keeper's as a file.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "keeper-theirs")
	f := os.NewFile(uintptr(fds[0]), "keeper-ours")
	defer f.Close()
	ours, err := net.FileConn(f)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// agentPidfd is opened here and inherited, so that it cannot name a process that came later.
func agentPidfd(pid int) (*os.File, error) {
	if pid == 0 {
		pid = os.Getpid()
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open(%d): %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "agent-pidfd"), nil
}
