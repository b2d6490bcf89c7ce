package keeper

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	doorName = "keeper.sock" // in the agent's directory, which is the owner's alone
	// doorTime is how long the next agent has to say who it is, and to take the answer.
	doorTime = 5 * time.Second
)

// door is the socket through which the next agent takes the keeper over. It is there from the start, so that an agent that
// comes before the end of the last one was seen waits in line; nobody is let in while there is an agent.
type door struct {
	log  *slog.Logger
	dir  *os.File
	l    *net.UnixListener
	page *os.File // handed to the next agent
}

// openDoor makes the socket. The directory's lock is held, so what lies there is of a keeper that is gone.
func openDoor(dir string, page *os.File, log *slog.Logger) (*door, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	path := doorPath(d)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, d.Close())
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket for the next agent: %w", err), d.Close())
	}
	if err := os.Chmod(path, 0o600); err != nil { // the directory keeps others out already
		return nil, errors.Join(err, l.Close(), d.Close())
	}
	return &door{log: log, dir: d, l: l, page: page}, nil
}

// doorPath names the socket by the directory's descriptor: the path of a directory may be longer than a socket's name can be.
func doorPath(dir *os.File) string {
	return filepath.Join("/proc/self/fd", fmt.Sprint(dir.Fd()), doorName)
}

// close turns away whoever waits in line.
func (d *door) close() {
	_ = d.l.Close() // takes the socket out of the directory too
	_ = d.dir.Close()
}

// arrival is the next agent.
type arrival struct {
	conn  net.Conn
	pidfd *os.File
	agent *watcher
}

// close forgets an agent that is served no more.
func (a *arrival) close() {
	if a == nil {
		return
	}
	_ = a.conn.Close()
	a.agent.close()
	_ = a.pidfd.Close()
}

// next waits for the next agent; nil when none came in time, or one that could not say who it is.
func (d *door) next(wait time.Duration) *arrival {
	err := d.l.SetDeadline(time.Now().Add(wait))
	var conn net.Conn
	if err == nil {
		conn, err = d.l.Accept()
	}
	if err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			d.log.Error("the next agent cannot come in", "error", err)
			time.Sleep(wait)
		}
		return nil
	}
	a, err := d.greet(conn)
	if err != nil {
		d.log.Warn("whoever wanted to take the keeper over was turned away", "error", err)
		_ = conn.Close()
		return nil
	}
	return a
}

// greet takes the agent's word, which comes with its pidfd, and hands over the page.
func (d *door) greet(conn net.Conn) (*arrival, error) {
	if err := conn.SetDeadline(time.Now().Add(doorTime)); err != nil {
		return nil, err
	}
	in := &fdReader{conn: conn}
	defer in.close()
	var req request
	if err := readFrame(in, &req); err != nil {
		return nil, fmt.Errorf("reading who comes: %w", err)
	}
	if req.Method != methodAdopt || req.FDs != 1 {
		return nil, fmt.Errorf("%w: method %q with %d descriptors", errFrame, req.Method, req.FDs)
	}
	files, err := in.take(1)
	if err != nil {
		return nil, err
	}
	a := &arrival{conn: conn, pidfd: files[0]}
	if a.agent, err = watchAgent(a.pidfd); err != nil {
		return nil, errors.Join(err, a.pidfd.Close())
	}
	err = writeFrame(&fdWriter{conn, []*os.File{d.page}}, &response{ID: req.ID, PID: os.Getpid()})
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		a.close()
		return nil, fmt.Errorf("answering: %w", err)
	}
	return a, nil
}

// watchAgent waits for the end of the agent behind a descriptor that came from outside.
func watchAgent(f *os.File) (*watcher, error) {
	// Signal 0 tells a pidfd from other descriptors, and fails on a process that has ended.
	if err := unix.PidfdSendSignal(int(f.Fd()), 0, nil, 0); err != nil {
		return nil, fmt.Errorf("the agent's descriptor: %w: %w", ErrProcess, err)
	}
	return watchProcess(int(f.Fd()))
}
