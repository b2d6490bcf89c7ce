package qmp

import (
	"context"
	"slices"
)

// look brings the book up to date, lets the guest go on if there is space again, and sets the alarm.
func (v *Volume) look(ctx context.Context, c *Conn) error {
	all, err := c.stats(ctx)
	if err != nil {
		return err
	}
	high, err := highestOf(all, v.cfg.Node)
	if err != nil {
		return err
	}
	v.setAbove(aboveOf(all, v.cfg.Node))
	v.book.note(high)
	if err := v.resume(ctx, c); err != nil {
		return err
	}
	return v.setAlarm(ctx, c)
}

// resume lets a guest go on that was paused for lack of space on this volume, when there is some: the volume has grown since, or it
// is not low, as after an extension that nobody was there to see. If that was wrong it is paused again.
func (v *Volume) resume(ctx context.Context, c *Conn) error {
	stuck, err := c.NoSpace(ctx, v.nodes()...)
	if err != nil {
		return err
	}
	v.book.paused(stuck)
	if !stuck || !v.book.takeGrown() && v.book.status().Low {
		return nil
	}
	going, err := c.Cont(ctx)
	if err == nil && going {
		v.book.paused(false)
	}
	return err
}

// setAlarm asks QEMU for the event, unless it has the wish already.
func (v *Volume) setAlarm(ctx context.Context, c *Conn) error {
	offset, ok := v.book.alarm()
	if !ok || offset == v.alarm.Load() {
		return nil
	}
	if err := c.SetWriteThreshold(ctx, v.cfg.Node, offset); err != nil {
		return err
	}
	v.alarm.Store(offset)
	return nil
}

// happened enters what an event says, if it is about this volume.
func (v *Volume) happened(e Event) (ours bool, err error) {
	switch e.Name {
	case EventWriteThreshold:
		return v.crossed(e)
	case EventIOError:
		return v.failed(e)
	}
	return false, nil
}

// crossed enters a write behind the threshold.
func (v *Volume) crossed(e Event) (ours bool, err error) {
	t, err := decodeEvent[threshold](e)
	if err != nil || t.Node != v.cfg.Node {
		return false, err
	}
	v.alarm.Store(0) // QEMU tells once
	if end, ok := t.end(); ok {
		v.book.note(end)
	}
	return true, nil
}

// failed enters a write that did not fit. Other errors are the guest's business. Whether the guest waits now, the look that follows
// finds out: the event may be older than the growth that has let it go on.
func (v *Volume) failed(e Event) (ours bool, err error) {
	x, err := decodeEvent[ioError](e)
	if err != nil || !x.NoSpace || !slices.Contains(v.nodes(), x.Node) {
		return false, err
	}
	v.book.update(func(s *Status) bool {
		s.Denied++
		s.LastError = "the guest's write did not fit: " + x.Reason
		return true
	})
	return true, nil
}

// nodes are all by which QEMU may name the volume: its own, and those above it.
func (v *Volume) nodes() []string {
	out := append(slices.Clone(v.cfg.Above), v.cfg.Node)
	if found := v.above.Load(); found != nil {
		out = append(out, *found...)
	}
	return out
}

// setAbove remembers the nodes that were found above the volume's own.
func (v *Volume) setAbove(found []string) { v.above.Store(&found) }
