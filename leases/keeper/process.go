package keeper

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watcher waits for the end of a process by its pidfd. The kernel reports it when the last thread is gone, so its
// direct I/O on local devices is over too.
type watcher struct {
	gone chan struct{} // closed at the end of the process
	fd   int
	own  bool     // fd is closed with the watcher
	wake *os.File // closing it ends the wait
	wg   sync.WaitGroup

	mu     sync.Mutex // guards closed, and fd against its closing
	closed bool
}

// watchProcess starts waiting.
func watchProcess(pidfd int) (*watcher, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("watching a process: %w", err)
	}
	// Asked now, so that a wrong descriptor is an error and not a dead process.
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0); err != nil {
		return nil, fmt.Errorf("polling pidfd: %w", err)
	}
	pw := &watcher{gone: make(chan struct{}), fd: pidfd, wake: w}
	pw.wg.Go(func() {
		defer r.Close()
		pw.wait(int(r.Fd()))
	})
	return pw, nil
}

func (w *watcher) wait(wake int) {
	for {
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
		case fds[0].Revents&unix.POLLIN != 0:
			close(w.gone)
			return
		case err != nil || fds[1].Revents != 0 || fds[0].Revents != 0:
			return
		}
	}
}

// close ends the wait.
func (w *watcher) close() {
	_ = w.wake.Close()
	w.wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.own {
		_ = unix.Close(w.fd)
	}
}

// kill ends the process, if it is watched still.
func (w *watcher) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		_ = unix.PidfdSendSignal(w.fd, unix.SIGKILL, nil, 0) // it may have ended
	}
}

// process is a process that a lease is tied to, held by its pidfd.
type process struct {
	pid  int
	file *os.File
	gone chan struct{} // closed when it has ended
}

// takeProcess starts waiting for the end of the process behind a pidfd. It owns the file from here on.
func takeProcess(pid int, file *os.File) (*process, error) {
	// Signal 0 tells a pidfd from other descriptors, and fails on a process that has ended already.
	if err := unix.PidfdSendSignal(int(file.Fd()), 0, nil, 0); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("process %d: %w: %w", pid, ErrProcess, err)
	}
	// Fd made it blocking; the runtime's poller wants it otherwise.
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	_ = file.Close()
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return &process{pid: pid, file: os.NewFile(uintptr(fd), "pidfd"), gone: make(chan struct{})}, nil
}

// wait returns at the end of the process, or when the descriptor is closed.
func (p *process) wait() {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	ended := false
	_ = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		ended = n == 1 && err == nil && fds[0].Revents&unix.POLLIN != 0
		return ended
	})
	if ended {
		close(p.gone)
	}
}

// signal sends sig; a process that has ended is no error.
func (p *process) signal(sig unix.Signal) error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if sent == unix.ESRCH {
		return nil
	}
	return sent
}

// running says whether it has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}
