package crash

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/spm"
)

// kinds are the operations that sequences are made of. A new structural operation gets a letter here and a case in
// world.change.
//
//	r  create a raw volume                          l  create an external lease
//	q  create a qcow2 volume                        x  delete the newest external lease
//	c  create a child of the newest volume          t  the SPM crashes, and the next one takes over
//	d  delete the newest volume                     m  the role is given up in order, and taken again
//	p  add the next LUN, or once all are there nothing
//	u  rename and describe the middle volume, which may have a child
//	e  extend the newest thin volume by an extent, until it is as large as it may become
const kinds = "rqcdpuelxtm"

// world is what the one who asks for operations knows: what there must be, and what to ask for next.
type world struct {
	dev    blockdev.Device
	a      *agent
	made   int // volumes ever asked for
	leased int // leases ever asked for
	vols   []volume
	leases []string
	dead   []domain.Volume // deleted here, as they were
	edits  int             // updates ever asked for
	added  int             // LUNs
}

// volume is one that was asked for. The newest is always a leaf.
type volume struct {
	id, image, parent, format, name, text string
	allocated                             int64
}

// start begins a new life of the host.
func (w *world) start(ctx context.Context) (err error) {
	w.a, err = startAgent(ctx, w.dev)
	return err
}

// do asks for one operation and notes its effect.
func (w *world) do(ctx context.Context, kind byte) error {
	c, err := w.change(kind)
	if err != nil {
		return err
	}
	if err := c.ask(ctx, w); err != nil {
		return fmt.Errorf("operation %c: %w", kind, err)
	}
	c.note(w)
	return nil
}

// change is an operation that can be asked for again, and what is different after it.
type change struct {
	kind byte
	ask  func(ctx context.Context, w *world) error
	note func(w *world)
}

// change makes the next operation of a kind.
func (w *world) change(kind byte) (change, error) {
	c := change{kind: kind, note: func(*world) {}}
	switch kind {
	case 'r', 'q', 'c':
		w.create(&c)
	case 'd':
		w.remove(&c)
	case 'u':
		w.update(&c)
	case 'p':
		w.addLUN(&c)
	case 'e':
		w.extend(&c)
	case 'l':
		id := leaseID(w.leased)
		c.ask = func(ctx context.Context, w *world) error { _, err := w.a.role.CreateLease(ctx, "", id); return err }
		c.note = func(w *world) { w.leased++; w.leases = append(slices.Clip(w.leases), id) }
	case 'x':
		id := w.leases[len(w.leases)-1]
		c.ask = func(ctx context.Context, w *world) error {
			_, err := w.a.role.DeleteLease(ctx, "", id, false)
			return err
		}
		c.note = func(w *world) { w.leases = w.leases[:len(w.leases)-1] }
	case 't':
		c.ask = func(ctx context.Context, w *world) error { w.a.crash(ctx); return w.start(ctx) }
	case 'm':
		c.ask = func(ctx context.Context, w *world) error { return errors.Join(w.a.stop(ctx), w.start(ctx)) }
	default:
		return c, fmt.Errorf("no operation %c", kind)
	}
	return c, nil
}

// create makes c the creation of a volume.
func (w *world) create(c *change) {
	key := fmt.Sprintf("disk %d", w.made)
	req := spm.CreateRequest{Key: key, Name: key, Size: thinSize, InitialSize: 100 * mib, Format: domain.FormatQcow2,
		Image: uuid.NewSHA1(uuid.NameSpaceOID, []byte(key)).String()}
	switch c.kind {
	case 'r':
		req.Format, req.Size, req.InitialSize = domain.FormatRaw, 200*mib, 0
	case 'c':
		p := w.vols[len(w.vols)-1]
		req.Parent, req.Image, req.Name = p.id, p.image, key
	}
	var made domain.Volume
	c.ask = func(ctx context.Context, w *world) error {
		rep, err := w.a.role.CreateVolume(ctx, req)
		made = rep.Volume
		return err
	}
	c.note = func(w *world) {
		w.made++
		w.vols = append(slices.Clip(w.vols), volume{made.ID, req.Image, req.Parent, req.Format, req.Name, "", made.AllocatedBytes})
	}
}

// update makes c the change of what a volume is called. With those of the base it is one that the newest is based on.
func (w *world) update(c *change) {
	at := (len(w.vols) - 1) / 2
	id, name, text := w.vols[at].id, fmt.Sprintf("name %d", w.edits), fmt.Sprintf("text %d", w.edits)
	c.ask = func(ctx context.Context, w *world) error {
		_, err := w.a.role.UpdateVolume(ctx, "", id, domain.VolumeEdit{Name: &name, Description: &text})
		return err
	}
	c.note = func(w *world) {
		w.edits++
		w.vols = slices.Clone(w.vols)
		w.vols[at].name, w.vols[at].text = name, text
	}
}

// addLUN makes c the extension of the domain by a LUN. Asked for again it may find that the LUN is part of it.
func (w *world) addLUN(c *change) {
	n := w.added + 1
	if n > spares {
		c.ask = func(context.Context, *world) error { return nil }
		return
	}
	c.ask = func(ctx context.Context, w *world) error {
		_, err := w.a.role.AddLUN(ctx, spm.LUNRequest{LUN: domain.LUN{Device: window(w.a.path, n)}})
		if errors.Is(err, domain.ErrMember) {
			return nil
		}
		return err
	}
	c.note = func(w *world) { w.added = n }
}

// thinSize is what the guest sees of a thin volume, which has one extent at first and never needs more than maxThin.
const (
	thinSize = 300 * mib
	maxThin  = 3 * extent
	extent   = 128 * mib
)

// extend makes c the extension of the newest thin volume. One that is as large as it may become stays so; with no thin volume
// left it is a raw one that has its size already.
func (w *world) extend(c *change) {
	at := len(w.vols) - 1
	for at > 0 && w.vols[at].format != domain.FormatQcow2 {
		at--
	}
	id, size := w.vols[at].id, w.vols[at].allocated
	if w.vols[at].format == domain.FormatQcow2 {
		size = min(size+extent, maxThin)
	}
	c.ask = func(ctx context.Context, w *world) error {
		rep, err := w.a.role.ExtendVolume(ctx, spm.ExtendRequest{Volume: id, Size: size - mib}) // the rest of the extent comes by itself
		if err == nil && rep.Volume.AllocatedBytes != size {
			err = fmt.Errorf("volume %s has %d bytes, asked for were %d", id, rep.Volume.AllocatedBytes, size)
		}
		return err
	}
	c.note = func(w *world) {
		w.vols = slices.Clone(w.vols)
		w.vols[at].allocated = size
	}
}

// remove makes c the deletion of the newest volume. Asked for again it may find that there is none any more.
func (w *world) remove(c *change) {
	id := w.vols[len(w.vols)-1].id
	var was domain.Volume
	c.ask = func(ctx context.Context, w *world) error {
		rep, err := w.a.role.DeleteVolume(ctx, "", id)
		if was.ID == "" {
			was = rep.Volume
		} else if errors.Is(err, domain.ErrNotFound) {
			return nil
		}
		return err
	}
	c.note = func(w *world) {
		w.vols = w.vols[:len(w.vols)-1]
		w.dead = append(slices.Clip(w.dead), was)
	}
}

func leaseID(n int) string { return fmt.Sprintf("33333333-0000-4000-8000-%012x", n) }
