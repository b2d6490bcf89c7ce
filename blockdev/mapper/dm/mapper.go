package dm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// Mapper makes logical volumes usable on this host, and ends that. It keeps no state of its own: what is active is
// what the kernel says. It is safe for concurrent use; operations on one volume run one after the other.
//
// Every operation needs a context with a deadline. One that is not through by then fails with ErrOutcomeUnknown and goes
// on no further than the ioctl it is in, which may hang as long as the LUN does; until that comes back other operations on
// the volume wait for it.
type Mapper struct {
	cfg  Config
	cmd  commands
	own  bool // the kernel's control node is ours to close
	work sync.WaitGroup

	mu     sync.Mutex // guards what follows
	busy   map[string]chan struct{}
	closed bool
}

// New makes a mapper. ErrUnavailable says that this machine has no device-mapper.
func New(c Config) (*Mapper, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := &Mapper{cfg: c.withSeams(), busy: map[string]chan struct{}{}}
	if m.cfg.Kernel == nil {
		k, err := OpenKernel()
		if err != nil {
			return nil, err
		}
		m.cfg.Kernel, m.own = k, true
	}
	m.cmd = commands{m.cfg.Kernel}
	return m, nil
}

// Close takes no more operations and waits, as long as ctx allows, for those that were given up. Devices stay active.
func (m *Mapper) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		m.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("closing the device-mapper: an operation has not come back: %w", context.Cause(ctx))
	}
	if m.own {
		return m.cfg.Kernel.Close()
	}
	return nil
}

// Volume says what to map: a logical volume as the metadata has it.
type Volume struct {
	VG *lvm2.VG
	// Name of the logical volume.
	Name string
	// PVs are the paths of the devices of VG.PVs, in that order. They must be block devices; with multipath, its maps.
	PVs []string
	// ReadOnly makes the kernel refuse writes.
	ReadOnly bool
}

// Source is what to map: a Volume or Extents.
type Source interface {
	plan(m *Mapper) (plan, error)
	label() string
}

// plan is a volume in the kernel's terms.
type plan struct {
	Identity
	table    Table
	readOnly bool
	// held says that the caller knows whose a frozen device is, see Extents.
	held bool
	// guarded says that it goes by a lease: a device that I/O waits on was frozen for the want of it.
	guarded bool
	demoted bool // see Extents.Demoted
}

func (m *Mapper) plan(v Source) (plan, error) { return v.plan(m) }

func (v Volume) label() string { return v.Name }

func (v Volume) plan(m *Mapper) (plan, error) {
	if v.VG == nil {
		return plan{}, fmt.Errorf("%w: no volume group", ErrUnmappable)
	}
	lv := v.VG.LV(v.Name)
	if lv == nil {
		return plan{}, fmt.Errorf("%s/%s: %w", v.VG.Name, v.Name, lvm2.ErrNotFound)
	}
	id, err := Identify(v.VG, lv)
	if err != nil {
		return plan{}, err
	}
	pvs := make([]pvDevice, len(v.PVs))
	for i, path := range v.PVs {
		if pvs[i], err = m.cfg.resolve(path); err != nil {
			return plan{}, fmt.Errorf("physical volume %d of %s: %w", i, v.VG.Name, err)
		}
	}
	t, err := makeTable(v.VG, lv, pvs)
	if err != nil {
		return plan{}, err
	}
	return plan{Identity: id, table: t, readOnly: v.ReadOnly || !lv.Writable()}, nil
}

// Activate makes a device for the volume and returns it, with the path that programs open. Doing it again is harmless,
// also after a crash anywhere in it, and brings the table up to date as Refresh does.
func (m *Mapper) Activate(ctx context.Context, v Source) (Device, error) {
	p, err := m.plan(v)
	if err != nil {
		return Device{}, fmt.Errorf("activating %s: %w", v.label(), err)
	}
	var d Device
	err = m.run(ctx, p.UUID, func(ctx context.Context) (err error) {
		d, err = m.activate(ctx, p)
		return err
	})
	if err != nil {
		return Device{}, fmt.Errorf("activating %s: %w", p.Name, err)
	}
	return d, nil
}

// Refresh brings an active volume's table up to what the metadata says, usually because it has grown, while I/O goes on. Older metadata
// than the device's is no error and changes nothing. ErrConflict says that the device maps something else, and is open.
func (m *Mapper) Refresh(ctx context.Context, v Source) (Device, error) {
	p, err := m.plan(v)
	if err != nil {
		return Device{}, fmt.Errorf("refreshing %s: %w", v.label(), err)
	}
	var d Device
	err = m.run(ctx, p.UUID, func(ctx context.Context) (err error) {
		if d, err = m.cmd.look(p.UUID); err != nil {
			return err
		}
		d, err = m.settle(ctx, p, d)
		return err
	})
	if errors.Is(err, errAbsent) {
		err = ErrNotActive
	}
	if err != nil {
		return Device{}, fmt.Errorf("refreshing %s: %w", p.Name, err)
	}
	return d, nil
}

// Deactivate removes the device; one that is not there is no error. ErrOpen says that it is in use:
// nothing was changed. The kernel could remove an open device later, at its last close, but whoever deactivates wants to
// give away the right to write, and needs to know that nobody can write.
func (m *Mapper) Deactivate(ctx context.Context, id Identity) error {
	err := id.check()
	if err == nil {
		err = m.run(ctx, id.UUID, func(ctx context.Context) error { return m.deactivate(ctx, id) })
	}
	if err != nil {
		return fmt.Errorf("deactivating %s: %w", id.Name, err)
	}
	return nil
}

// Look returns one device by its uuid; ErrNotActive when there is none.
func (m *Mapper) Look(ctx context.Context, uuid string) (Device, error) {
	var d Device
	err := m.run(ctx, uuid, func(context.Context) (err error) {
		d, err = m.cmd.look(uuid)
		d.Path = m.cfg.nodes.path(d.Name)
		return err
	})
	if errors.Is(err, errAbsent) {
		err = ErrNotActive
	}
	if err != nil {
		return Device{}, fmt.Errorf("looking at %s: %w", uuid, err)
	}
	return d, nil
}

// List returns the devices of a volume group's logical volumes, whoever made them. Internal volumes of lvm2 are not
// among them. A device that is no plain linear one is listed without its table.
func (m *Mapper) List(ctx context.Context, vg *lvm2.VG) ([]Device, error) {
	var out []Device
	err := m.run(ctx, "", func(ctx context.Context) (err error) {
		out, err = m.list(ctx, groupPrefix(vg))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the devices of %s: %w", vg.Name, err)
	}
	return out, nil
}

func (m *Mapper) list(ctx context.Context, prefix string) ([]Device, error) {
	uuids, err := m.cmd.list(prefix)
	if err != nil {
		return nil, err
	}
	var out []Device
	for _, uuid := range uuids {
		if len(uuid) != len(uuidPrefix)+2*rawID {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, err := m.cmd.look(uuid)
		switch {
		case errors.Is(err, errAbsent): // removed meanwhile
			continue
		case err != nil && !errors.Is(err, ErrConflict):
			return nil, err
		}
		d.Path = m.cfg.nodes.path(d.Name)
		out = append(out, d)
	}
	return out, nil
}

// run carries out f on one volume, in a goroutine of its own: an ioctl cannot be called back.
func (m *Mapper) run(ctx context.Context, uuid string, f func(context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		return blockdev.ErrNoDeadline
	}
	release, err := m.acquire(ctx, uuid)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { // Close waits for it, by what acquire counted
		defer release()
		done <- f(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // both at once
		return err
	default:
	}
	return fmt.Errorf("%w: %w", blockdev.ErrOutcomeUnknown, context.Cause(ctx))
}

// acquire waits until nothing else is done to the volume. The empty name is nobody's: those operations only read.
func (m *Mapper) acquire(ctx context.Context, uuid string) (release func(), err error) {
	for {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			return nil, errors.New("the mapper is closed")
		}
		wait := m.busy[uuid]
		if wait == nil || uuid == "" {
			free := make(chan struct{})
			m.work.Add(1)
			if uuid != "" {
				m.busy[uuid] = free
			}
			m.mu.Unlock()
			return func() { m.release(uuid, free) }, nil
		}
		m.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another operation on the device: %w", context.Cause(ctx))
		}
	}
}

func (m *Mapper) release(uuid string, free chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy[uuid] == free {
		delete(m.busy, uuid)
	}
	close(free)
	m.work.Done()
}
