package interop

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Result codes of sanlock.
const (
	rcAgain     = -11 // shared by live hosts
	rcNoSpace   = -28 // lockspace lost
	rcTimedOut  = -110
	rcIDLive    = -243
	rcOwned     = -244
	rcOther     = -245
	rcNoWait    = -247
	noWait      = 0x8 // SANLK_ACQUIRE_OWNER_NOWAIT
	withLVB     = 0x1 // SANLK_ACQUIRE_LVB
	nextVersion = 0x1 // SANLK_REQUEST_NEXT_LVER
)

// user is a process that is registered with a daemon; its leases end with it. One goroutine at a time may use it.
type user struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	ended bool
}

// startUser registers a new process with d. It is killed at the end of the test.
func startUser(t testing.TB, d *daemon) *user {
	t.Helper()
	u := &user{t: t, cmd: exec.Command(filepath.Join(built.dir, "client")), lines: make(chan string, 1000)}
	u.cmd.Env = d.env()
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if u.in, err = u.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := u.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(u.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			u.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { u.kill() })
	if rc, rest := u.answer(10 * time.Second); rc != 0 {
		t.Fatalf("registering with %s: %d %s", d.name, rc, rest)
	}
	return u
}

// send gives a command without waiting for the answer.
func (u *user) send(args ...any) {
	_, _ = fmt.Fprintln(u.in, args...)
}

// answer waits for the result of a command: sanlock's code, and the rest of the line. A process that is gone or does
// not answer gives -110.
func (u *user) answer(limit time.Duration) (int, string) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case line, ok := <-u.lines:
		if !ok {
			return rcTimedOut, "the process has ended"
		}
		code, rest, _ := strings.Cut(line, " ")
		rc, err := strconv.Atoi(code)
		if err != nil {
			u.t.Errorf("answer %q", line)
		}
		return rc, rest
	case <-t.C:
		return rcTimedOut, "no answer"
	}
}

// do is send and answer.
func (u *user) do(args ...any) (int, string) {
	u.send(args...)
	return u.answer(4 * time.Minute)
}

// acquire takes a resource and returns sanlock's code and the version.
func (u *user) acquire(res string, flags int) (int, uint64) {
	rc, rest := u.do("acquire", flags, res)
	v, _ := strconv.ParseUint(rest, 10, 64)
	return rc, v
}

// eventually acquires res, again and again while another host has it.
func (u *user) eventually(res string, limit time.Duration) (int, uint64) {
	for end := time.Now().Add(limit); ; time.Sleep(300 * time.Millisecond) {
		rc, v := u.acquire(res, 0)
		if rc != rcIDLive && rc != rcOwned && rc != rcOther && rc != rcAgain || time.Now().After(end) {
			return rc, v
		}
	}
}

// must wants a command to succeed.
func (u *user) must(args ...any) string {
	u.t.Helper()
	rc, rest := u.do(args...)
	if rc < 0 {
		u.t.Fatalf("%v: %d %s", args, rc, rest)
	}
	return rest
}

// kill ends the process without a chance to do anything.
func (u *user) kill() {
	_ = u.cmd.Process.Kill()
	u.wait()
}

// endedBy waits until something else ends the process, and returns the signal that did; 0 when it still runs after limit.
func (u *user) endedBy(limit time.Duration) syscall.Signal {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case _, ok := <-u.lines:
			if !ok {
				return u.wait()
			}
		case <-timer.C:
			return 0
		}
	}
}

// wait waits for the end of a process that has no reason to stay and returns the signal that ended it, 0 if none.
func (u *user) wait() syscall.Signal {
	if !u.ended {
		u.ended = true
		_ = u.in.Close()
		for range u.lines { // so that the reader ends
		}
		_ = u.cmd.Wait()
	}
	if ws, ok := u.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return ws.Signal()
	}
	return 0
}
