package crash

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

// step is one operation of a history. The writes of the log from begin to end are its own; before begin it cannot have
// happened, from end on it must have.
type step struct {
	change
	begin, end int
}

// history is a recorded sequence of operations, the first of them the start of an SPM.
type history struct {
	name   string
	base   *base
	rec    *faulty.Recorder
	pages  map[int64]bool // that the writes touch
	steps  []step
	before []moment // before step i; the last one is the end
}

// moment is what is true between two steps.
type moment struct {
	*snapshot
	sum   uint64
	epoch uint64          // the last one that a host served under
	dead  []domain.Volume // deleted so far
}

// layer is put between the host and the recorder to plant a mistake.
type layer func(blockdev.Device) blockdev.Device

// record runs a sequence. Nothing of the host is left when it returns.
func (b *base) record(ctx context.Context, kinds string, bug layer) (*history, error) {
	h := &history{name: "start " + kinds, base: b, rec: faulty.NewRecorder(b.mem.Clone()), pages: map[int64]bool{}}
	w := b.world
	if w.dev = h.rec; bug != nil {
		w.dev = bug(h.rec)
	}
	first := change{kind: 's', ask: func(ctx context.Context, w *world) error { return w.start(ctx) }, note: func(*world) {}}
	if err := h.moment(ctx, &w); err != nil {
		return nil, err
	}
	if err := h.do(ctx, &w, first); err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		c, err := w.change(byte(kind))
		if err == nil {
			err = h.do(ctx, &w, c)
		}
		if err != nil {
			w.a.crash(ctx)
			return nil, fmt.Errorf("history %s: %w", h.name, err)
		}
	}
	w.a.crash(ctx)
	for _, e := range h.rec.Log() {
		pagesOf(e, h.pages)
	}
	return h, nil
}

// do carries out one step.
func (h *history) do(ctx context.Context, w *world, c change) error {
	s := step{change: c, begin: h.rec.Len()}
	if err := c.ask(ctx, w); err != nil {
		return fmt.Errorf("operation %c: %w", c.kind, err)
	}
	c.note(w)
	s.end = h.rec.Len()
	h.steps = append(h.steps, s)
	return h.moment(ctx, w)
}

// moment notes what is true now, and that it is what was asked for.
func (h *history) moment(ctx context.Context, w *world) error {
	s, err := take(ctx, h.rec.Device)
	if err != nil {
		return err
	}
	if err := s.agrees(w); err != nil {
		return err
	}
	m := moment{snapshot: s, sum: s.sum(), dead: w.dead}
	if w.a != nil {
		m.epoch = w.a.epoch
	}
	h.before = append(h.before, m)
	return nil
}
