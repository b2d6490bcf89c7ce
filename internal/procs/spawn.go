package procs

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spawner starts children in sessions of their own that are killed when this process dies, however it dies.
//
// The kernel ties that signal to the thread that forked, not to the process, and Go ends threads as it likes. So one
// goroutine keeps one thread for its life and does all the forking.
type Spawner struct {
	jobs chan job
	done chan struct{}
}

type job struct {
	cmd *exec.Cmd
	err chan error
}

// NewSpawner makes this process the one that orphans of its children are given to, and starts the forking thread.
func NewSpawner() (*Spawner, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("asking to be given orphans: %w", err)
	}
	s := &Spawner{jobs: make(chan job), done: make(chan struct{})}
	go s.run()
	return s, nil
}

func (s *Spawner) run() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	defer close(s.done)
	if unix.Gettid() == unix.Getpid() {
		s.elsewhere()
		return
	}
	s.fork()
}

// elsewhere forks on another thread. The process's first thread is the one that Go never ends, so that closing would
// kill nobody; while this goroutine waits on it, no other one can get it.
func (s *Spawner) elsewhere() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		s.fork()
	}()
	<-done
	runtime.UnlockOSThread()
}

func (s *Spawner) fork() {
	for j := range s.jobs {
		j.err <- j.cmd.Start()
	}
}

// Start starts cmd as the leader of a new session, to be killed with this process. The caller waits for it.
func (s *Spawner) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	j := job{cmd: cmd, err: make(chan error, 1)}
	s.jobs <- j
	return <-j.err
}

// Close ends the forking thread; with it every child that still runs is killed. No Start may follow.
func (s *Spawner) Close() {
	close(s.jobs)
	<-s.done
}
