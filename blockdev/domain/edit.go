package domain

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
)

// maxGeneration is where GEN begins again.
const maxGeneration = 999

// VolumeEdit is a change of what people read of a volume. A nil field stays as it is.
type VolumeEdit struct {
	Name        *string
	Description *string
}

// normalise refuses an edit that changes nothing or cannot be stored.
func (e *VolumeEdit) normalise() error {
	if e.Name == nil && e.Description == nil {
		return fmt.Errorf("neither a name nor a description is given: %w", ErrInvalid)
	}
	if e.Description != nil {
		if err := checkText("description", *e.Description); err != nil {
			return err
		}
	}
	if e.Name == nil {
		return nil
	}
	if len(*e.Name) > maxName {
		return fmt.Errorf("name of %d bytes, at most %d are allowed: %w", len(*e.Name), maxName, ErrInvalid)
	}
	return checkText("name", *e.Name)
}

// Update changes the name or the description of a volume and returns it when that is on disk. The volume's lease is held
// meanwhile, as its holder may write the same sector; one that another host holds refuses. The write of that sector
// decides: errors other than ErrOutcomeUnknown mean that nothing has changed. The same edit again changes nothing more.
func (w *Writer) Update(ctx context.Context, id string, e VolumeEdit) (Volume, error) {
	v, err := w.update(ctx, id, e)
	if err != nil {
		return v, fmt.Errorf("updating volume %s: %w", id, err)
	}
	return v, nil
}

func (w *Writer) update(ctx context.Context, id string, e VolumeEdit) (Volume, error) {
	if err := e.normalise(); err != nil {
		return Volume{}, err
	}
	if err := w.turns.enter(ctx, id); err != nil {
		return Volume{}, err
	}
	defer w.turns.leave(id)
	r := &request{edit: &e, target: id}
	if v, ok := w.d.Volume(id); ok && v.exists() {
		held, err := w.take(ctx, &v)
		if err != nil {
			return Volume{}, err
		}
		r.held = held
	}
	err := w.q.submit(ctx, r)
	w.giveBack(ctx, r.held, err)
	return r.vol, err
}

// editing is one edit of a batch. Nobody else of the batch works on its volume: whoever does has the volume's turn.
type editing struct {
	r       *request
	vol     Volume // as it shall be
	was     Volume
	claimed string // name that it reserved
	meta    []byte // the new sector
	wrote   bool   // the sector was submitted
	err     error
}

// edit carries out the edits of a batch and returns the other requests. It comes before they are planned, so that what they
// find is what is on disk. All sectors are written at once, and one flush covers them.
func (w *Writer) edit(ctx context.Context, reqs []*request) (rest []*request) {
	var all []*editing
	for _, r := range reqs {
		if r.edit == nil {
			rest = append(rest, r)
			continue
		}
		all = append(all, &editing{r: r})
	}
	if len(all) == 0 {
		return rest
	}
	for _, m := range all {
		m.err = w.planEdit(m)
	}
	parallel(len(all), func(i int) { w.writeEdit(ctx, all[i]) })
	w.flushEdits(ctx, all)
	for _, m := range all {
		w.settleEdit(m)
	}
	return rest
}

// planEdit finds out whether the volume can be changed, and reserves its new name.
func (w *Writer) planEdit(m *editing) error {
	v, ok := w.d.Volume(m.r.target)
	switch {
	case !ok || isSpecial(v.ID) || !v.exists():
		return ErrNotFound
	case v.State == StateUnreadable:
		return fmt.Errorf("its metadata cannot be read (%s); domain check tells how to repair it: %w", v.Problem, ErrConflict)
	case w.index.slots[v.Slot] != 1:
		return fmt.Errorf("another volume has the same metadata slot %d; domain check tells how to repair it: %w", v.Slot, ErrConflict)
	case v.DiskType == "OVFS":
		return fmt.Errorf("it is an OVF store, whose description oVirt's engine keeps its state in: %w", ErrConflict)
	}
	m.was, m.vol = v, v
	name := m.r.edit.Name
	if name == nil || *name == v.Name {
		return nil
	}
	if *name != "" && w.index.nameTaken(*name, v.Image) {
		return fmt.Errorf("%q: %w", *name, ErrNameTaken)
	}
	w.index.linkName(*name, v.Image, 1)
	m.claimed = *name
	return nil
}

// writeEdit reads the sector, which a host may have changed since, and writes it with the new text.
func (w *Writer) writeEdit(ctx context.Context, m *editing) {
	if m.err != nil {
		return
	}
	dev, err := w.device("metadata")
	if err != nil {
		m.err = err
		return
	}
	if m.r.held != nil {
		dev = blockdev.NewGuarded(dev, m.r.held)
	}
	off := w.d.geometry().slotOffset(m.vol.Slot)
	m.meta = make([]byte, slotSize)
	if m.err = w.d.io.read(ctx, dev, m.meta, off); m.err != nil {
		return
	}
	if m.err = m.change(); m.err != nil {
		return
	}
	m.err = w.d.io.write(ctx, dev, m.meta, off)
	m.wrote = m.err == nil || !errors.Is(m.err, blockdev.ErrLeaseLost) // which says that nothing was submitted
}

// change makes the new sector out of the old one.
func (m *editing) change() error {
	s, err := decodeSlot(m.meta)
	if err == nil {
		err = s.checkWords()
	}
	if err == nil && s.image != m.vol.Image {
		err = &foreignSlotError{s.image, s.ctime}
	}
	if err != nil {
		return fmt.Errorf("slot %d has changed, domain check tells how to repair it: %w: %w", m.vol.Slot, ErrConflict, err)
	}
	text, err := editDescription(s.description, *m.r.edit)
	if err != nil {
		return err
	}
	if text != s.description { // so that the same edit again leaves the same sector
		s.description, s.gen = text, s.gen%maxGeneration+1
	}
	meta, err := s.encode()
	if err != nil {
		return err
	}
	m.meta = meta
	m.vol.Name, m.vol.Description = decodeDescription(s.description)
	m.vol.Generation = int(s.gen)
	return nil
}

// flushEdits makes the written sectors durable. Without that nobody knows what a power loss leaves of them.
func (w *Writer) flushEdits(ctx context.Context, all []*editing) {
	var wrote []*editing
	for _, m := range all {
		if m.wrote && m.err == nil {
			wrote = append(wrote, m)
		}
	}
	if len(wrote) == 0 {
		return
	}
	dev, err := w.device("metadata")
	if err == nil {
		err = w.d.io.flush(ctx, dev)
	}
	for _, m := range wrote {
		m.err = err
	}
}

// settleEdit answers one request, and makes what is durable visible. A sector that was submitted and is not known to be
// there, or not to stay, leaves the writer in doubt.
func (w *Writer) settleEdit(m *editing) {
	switch {
	case m.err == nil:
		if m.vol.Name != m.was.Name {
			w.index.linkName(m.was.Name, m.was.Image, -1)
			if m.claimed == "" { // somebody else had renamed it on disk
				w.index.linkName(m.vol.Name, m.vol.Image, 1)
			}
		}
		m.vol.Epoch, m.vol.Seq = w.Epoch(), w.seq.Add(1)
		w.d.put(m.vol)
		m.r.vol = m.vol
		return
	case m.wrote:
		m.err = fmt.Errorf("writing slot %d: %w: %w", m.vol.Slot, ErrOutcomeUnknown, m.err)
		w.doubt = fmt.Errorf("an earlier update has an unknown outcome; refresh first: %w", ErrOutcomeUnknown)
	case unanswered(m.err):
		m.err = w.stalled("reading its metadata slot", m.err)
	}
	w.index.linkName(m.claimed, m.vol.Image, -1)
	m.r.err = m.err
}
