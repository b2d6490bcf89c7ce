package keeper

import (
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxQueuedFDs bounds the descriptors that came and were not asked for; more are closed.
const maxQueuedFDs = 64

// fdReader reads a socket and keeps the descriptors that arrive with the bytes, in their order. The kernel hands them
// over with the first byte of the write that they were sent with, so whoever has read a frame has its descriptors.
type fdReader struct {
	conn net.Conn

	mu  sync.Mutex // guards fds
	fds []int
}

// Read implements io.Reader.
func (r *fdReader) Read(p []byte) (int, error) {
	conn, ok := r.conn.(*net.UnixConn)
	if !ok { // a test's own
		return r.conn.Read(p)
	}
	oob := make([]byte, unix.CmsgSpace(4*maxProcesses))
	n, oobn, _, _, err := conn.ReadMsgUnix(p, oob)
	if oobn > 0 {
		r.keep(oob[:oobn])
	}
	return n, err
}

// keep takes descriptors out of a control message.
func (r *fdReader) keep(oob []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if len(r.fds) == maxQueuedFDs {
				_ = unix.Close(fd)
				continue
			}
			r.fds = append(r.fds, fd)
		}
	}
}

// take gives the next n descriptors to the caller.
func (r *fdReader) take(n int) ([]*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n < 0 || n > len(r.fds) {
		return nil, fmt.Errorf("%w: %d descriptors announced, %d came", errFrame, n, len(r.fds))
	}
	var files []*os.File
	for _, fd := range r.fds[:n] {
		files = append(files, os.NewFile(uintptr(fd), "passed"))
	}
	r.fds = append(r.fds[:0], r.fds[n:]...)
	return files, nil
}

// close closes what nobody took.
func (r *fdReader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fd := range r.fds {
		_ = unix.Close(fd)
	}
	r.fds = nil
}

// fdWriter sends its first write together with descriptors.
type fdWriter struct {
	conn  net.Conn
	files []*os.File
}

// Write implements io.Writer.
func (w *fdWriter) Write(p []byte) (int, error) {
	if len(w.files) == 0 {
		return w.conn.Write(p)
	}
	var fds []int
	for _, f := range w.files {
		fds = append(fds, int(f.Fd()))
	}
	conn, ok := w.conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%w: descriptors on a connection that is no unix socket", errFrame)
	}
	n, _, err := conn.WriteMsgUnix(p, unix.UnixRights(fds...), nil)
	if err != nil {
		return n, err
	}
	w.files = nil
	if n == len(p) {
		return n, nil
	}
	m, err := w.conn.Write(p[n:])
	return n + m, err
}
