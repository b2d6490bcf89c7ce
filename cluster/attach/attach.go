package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Request names a volume to attach or detach.
type Request struct {
	Domain   string // UUID
	Volume   string // UUID
	ReadOnly bool
	Force    bool // detach although somebody uses it
	// Mapper is the kind to use; empty: the first that fits.
	Mapper string
	// QMP is the monitor of the guest that is to use it; empty: none, or the one that is known already. It may be given later, by
	// attaching again, and need not be there yet.
	QMP QMP
}

// layer is the request for the volume at a place of the chain: what is below the top is for reading.
func (r Request) layer(i int) Request {
	if i > 0 {
		r.ReadOnly, r.QMP = true, QMP{}
	}
	return r
}

// undoTimeout bounds the undoing of an attach, whose caller may be gone.
const undoTimeout = 30 * time.Second

// Attach makes a volume and its chain usable on this host: for each volume the lease, then the mapping. A volume that is attached
// so already is answered as it is. With an error nothing is attached.
func (m *Manager) Attach(ctx context.Context, req Request) (Attachment, error) {
	if err := req.check(); err != nil {
		return Attachment{}, fmt.Errorf("attaching volume %s: %w", req.Volume, err)
	}
	if !m.running() {
		return Attachment{}, ErrNotRunning
	}
	leave, err := m.enter(ctx, req.Domain)
	if err != nil {
		return Attachment{}, err
	}
	defer leave()
	if there, err := m.already(req); there || err != nil {
		if err == nil {
			err = m.setQMP(req)
		}
		a, _ := m.attachment(req.Domain, req.Volume)
		return a, err
	}
	chain, err := chainOf(ctx, m.cfg.Disks, req.Domain, req.Volume)
	if err == nil {
		err = checkChain(chain, req.ReadOnly)
	}
	if err != nil {
		return Attachment{}, fmt.Errorf("attaching volume %s: %w", req.Volume, err)
	}
	for i, v := range slices.Backward(chain) { // the base first: the top is there when all that it needs is
		if err := m.use(ctx, v, req.layer(i)); err != nil {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			return Attachment{}, errors.Join(fmt.Errorf("attaching volume %s: %w", req.Volume, err), m.release(undo, req.Domain, req.Volume))
		}
	}
	a, _ := m.attachment(req.Domain, req.Volume)
	return a, nil
}

// check refuses what cannot be meant, before anything is done.
func (r Request) check() error {
	if r.ReadOnly && r.QMP != (QMP{}) {
		return fmt.Errorf("%w: a volume that is attached read-only neither grows nor gets snapshots", ErrQMP)
	}
	return r.QMP.validate()
}

// setQMP gives a volume that is attached already another monitor. The caller has the domain's turn.
func (m *Manager) setQMP(req Request) error {
	n := m.node(req.Domain, req.Volume)
	r := m.record(n)
	if req.QMP == (QMP{}) || req.QMP == r.QMP {
		return nil
	}
	r.QMP = req.QMP
	if err := m.put(r); err != nil {
		return err
	}
	mapping := m.unwatch(n)
	if mapping == nil {
		return nil // it has just ended; Run makes it again, with the new monitor
	}
	return m.mapped(n, mapping)
}

func (m *Manager) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run != nil
}

// already says whether the volume is attached as asked for. The caller has the domain's turn.
func (m *Manager) already(req Request) (bool, error) {
	n := m.node(req.Domain, req.Volume)
	if n == nil {
		return false, nil
	}
	m.mu.Lock()
	r, there := n.rec, n.mapping != nil
	m.mu.Unlock()
	switch {
	case !r.top():
		return false, nil // for others only: use decides
	case r.State != StateAttached || !there:
		return false, fmt.Errorf("volume %s: %w: it is %s; wait, or detach it", req.Volume, ErrOtherwise, describe(r, there))
	case r.ReadOnly != req.ReadOnly, req.Mapper != "" && r.Mapper != req.Mapper:
		return false, fmt.Errorf("volume %s: %w: %s; detach it first", req.Volume, ErrOtherwise, describe(r, there))
	}
	return true, nil
}

// describe says in words how a volume is attached.
func describe(r Record, there bool) string {
	mode := "for writing by " + r.Mapper
	if r.ReadOnly {
		mode = "read-only by " + r.Mapper
	}
	switch {
	case r.State != StateAttached:
		return r.State
	case !there:
		return "attached " + mode + ", and being made anew"
	}
	return "attached " + mode
}

// use makes one volume of a chain usable for the top. The caller has the domain's turn.
func (m *Manager) use(ctx context.Context, v Volume, req Request) error {
	n := m.node(v.Domain, v.ID)
	if n == nil {
		return m.create(ctx, v, req)
	}
	m.mu.Lock()
	there := n.mapping != nil
	m.mu.Unlock()
	r := m.record(n)
	if !req.ReadOnly || !r.ReadOnly || r.State != StateAttached || !there {
		return fmt.Errorf("volume %s: %w: it is %s for volume %s", v.ID, ErrOtherwise, describe(r, there), r.Users[0])
	}
	if slices.Contains(r.Users, req.Volume) {
		return nil
	}
	r.Users = append(r.Users, req.Volume)
	return m.put(r)
}

// create maps a volume that nobody on this host uses. With an error nothing is left of it, or a record that says what is.
func (m *Manager) create(ctx context.Context, v Volume, req Request) error {
	mapper, err := m.choose(v, req.Mapper)
	if err != nil {
		return err
	}
	p, err := mapper.Prepare(ctx, v, req.ReadOnly)
	if err != nil {
		return err
	}
	// The record comes before the lease: whatever holds one is named in a record.
	r := Record{Domain: v.Domain, Volume: v.ID, Name: v.Name, Format: v.Format, Parent: v.Parent, ReadOnly: req.ReadOnly, Grows: v.Grows, Size: v.SizeBytes,
		Users: []string{req.Volume}, State: StateAttaching, Mapper: mapper.Kind(), Process: p.Process(), Device: v.Device, Lease: v.Lease, QMP: req.QMP, Boot: m.cfg.Boot, Since: time.Now()}
	if err := m.put(r); err != nil {
		return errors.Join(err, cancel(ctx, p))
	}
	mapping, err := m.bring(ctx, p, &r, false)
	if err == nil {
		err = m.mapped(m.node(v.Domain, v.ID), mapping)
	}
	if err == nil {
		return nil
	}
	undo, stop := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer stop()
	if cerr := p.Cancel(undo); cerr != nil {
		return errors.Join(err, cerr) // the record stays: Run goes on with it
	}
	return errors.Join(err, m.finish(undo, m.record(m.node(v.Domain, v.ID))))
}

func cancel(ctx context.Context, p Prepared) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer stop()
	return p.Cancel(ctx)
}

// bring takes the lease and maps the volume, and records each step. The volume is read again under the lease: what was read
// before may have been changed by its last holder.
func (m *Manager) bring(ctx context.Context, p Prepared, r *Record, again bool) (Mapping, error) {
	held, err := m.cfg.Leases.Take(ctx, r.Lease, r.Process, r.ReadOnly)
	if err != nil {
		return nil, err
	}
	if r.Version != 0 && !r.ReadOnly && held.Version != r.Version+1 {
		return nil, fmt.Errorf("%w: the lease's version is %d after %d", ErrTakenMeanwhile, held.Version, r.Version)
	}
	r.Version = held.Version
	if err := m.put(*r); err != nil {
		return nil, err
	}
	v, err := m.cfg.Disks.Volume(ctx, r.Domain, r.Volume)
	if err != nil {
		return nil, err
	}
	if v.Parent != r.Parent || v.Lease != r.Lease || v.Format != r.Format || r.Device != (Device{}) && v.Device != r.Device {
		return nil, fmt.Errorf("volume %s: %w", v.ID, ErrChanged)
	}
	mapping, err := p.Map(ctx, MapRequest{Volume: v, ReadOnly: r.ReadOnly, Held: held, ThresholdBytes: m.cfg.Growth.Threshold(), HighBytes: r.HighBytes,
		Again: again})
	if err != nil {
		return nil, err
	}
	r.State, r.Where = StateAttached, mapping.Where()
	if err := m.put(*r); err != nil {
		return nil, errors.Join(err, mapping.Close())
	}
	return mapping, nil
}
