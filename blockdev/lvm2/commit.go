package lvm2

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/plant"
)

// Commit writes the changes of a transaction. Afterwards VG shows them.
//
// The order is text, flush and precommitted slot, committed slot, flush; the change is made by the committed slot, one
// sector. Before the first write the headers are read again, and ErrChanged is returned when they are not what the
// transaction was built on. An error that is not blockdev.ErrOutcomeUnknown means that nothing was changed; with
// ErrOutcomeUnknown the change may be there or not, and the Group takes no commit until a Refresh succeeded.
func (g *Group) Commit(ctx context.Context, tx *Tx, guard blockdev.Guard, description string) error {
	return g.CommitWith(ctx, tx, guard, description, nil)
}

// CommitWith is Commit with writes of the caller's that must be durable before the change is visible. They run while
// the text goes out, which nothing refers to yet either, and share its flush on the devices of the metadata. When
// with fails nothing is changed, its error is returned, and the transaction can still be changed and committed.
func (g *Group) CommitWith(ctx context.Context, tx *Tx, guard blockdev.Guard, description string, with func(context.Context) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := g.cur.Load()
	if err := g.mayCommit(st, tx); err != nil {
		return fmt.Errorf("commit to %s: %w", st.vg.Name, err)
	}
	if !tx.Changed() && with == nil {
		tx.done = true
		return nil
	}
	c := &commit{w: writer{guard, g.opt.IOTimeout}, mdas: st.mdasInUse(), with: with}
	if err := c.prepare(g, tx, description); err != nil {
		return fmt.Errorf("commit to %s: %w", st.vg.Name, err)
	}
	if err := c.run(ctx); err != nil {
		if g.doubt = errors.Is(err, blockdev.ErrOutcomeUnknown); g.doubt {
			g.admit(tx.added) // a Refresh must find them if the change is there
		}
		return fmt.Errorf("commit %d to %s: %w", c.vg.Seqno, st.vg.Name, err)
	}
	tx.done = true
	g.admit(tx.added)
	next := *st
	next.vg, next.warnings = c.vg, nil
	next.scans = append(slices.Clip(st.scans), tx.added...)
	next.pvs = append(slices.Clip(st.pvs), tx.added...)
	g.cur.Store(&next)
	return nil
}

// admit makes the devices of further physical volumes some of the group's; caller holds mu.
func (g *Group) admit(added []*pvScan) {
	for _, s := range added {
		if !slices.Contains(g.devs, s.dev) {
			g.devs = append(slices.Clip(g.devs), s.dev)
		}
	}
}

// mayCommit refuses transactions that are finished, stale, or come while the truth is unknown.
func (g *Group) mayCommit(st *state, tx *Tx) error {
	switch {
	case g.opt.Follow:
		return fmt.Errorf("%w: the group was opened to follow it", ErrInvalid)
	case g.doubt:
		return ErrDoubt
	case tx.done:
		return ErrDone
	case tx.base != st.vg:
		return fmt.Errorf("transaction was begun at sequence number %d, the group is at %d: %w", tx.base.Seqno, st.vg.Seqno, ErrChanged)
	case len(tx.vg.foreign) > 0:
		return fmt.Errorf("%w: %s", ErrForeign, strings.Join(tx.vg.foreign, ", "))
	case st.vg.Seqno == math.MaxUint32:
		return fmt.Errorf("%w: sequence number is at its end", ErrInvalid)
	}
	return nil
}

// commit is one update on its way to the disk.
type commit struct {
	w    writer
	mdas []*mda
	vg   *VG
	text []byte // padded to sectors
	size int64  // without the padding
	next []slot // per area
	with func(context.Context) error
}

// prepare makes the text, proves that it can be read back, and finds its places.
func (c *commit) prepare(g *Group, tx *Tx, description string) error {
	vg := *tx.vg
	vg.Seqno++
	vg.head = slices.Clone(vg.head)
	vg.index = vg.index.compact(vg.LVs)
	s := section{items: vg.head}
	s.set("seqno", fmt.Sprint(vg.Seqno))
	h := header{description: description, host: g.opt.Host, system: "Holdfast on " + g.opt.Host, now: g.opt.Now()}
	g.buf = vg.appendText(g.buf[:0], h)
	c.size = int64(len(g.buf))
	vg.textSize = c.size
	c.vg = &vg
	if err := vg.readBack(g.buf, g.opt.Verify); err != nil {
		return fmt.Errorf("refusing to write a text that cannot be read back: %w", err)
	}
	sum := checksum(g.buf)
	g.buf = append(g.buf, make([]byte, -c.size&(sector-1))...)
	c.text = g.buf
	return c.placeAll(sum)
}

// placeAll finds the place of the text in every area.
func (c *commit) placeAll(sum uint32) error {
	if len(c.mdas) == 0 {
		return fmt.Errorf("no metadata area is usable: %w", ErrCorrupt)
	}
	for _, m := range c.mdas {
		if limit := maxText(m.area.size); c.size > limit {
			return fmt.Errorf("%w: text of %d bytes, %s takes %d; remove volumes or snapshots first", ErrMetadataFull, c.size, m.name(), limit)
		}
		old := m.head.slots[0]
		s := slot{offset: place(m.area.size, old), size: c.size, sum: sum}
		if overlaps(m.area.size, old, s) {
			return fmt.Errorf("%w: the text would overwrite the committed one in %s", ErrMetadataFull, m.name())
		}
		c.next = append(c.next, s)
	}
	return nil
}

// overlaps tells whether two texts, with their padding, share bytes of the ring.
func overlaps(area int64, a, b slot) bool {
	if a.empty() {
		return false
	}
	a1, a2 := pieces(area, a.offset, (a.size+sector-1)/sector*sector)
	b1, b2 := pieces(area, b.offset, (b.size+sector-1)/sector*sector)
	for _, x := range [...]byteRange{a1, a2} {
		for _, y := range [...]byteRange{b1, b2} {
			if x.size > 0 && y.size > 0 && x.off < y.off+y.size && y.off < x.off+x.size {
				return true
			}
		}
	}
	return false
}

// run takes the update through its phases.
func (c *commit) run(ctx context.Context) error {
	if err := c.writeHidden(ctx); err != nil {
		return err
	}
	if err := c.announce(ctx); err != nil {
		return err
	}
	return c.switchOver(ctx)
}

// announce flushes the text and writes the precommitted slots, at the same time: a reader of committed metadata does
// not look at that slot, so it needs the text's bytes in their place but not yet for good.
func (c *commit) announce(ctx context.Context) error {
	jobs := []func() error{
		func() error { return wrapped("flush text", c.flush(ctx)) },
		func() error {
			err := c.each(func(i int) error { return c.writeHead(ctx, i, c.mdas[i].head.slots[0], c.next[i]) })
			return wrapped("write precommitted slot", err)
		},
	}
	return errors.Join(parallel(len(jobs), func(i int) error { return jobs[i]() })...)
}

// wrapped says what failed.
func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// writeHidden writes all that nothing refers to yet: the text, and what the caller wants to be there with it.
func (c *commit) writeHidden(ctx context.Context) error {
	jobs := []func() error{func() error { return c.writeTexts(ctx) }}
	if c.with != nil {
		jobs = append(jobs, func() error { return c.with(ctx) })
	}
	return errors.Join(parallel(len(jobs), func(i int) error { return jobs[i]() })...)
}

// writeTexts writes the text into every area, if they are what the state was built on.
func (c *commit) writeTexts(ctx context.Context) error {
	if err := c.each(func(i int) error { return c.unmoved(ctx, c.mdas[i]) }); err != nil {
		return err
	}
	if err := c.each(func(i int) error { return c.writeText(ctx, i) }); err != nil {
		return fmt.Errorf("write text: %w", err)
	}
	return nil
}

// switchOver writes the committed slots. From its first write on, only complete success is a known outcome.
func (c *commit) switchOver(ctx context.Context) error {
	if err := c.writeCommitted(ctx); err != nil {
		return err
	}
	for i, m := range c.mdas {
		h := *m.head
		h.slots = [2]slot{c.next[i], {}}
		m.head, m.text = &h, nil
	}
	return nil
}

// writeCommitted writes the committed slots and makes them durable: in one go where the areas lie on one device.
func (c *commit) writeCommitted(ctx context.Context) error {
	dev := c.mdas[0].dev
	if dev.SectorSize() == sector && !slices.ContainsFunc(c.mdas, func(m *mda) bool { return m.dev != dev }) {
		return c.writeCommittedOn(ctx, dev)
	}
	errs := parallel(len(c.mdas), func(i int) error { return c.writeHead(ctx, i, c.next[i], slot{}) })
	if err := errors.Join(errs...); err != nil {
		if !slices.ContainsFunc(errs, mayBeWritten) {
			return fmt.Errorf("write committed slot: %w", err)
		}
		return fmt.Errorf("write committed slot: %w", unknownOutcome(err))
	}
	if err := c.flush(ctx); err != nil {
		return fmt.Errorf("flush committed slot: %w", unknownOutcome(err))
	}
	return nil
}

// writeCommittedOn is writeCommitted for one device.
func (c *commit) writeCommittedOn(ctx context.Context, dev blockdev.Device) error {
	var steps []blockdev.Step
	for i, m := range c.mdas {
		h := mdaHead{area: m.area, slots: [2]slot{c.next[i]}}
		steps = append(steps, blockdev.WriteStep(h.encode(), m.area.off))
	}
	steps = append(steps, blockdev.FlushStep())
	err := c.w.submit(ctx, func(ctx context.Context) error { return blockdev.Do(ctx, dev, steps...) })
	if err != nil && mayBeWritten(err) {
		err = unknownOutcome(err)
	}
	return wrapped("write committed slot", err)
}

// mayBeWritten is false only for errors that say that the write was never submitted.
func mayBeWritten(err error) bool {
	if err == nil || errors.Is(err, blockdev.ErrOutcomeUnknown) {
		return true
	}
	for _, e := range [...]error{blockdev.ErrLeaseLost, blockdev.ErrTimeout, blockdev.ErrReadOnly, blockdev.ErrPending, blockdev.ErrOutOfRange} {
		if errors.Is(err, e) {
			return false
		}
	}
	return true
}

// each runs f for every area at once.
func (c *commit) each(f func(int) error) error {
	return errors.Join(parallel(len(c.mdas), f)...)
}

// unmoved reads the header again and compares it with what the state was built on.
func (c *commit) unmoved(ctx context.Context, m *mda) error {
	if plant.On(plant.NoEpochCheck) {
		return nil // planted
	}
	p, err := readRange(ctx, m.dev, c.w.timeout, m.area.off, mdaHeader)
	if err != nil {
		return fmt.Errorf("re-read header of %s: %w", m.name(), err)
	}
	h, err := decodeMDA(p, m.area)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChanged, onDevice(m.dev, err))
	}
	if h.slots[0] != m.head.slots[0] {
		return fmt.Errorf("%s: %w", m.name(), ErrChanged)
	}
	return nil
}

// writeText writes the text into an area, in two pieces where the ring wraps.
func (c *commit) writeText(ctx context.Context, i int) error {
	m := c.mdas[i]
	a, b := pieces(m.area.size, c.next[i].offset, int64(len(c.text)))
	if err := c.w.write(ctx, m.dev, m.area.off+a.off, c.text[:a.size]); err != nil {
		return err
	}
	if b.size == 0 {
		return nil
	}
	return c.w.write(ctx, m.dev, m.area.off+b.off, c.text[a.size:])
}

// writeHead writes the header of an area with the given slots.
func (c *commit) writeHead(ctx context.Context, i int, committed, pre slot) error {
	m := c.mdas[i]
	h := mdaHead{area: m.area, slots: [2]slot{committed, pre}}
	return c.w.write(ctx, m.dev, m.area.off, h.encode())
}

// flush makes durable what was written, once per device.
func (c *commit) flush(ctx context.Context) error {
	var devs []blockdev.Device
	for _, m := range c.mdas {
		if !slices.Contains(devs, m.dev) {
			devs = append(devs, m.dev)
		}
	}
	return errors.Join(parallel(len(devs), func(i int) error { return c.w.flush(ctx, devs[i]) })...)
}
