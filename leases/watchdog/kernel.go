package watchdog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// needOptions is what a driver must be able to do. One that cannot tell a magic close from another stops when this
// process is killed, and protects from nothing then.
const needOptions = unix.WDIOF_SETTIMEOUT | unix.WDIOF_KEEPALIVEPING | unix.WDIOF_MAGICCLOSE

// kernelDevice is a device of the kernel. Go's poller must not get at it: the descriptor stays blocking.
type kernelDevice struct {
	path string
	fd   int
}

// openKernelDevice opens a device, which starts it.
func openKernelDevice(path string) (device, error) {
	if err := refuseNoWayOut("/sys/class/watchdog", path); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	d := &kernelDevice{path: path, fd: fd}
	info, err := unix.IoctlGetWatchdogInfo(fd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is no watchdog: %w", path, err), d.release())
	}
	if missing := needOptions &^ info.Options; missing != 0 {
		return nil, errors.Join(fmt.Errorf("%s (%s) cannot do what is needed: options 0x%x, missing 0x%x", path,
			strings.TrimRight(string(info.Identity[:]), "\x00"), info.Options, missing), d.release())
	}
	return d, nil
}

// refuseNoWayOut refuses a driver that can never be stopped: each restart of the agent would reset the machine.
func refuseNoWayOut(class, path string) error {
	name := filepath.Base(path)
	if name == "watchdog" {
		name = "watchdog0" // the old name of the first one
	}
	b, err := os.ReadFile(filepath.Join(class, name, "nowayout"))
	if err == nil && strings.TrimSpace(string(b)) == "1" {
		return fmt.Errorf("%s is set to nowayout: load its driver with nowayout=0", path)
	}
	return nil
}

func (d *kernelDevice) setTimeout(seconds int) (int, error) {
	if err := unix.IoctlSetPointerInt(d.fd, unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return 0, fmt.Errorf("setting the timeout: %w", err)
	}
	got, err := unix.IoctlGetInt(d.fd, unix.WDIOC_GETTIMEOUT)
	if err != nil {
		return 0, fmt.Errorf("reading the timeout: %w", err)
	}
	return got, nil
}

func (d *kernelDevice) keepAlive() error { return unix.IoctlWatchdogKeepalive(d.fd) }

func (d *kernelDevice) release() error {
	_, err := unix.Write(d.fd, []byte("V"))
	return errors.Join(err, unix.Close(d.fd))
}
