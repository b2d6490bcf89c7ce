package dm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	kernel "github.com/holdfast-io/holdfast/blockdev/mapper/dm"
)

// Devices are the kernel's. *kernel.Mapper is one.
type Devices interface {
	Activate(ctx context.Context, v kernel.Source) (kernel.Device, error)
	Refresh(ctx context.Context, v kernel.Source) (kernel.Device, error)
	Deactivate(ctx context.Context, id kernel.Identity) error
	Look(ctx context.Context, uuid string) (kernel.Device, error)
	Freeze(ctx context.Context, id kernel.Identity) error
	Fail(ctx context.Context, id kernel.Identity) error
}

// Process is what Main is given by whoever wires it.
type Process struct {
	// Spec is read to its end; usually a pipe that the agent has written the JSON to.
	Spec io.Reader
	// Ready gets the first reply, which says how the start went, and is closed.
	Ready io.WriteCloser
	// Guard makes the right to write from the Spec. Not called for a read-only device.
	Guard   func(s Spec) (blockdev.Guard, error)
	Devices Devices
	Log     *slog.Logger
}

// Main is a process that looks after one device until it is told to detach, or the right to write ends. SIGTERM, which the keeper
// sends when that is lost, freezes the device first.
func Main(ctx context.Context, p Process) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	return p.run(ctx)
}

// Times of a holder.
const (
	guardPoll   = 250 * time.Millisecond // how often the guard is asked
	guardNeed   = time.Second            // what it must be good for: some polls, and the way to the kernel
	opTimeout   = 20 * time.Second       // of an operation on the device
	freezeRetry = 100 * time.Millisecond
)

// holder is one device and what is known of it.
type holder struct {
	Process
	spec   Spec
	guard  atomic.Pointer[blockdev.Guard] // nil: it is for reading
	listen net.Listener

	ops      context.Context // of operations on the device; ends before it is frozen
	stopOps  context.CancelFunc
	detached chan struct{} // closed when the device was removed

	turn   chan struct{} // has one place: taken during an operation on the device; guards what follows
	over   bool          // frozen, failed or removed: nothing is done to the device any more
	device kernel.Device
}

// run is Main without what concerns the whole process.
func (p Process) run(ctx context.Context) error {
	h, err := p.begin(ctx)
	told := p.tell(h, err)
	if err != nil {
		return errors.Join(fmt.Errorf("holder: %w", err), told)
	}
	if told != nil {
		p.Log.Warn("the agent does not listen any more", "error", told)
	}
	return h.hold(ctx)
}

// begin makes the device. If that fails nothing passes through what there is of it.
func (p Process) begin(ctx context.Context) (*holder, error) {
	spec, err := readSpec(p.Spec)
	if err != nil {
		return nil, err
	}
	h := &holder{Process: p, spec: spec, detached: make(chan struct{}), turn: make(chan struct{}, 1)}
	h.ops, h.stopOps = context.WithCancel(context.WithoutCancel(ctx))
	if !spec.ReadOnly {
		g, err := p.Guard(spec)
		if err != nil {
			return nil, fmt.Errorf("guard: %w", err)
		}
		h.guard.Store(&g)
	}
	if err := h.mayWrite(); err != nil {
		return nil, err
	}
	if h.listen, err = listen(spec.Control); err != nil {
		return nil, err
	}
	act, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if h.device, err = p.Devices.Activate(act, spec.extents(spec.Segments, spec.Again)); err != nil {
		if !errors.Is(err, kernel.ErrFrozen) { // then it is cut off, and stays so
			h.cut()
		}
		return nil, errors.Join(err, h.listen.Close())
	}
	return h, nil
}

// mayWrite asks the guard.
func (h *holder) mayWrite() error {
	g := h.guard.Load()
	if g == nil {
		return nil
	}
	return (*g).Check(guardNeed)
}

// demote makes the device one for reading: the kernel refuses writes, and the guard of an exclusive lease is not asked any more.
// While somebody has it open for writing it cannot be, and stays as it was.
func (h *holder) demote(limit time.Duration) error {
	return h.on(limit, func(ctx context.Context) error {
		e := h.spec.extents(h.spec.Segments, false)
		e.ReadOnly, e.Demoted = true, true
		if _, err := h.Devices.Refresh(ctx, e); err != nil {
			return err
		}
		h.spec.ReadOnly = true
		h.guard.Store(nil)
		return nil
	})
}

// tell says on Ready how the start went.
func (p Process) tell(h *holder, err error) error {
	r := reply{}
	if err != nil {
		r.refuse(err)
	} else {
		r = h.state()
	}
	return errors.Join(writeLine(p.Ready, r), p.Ready.Close())
}

// hold looks after the device. When it returns nothing can be written through it any more.
func (h *holder) hold(ctx context.Context) error {
	var served sync.WaitGroup
	served.Go(func() { h.serve(&served) })
	why := h.await(ctx)
	if why != nil {
		h.Log.Warn("the device is frozen", "device", h.spec.Device.Name, "error", why)
		h.cut()
	}
	err := h.listen.Close()
	h.stopOps()
	served.Wait()
	if why != nil {
		return why
	}
	return err
}

// errTold is the reason when the keeper, or a person, ends the process.
var errTold = errors.New("the holder was told to end")

// await returns when the device must be frozen, with the reason, or was removed.
func (h *holder) await(ctx context.Context) error {
	tick := time.NewTicker(guardPoll)
	defer tick.Stop()
	for {
		if err := h.mayWrite(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errTold
		case <-h.detached:
			return nil
		}
	}
}

// cut freezes the device, however long that takes: what it does not hold the watchdog must. Operations under way are given up
// first, so that none of them lets I/O through afterwards.
func (h *holder) cut() {
	h.stopOps()
	h.turn <- struct{}{}
	defer func() { <-h.turn }()
	h.over = true
	for {
		ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
		err := h.Devices.Freeze(ctx, h.spec.identity())
		cancel()
		if err == nil {
			return
		}
		h.Log.Error("the device cannot be frozen", "device", h.spec.Device.Name, "error", err)
		time.Sleep(freezeRetry)
	}
}

// on does something to the device, unless that is over.
func (h *holder) on(limit time.Duration, do func(ctx context.Context) error) error {
	h.turn <- struct{}{}
	defer func() { <-h.turn }()
	if h.over {
		return errOver
	}
	ctx, cancel := context.WithTimeout(h.ops, limit)
	defer cancel()
	return do(ctx)
}

var errOver = errors.New("the device is not looked after any more")

// grow makes the device as long as the segments.
func (h *holder) grow(limit time.Duration, r request) error {
	return h.on(limit, func(ctx context.Context) error {
		d, err := h.Devices.Refresh(ctx, h.spec.extents(r.Segments, false))
		if err == nil {
			h.device = d
		}
		return err
	})
}

// detach removes the device. While somebody has it open that cannot be: then it fails everything from now on, the holder stays, and
// may be asked again.
func (h *holder) detach(limit time.Duration) error {
	return h.on(limit, func(ctx context.Context) error {
		err := h.Devices.Deactivate(ctx, h.spec.identity())
		if errors.Is(err, kernel.ErrOpen) {
			return errors.Join(err, h.Devices.Fail(ctx, h.spec.identity()))
		}
		if err != nil {
			return err
		}
		h.over = true
		close(h.detached)
		return nil
	})
}

// state is the device as it is now.
func (h *holder) state() reply {
	h.turn <- struct{}{}
	defer func() { <-h.turn }()
	r := reply{PID: os.Getpid(), Volume: h.spec.Volume, Path: h.device.Path, AllocatedBytes: h.device.Table.Bytes()}
	if h.over {
		r.refuse(errOver)
		return r
	}
	ctx, cancel := context.WithTimeout(h.ops, opTimeout)
	defer cancel()
	d, err := h.Devices.Look(ctx, h.spec.Device.UUID)
	if err != nil {
		r.refuse(err)
	}
	r.Open = d.OpenCount
	return r
}
