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
	wake *os.File // closing it ends the wait
	wg   sync.WaitGroup
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
}
