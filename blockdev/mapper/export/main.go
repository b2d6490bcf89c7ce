package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/holdfast-io/holdfast/blockdev"
)

// memoryLimit is what the garbage collector aims at; the data of requests lies outside.
const memoryLimit = 16 << 20

// Process is what Main is given by whoever wires it.
type Process struct {
	// Spec is read to its end; usually a pipe that the parent has written the JSON to.
	Spec io.Reader
	// Ready gets one frame when clients can connect, or the reason why they cannot, and is closed.
	Ready io.WriteCloser
	// Open opens a device; nil is blockdev.Open.
	Open func(ctx context.Context, uri string, o blockdev.Options) (blockdev.Device, error)
	// Guard makes the right to write from the Spec. Not called for a read-only export.
	Guard func(ctx context.Context, s Spec) (blockdev.Guard, error)
	// Log takes what happens.
	Log *slog.Logger
}

// Main is a process that serves one export until it is told to detach, by a Client, SIGTERM or ctx. It outlives the
// one that started it, if that put it into a session of its own.
func Main(ctx context.Context, p Process) error {
	// The terminal and the log of the agent that started this may go; the export stays.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryLimit)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	return p.run(ctx)
}

// run is Main without what concerns the whole process.
func (p Process) run(ctx context.Context) error {
	pr, err := p.prepare(ctx)
	told := p.tell(pr, err)
	if err != nil {
		return errors.Join(fmt.Errorf("export process: %w", err), told)
	}
	if told != nil {
		p.Log.Warn("whoever started this export does not listen any more", "error", told)
	}
	return pr.serve(ctx)
}

// tell says on Ready how the start went.
func (p Process) tell(pr *process, err error) error {
	a := answer{Error: toWire(err)}
	if err == nil {
		h := pr.hello()
		a.Hello = &h
	}
	return errors.Join(writeFrame(p.Ready, &a), p.Ready.Close())
}

// ReadReady is the parent's end of Ready: what the process is, or why it did not start.
func ReadReady(r io.Reader) (Hello, error) {
	var a answer
	if err := readFrame(r, &a); err != nil {
		return Hello{}, fmt.Errorf("the export process ended before it was ready: %w", err)
	}
	if err := a.Error.fromWire(); err != nil {
		return Hello{}, err
	}
	if a.Hello == nil {
		return Hello{}, fmt.Errorf("start of the export process: %w: no hello", errFrame)
	}
	return *a.Hello, nil
}

// prepare does all that can fail before clients come.
func (p Process) prepare(ctx context.Context) (*process, error) {
	spec, err := DecodeSpec(p.Spec)
	if err != nil {
		return nil, err
	}
	pr := &process{log: p.Log, spec: spec, devices: devices{open: p.Open, spec: spec, byURI: map[string]blockdev.Device{}}}
	if p.Open == nil {
		pr.devices.open = blockdev.Open
	}
	if err := pr.build(ctx, p.Guard); err != nil {
		return nil, errors.Join(err, pr.release())
	}
	return pr, nil
}

// build takes the lock, the devices, the guard and the sockets, in this order.
func (pr *process) build(ctx context.Context, guard func(context.Context, Spec) (blockdev.Guard, error)) (err error) {
	c := pr.spec.config(pr.log)
	if pr.lock, err = lockPath(pr.spec.Control + ".lock"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, max(c.IOTimeout, c.DetachTimeout))
	defer cancel()
	segs, err := pr.devices.segments(ctx, pr.spec.Segments)
	if err != nil {
		return err
	}
	if !c.ReadOnly && guard != nil {
		if c.Guard, err = guard(ctx, pr.spec); err != nil {
			return fmt.Errorf("guard: %w", err)
		}
	}
	if pr.server, err = New(c, segs); err != nil {
		return err
	}
	if pr.clients, err = listen(pr.spec.Socket, os.FileMode(pr.spec.SocketMode)); err != nil {
		return err
	}
	pr.steering, err = listen(pr.spec.Control, 0o600)
	return err
}
