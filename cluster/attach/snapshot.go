package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev/mapper/qmp"
)

// Pending is a snapshot under a running guest that is not through. It is only ever gone on with: from the moment that the SPM made the
// new leaf the chain on disk is whole in the old state of the guest and in the new one.
type Pending struct {
	Key  string `json:"key"`
	Name string `json:"name,omitempty"`
	// Volume is the new leaf, once the SPM has made it.
	Volume string `json:"volume,omitempty"`
}

// SnapshotRequest asks for a new leaf under the guest that writes an attached volume.
type SnapshotRequest struct {
	Domain string
	Volume string // the leaf, attached for writing on this host with a QMP socket
	Name   string // of the new volume; empty: that of the leaf
	Key    string // the same key again is the same snapshot; empty: a new one
}

// ErrNoQMP says that the guest's QEMU is not known.
var ErrNoQMP = errors.New("the volume is attached without a QMP socket: attach it once more with --qmp, or stop the guest and detach it")

// ErrUnfinished says that a snapshot is under way, and that the host goes on with it.
var ErrUnfinished = errors.New("the snapshot is not finished; the host goes on with it")

const (
	snapshotTimeout = time.Minute
	qmpPatience     = 2 * time.Second
)

// Snapshot puts a new leaf on an attached one, under the guest: from then on the guest writes the new one, which is attached in its
// place. With ErrRefused nothing has changed; any other error is one that Run goes on from.
func (m *Manager) Snapshot(ctx context.Context, req SnapshotRequest) (Attachment, error) {
	if !m.running() {
		return Attachment{}, ErrNotRunning
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	leave, err := m.enter(ctx, req.Domain)
	if err != nil {
		return Attachment{}, err
	}
	defer leave()
	if top := m.madeBy(req); top != "" {
		a, _ := m.attachment(req.Domain, top)
		return a, nil
	}
	r, err := m.snapshottable(req)
	if err != nil {
		return Attachment{}, fmt.Errorf("snapshot of volume %s: %w", req.Volume, err)
	}
	if r.Snapshot == nil {
		if _, err := m.topNode(ctx, r); err != nil { // before anything is made that it would be needed for
			return Attachment{}, fmt.Errorf("snapshot of volume %s: %w: %w", req.Volume, ErrRefused, err)
		}
		key := req.Key
		if key == "" {
			key = uuid.NewString()
		}
		r.Snapshot = &Pending{Key: key, Name: req.Name}
		if err := m.put(r); err != nil {
			return Attachment{}, err
		}
	}
	top, err := m.goOn(ctx, r)
	if err != nil {
		m.Kick()
		return Attachment{}, fmt.Errorf("snapshot of volume %s: %w", req.Volume, err)
	}
	a, _ := m.attachment(req.Domain, top)
	return a, nil
}

// madeBy is the leaf that an earlier request with the same key has made; empty: none.
func (m *Manager) madeBy(req SnapshotRequest) string {
	for _, r := range m.records() {
		if req.Key != "" && r.Domain == req.Domain && r.Parent == req.Volume && r.MadeBy == req.Key {
			return r.Volume
		}
	}
	return ""
}

// snapshottable is the record of a leaf whose guest can be told.
func (m *Manager) snapshottable(req SnapshotRequest) (Record, error) {
	n := m.node(req.Domain, req.Volume)
	if n == nil || m.cfg.Snapshots == nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRefused, ErrNotAttached)
	}
	r := m.record(n)
	m.mu.Lock()
	there := n.mapping != nil
	m.mu.Unlock()
	switch {
	case r.ReadOnly || !r.top():
		return r, fmt.Errorf("%w: %w: it is not attached for writing", ErrRefused, ErrOtherwise)
	case r.QMP.Socket == "":
		return r, fmt.Errorf("%w: %w", ErrRefused, ErrNoQMP)
	case r.State != StateAttached || !there:
		return r, fmt.Errorf("%w: %w: it is %s", ErrRefused, ErrOtherwise, describe(r, there))
	}
	return r, nil
}

// goOn does what is left of a snapshot; the caller has the domain's turn. Every step looks at what there is, so it is repeated after
// a crash at any of them.
func (m *Manager) goOn(ctx context.Context, r Record) (top string, err error) {
	if r.Snapshot.Volume == "" {
		id, err := m.cfg.Snapshots.Snapshot(ctx, r.Snapshot.Key, r.Domain, r.Volume, r.Snapshot.Name)
		if errors.Is(err, ErrRefused) {
			r.Snapshot = nil
			return "", errors.Join(err, m.put(r))
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrUnfinished, err)
		}
		p := *r.Snapshot
		p.Volume = id
		r.Snapshot = &p
		if err := m.put(r); err != nil {
			return "", fmt.Errorf("%w: %w", ErrUnfinished, err)
		}
	}
	top = r.Snapshot.Volume
	if err := m.attachOn(ctx, r, top); err != nil {
		return "", fmt.Errorf("%w: attaching the new leaf %s: %w", ErrUnfinished, top, err)
	}
	if err := m.switchGuest(ctx, r, m.record(m.node(r.Domain, top))); err != nil {
		return "", fmt.Errorf("%w: telling the guest's QEMU: %w", ErrUnfinished, err)
	}
	if err := m.stepDown(ctx, r, top); err != nil {
		return "", fmt.Errorf("%w: volume %s is not for reading yet: %w", ErrUnfinished, r.Volume, err)
	}
	return top, nil
}

// attachOn makes the new leaf usable, and all that is below it needed by it too.
func (m *Manager) attachOn(ctx context.Context, r Record, top string) error {
	for _, below := range m.chainRecords(r.Domain, r.Volume) {
		if !slices.Contains(below.Users, top) {
			below.Users = append(below.Users, top)
			if err := m.put(below); err != nil {
				return err
			}
		}
	}
	if n := m.node(r.Domain, top); n != nil {
		m.mu.Lock()
		state, there := n.rec.State, n.mapping != nil
		m.mu.Unlock()
		if state == StateAttached && there {
			return nil
		}
		return fmt.Errorf("%w: it is %s", ErrOtherwise, describe(m.record(n), there))
	}
	v, err := m.cfg.Disks.Volume(ctx, r.Domain, top)
	if err != nil {
		return err
	}
	if v.Parent != r.Volume {
		return fmt.Errorf("volume %s is based on %q: %w", top, v.Parent, ErrChanged)
	}
	return m.create(ctx, v, Request{Domain: r.Domain, Volume: top, Mapper: r.Mapper, QMP: QMP{Socket: r.QMP.Socket}})
}

// nodes are the block nodes of a guest's QEMU. *qmp.Conn has them.
type nodes interface {
	Nodes(ctx context.Context) ([]qmp.Node, error)
	Add(ctx context.Context, options any) error
	Top(ctx context.Context, node string) (string, error)
	Snapshot(ctx context.Context, node, overlay string) error
}

// onGuest does something over the guest's monitor.
func (m *Manager) onGuest(ctx context.Context, r Record, do func(context.Context, nodes) error) error {
	m.mu.Lock()
	run := m.run
	m.mu.Unlock()
	if run == nil {
		return ErrNotRunning
	}
	mon, err := m.guests.use(run, r.QMP.Socket)
	if err != nil {
		return err
	}
	defer m.guests.leave(mon)
	ctx, cancel := context.WithTimeout(ctx, qmpPatience)
	defer cancel()
	return mon.Do(ctx, func(ctx context.Context, c *qmp.Conn) error { return do(ctx, c) })
}

// topNode is the name of the node that the guest's disk is on.
func (m *Manager) topNode(ctx context.Context, r Record) (top string, err error) {
	err = m.ask(ctx, r, func(ctx context.Context, c nodes) error {
		top, err = c.Top(ctx, r.QMP.node(r.Volume))
		return err
	})
	return top, err
}

// switchGuest lets the guest write the new leaf, if it does not yet.
func (m *Manager) switchGuest(ctx context.Context, old, fresh Record) error {
	return m.ask(ctx, old, func(ctx context.Context, c nodes) error {
		have, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		name := nodeName(fresh.Volume)
		switch i := slices.IndexFunc(have, func(n qmp.Node) bool { return n.Name == name }); {
		case i < 0:
			opts := BlockDev([]Record{fresh})[0]
			opts["backing"] = nil // what is below it QEMU has open already
			if err := c.Add(ctx, opts); err != nil {
				return err
			}
		case have[i].Layers > 0:
			return nil // it was done by an earlier try
		}
		top, err := c.Top(ctx, old.QMP.node(old.Volume))
		if err != nil {
			return err
		}
		return c.Snapshot(ctx, top, name)
	})
}

// stepDown makes the old leaf one of those that the new one needs: for reading, with its lease shared.
func (m *Manager) stepDown(ctx context.Context, r Record, top string) error {
	n := m.node(r.Domain, r.Volume)
	m.mu.Lock()
	mapping := n.mapping
	m.mu.Unlock()
	if mapping == nil {
		return ErrGone
	}
	if err := mapping.Demote(ctx); err != nil {
		return err
	}
	if err := m.cfg.Leases.Share(ctx, r.Lease, r.Process); err != nil {
		return err
	}
	fresh := m.record(m.node(r.Domain, top))
	fresh.MadeBy = r.Snapshot.Key
	if err := m.put(fresh); err != nil {
		return err
	}
	for _, below := range m.chainRecords(r.Domain, r.Volume)[1:] {
		below.Users = slices.DeleteFunc(below.Users, func(u string) bool { return u == r.Volume })
		if err := m.put(below); err != nil {
			return err
		}
	}
	r = m.record(n)
	r.Users = slices.DeleteFunc(r.Users, func(u string) bool { return u == r.Volume })
	r.ReadOnly, r.Grows, r.QMP, r.Snapshot = true, false, QMP{}, nil
	if err := m.put(r); err != nil {
		return err
	}
	if mapping := m.unwatch(n); mapping != nil {
		return m.mapped(n, mapping)
	}
	return nil
}

// finishSnapshot goes on with a snapshot that an earlier try, or an earlier agent, left. The caller has the domain's turn.
func (m *Manager) finishSnapshot(ctx context.Context, r Record) error {
	if r.Snapshot == nil || m.cfg.Snapshots == nil {
		return nil
	}
	_, err := m.goOn(ctx, r)
	if err == nil {
		m.cfg.Log.Info("a snapshot that was left unfinished is finished", "volume", r.Volume)
	}
	return err
}
