package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
)

// ErrInUse says that another process serves this export already. Talk to that one with Dial.
var ErrInUse = errors.New("another process serves this export")

// process is one export with its sockets and devices.
type process struct {
	log      *slog.Logger
	lock     *os.File
	devices  devices
	server   *Server
	clients  net.Listener
	steering net.Listener

	growing sync.Mutex // guards devices; one Grow at a time, which may take as long as a dead device does

	mu   sync.Mutex // guards the segments of spec
	spec Spec
}

// serve runs until the export is detached, and releases everything.
func (pr *process) serve(ctx context.Context) error {
	ctl := newControl(pr)
	steered := make(chan error, 1)
	go func() { steered <- ctl.run(pr.steering) }()
	err := pr.server.Run(ctx, pr.clients)
	ctl.end()
	return errors.Join(err, <-steered, pr.release())
}

// release gives back what build took, as far as it came.
func (pr *process) release() error {
	var all error
	for _, l := range []struct {
		l    net.Listener
		path string
	}{{pr.clients, pr.spec.Socket}, {pr.steering, pr.spec.Control}} {
		if l.l != nil {
			_ = l.l.Close() // closed before by whoever served it
			all = errors.Join(all, os.Remove(l.path))
		}
	}
	all = errors.Join(all, pr.devices.close())
	if pr.lock != nil {
		all = errors.Join(all, pr.lock.Close())
	}
	return all
}

func (pr *process) hello() Hello {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	return Hello{Version: protocolVersion, PID: os.Getpid(), Spec: pr.spec, Status: pr.server.Status()}
}

// grow opens what is new and hands the mapping to the server.
func (pr *process) grow(ctx context.Context, list []SegmentSpec) error {
	if err := checkSegments(list); err != nil {
		return err
	}
	pr.growing.Lock()
	defer pr.growing.Unlock()
	segs, err := pr.devices.segments(ctx, list)
	if err != nil {
		return err
	}
	before := pr.server.Status().AllocatedBytes
	if err := pr.server.Grow(segs); err != nil {
		return err
	}
	if pr.server.Status().AllocatedBytes > before { // else it was old news
		pr.mu.Lock()
		pr.spec.Segments = list
		pr.mu.Unlock()
	}
	return nil
}

// devices opens each device once. Its user sees to it that one goroutine at a time asks.
type devices struct {
	open  func(ctx context.Context, uri string, o blockdev.Options) (blockdev.Device, error)
	spec  Spec
	byURI map[string]blockdev.Device
}

// segments turns names into devices.
func (d *devices) segments(ctx context.Context, list []SegmentSpec) ([]blockdev.Segment, error) {
	segs := make([]blockdev.Segment, 0, len(list))
	for _, g := range list {
		dev, err := d.get(ctx, g.Device)
		if err != nil {
			return nil, err
		}
		segs = append(segs, blockdev.Segment{Dev: dev, Off: g.OffsetBytes, Len: g.LengthBytes})
	}
	return segs, nil
}

func (d *devices) get(ctx context.Context, uri string) (blockdev.Device, error) {
	if dev := d.byURI[uri]; dev != nil {
		return dev, nil
	}
	dev, err := d.open(ctx, uri, blockdev.Options{ReadOnly: d.spec.ReadOnly, SectorSize: d.spec.SectorSize,
		Buffered: d.spec.Buffered, IOTimeout: d.spec.config(nil).IOTimeout})
	if err != nil {
		return nil, err
	}
	d.byURI[uri] = dev
	return dev, nil
}

func (d *devices) close() error {
	var all error
	for _, dev := range d.byURI {
		all = errors.Join(all, dev.Close())
	}
	return all
}

// lockPath makes sure that there is one process for a control socket.
func lockPath(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("%w: %s is locked: %w", ErrInUse, path, err)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// listen makes a unix socket that takes clients from the moment it can be seen under its name. What lay there before is
// the leftover of a process that is gone, as the lock shows.
func listen(path string, mode os.FileMode) (net.Listener, error) {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, mode), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.Close())
	}
	return l, nil
}
