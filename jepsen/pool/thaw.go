package pool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// thawScript waits until nobody holds the other end of its input, which is when we have closed it or are gone, whatever killed us, and
// then thaws what is frozen.
const thawScript = `trap "" HUP INT TERM; while read -r _; do :; done; for m; do fsfreeze --unfreeze "$m" 2>/dev/null; done; exit 0`

// thawTime bounds its end.
const thawTime = 10 * time.Second

// thawer is the child that thaws the disks when we cannot.
type thawer struct {
	cmd  *exec.Cmd
	in   io.Closer
	done chan struct{}
}

// newThawer starts the child. It is in a session of its own, so that what is sent to our group does not end it.
func newThawer(tag string, mounts []string) (*thawer, error) {
	cmd := exec.Command("sh", append([]string{"-c", thawScript, "thaw"}, mounts...)...) //nolint:noctx // it must outlive us
	cmd.Env = append(os.Environ(), poolMark+"="+tag)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("starting the guard of the disks: %w", err)
	}
	t := &thawer{cmd: cmd, in: in, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the script always ends well; what it could not thaw was not frozen
		close(t.done)
	}()
	return t, nil
}

// close ends the child and waits.
func (t *thawer) close() error {
	err := t.in.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	timer := time.NewTimer(thawTime)
	defer timer.Stop()
	select {
	case <-t.done:
		return err
	case <-timer.C:
		_ = t.cmd.Process.Kill() // it may have ended just now
		<-t.done
		return errors.Join(err, errors.New("the guard of the disks did not end in time; is a disk still frozen?"))
	}
}
