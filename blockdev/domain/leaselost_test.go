package domain

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
)

// TestWriter_leaseLostAtEveryWrite loses the lease before each write of a change in turn. What the caller is told then has to be what
// the next writer finds.
func TestWriter_leaseLostAtEveryWrite(t *testing.T) {
	t.Parallel()
	base := blockdev.NewMem(lunSize, 512)
	w := writer(t, newDomain(t, base))
	create(t, w, qcow(1))
	_ = w.Close()
	text := "another text"
	exists := func(v Volume, ok bool) bool { return ok && v.State == StateOK }
	for name, tc := range map[string]struct {
		change func(t *testing.T, w *Writer) error
		done   func(v Volume, ok bool) bool
	}{
		"create": {func(t *testing.T, w *Writer) error { _, err := w.Create(deadline(t), qcow(2)); return err }, exists},
		"child": {func(t *testing.T, w *Writer) error {
			s := qcow(2)
			s.Image, s.Parent, s.Name = imgID(1), volID(1), "disk 1"
			_, err := w.Create(deadline(t), s)
			return err
		}, exists},
		"delete": {func(t *testing.T, w *Writer) error { return w.Delete(deadline(t), volID(1)) }, func(v Volume, ok bool) bool { return !exists(v, ok) }},
		"update": {func(t *testing.T, w *Writer) error {
			_, err := w.Update(deadline(t), volID(1), VolumeEdit{Description: &text})
			return err
		}, func(v Volume, _ bool) bool { return v.Description == text }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := volID(2)
			if name == "delete" || name == "update" {
				target = volID(1)
			}
			told := map[bool]int{}
			for allowed := int64(0); ; allowed++ {
				done, last := loseAfter(t, base.Clone(), allowed, target, tc.change, tc.done)
				told[done]++
				if last {
					break
				}
			}
			if told[true] == 0 || told[false] == 0 || name == "delete" && told[true] < 2 { // its space may be freed later
				t.Errorf("told that it was done %d times, that it was not %d times", told[true], told[false])
			}
		})
	}
}

// loseAfter allows so many writes of a change, and compares what it says with what is there. last: it needed no more.
func loseAfter(t *testing.T, lun *blockdev.Mem, allowed int64, target string, change func(*testing.T, *Writer) error, is func(Volume, bool) bool) (done, last bool) {
	t.Helper()
	var counting atomic.Bool
	var asked atomic.Int64
	w, _, err := openDomain(t, lun).BecomeWriter(deadline(t), openGuard{epoch: 4, closed: func() bool { return counting.Load() && asked.Add(1) > allowed }})
	if err != nil {
		t.Fatal(err)
	}
	counting.Store(true)
	err = change(t, w)
	_ = w.Close()
	if err != nil && !errors.Is(err, blockdev.ErrLeaseLost) {
		t.Errorf("after %d writes: %v", allowed, err)
	}
	d := openDomain(t, lun)
	next, _, rerr := d.BecomeWriter(deadline(t), openGuard{epoch: 5})
	if rerr != nil {
		t.Fatal(rerr)
	}
	defer func() { _ = next.Close() }()
	v, ok := d.Volume(target)
	if there := is(v, ok); there != (err == nil) && !errors.Is(err, blockdev.ErrOutcomeUnknown) {
		t.Errorf("after %d writes it says %v, and the next writer finds %+v", allowed, err, v)
	}
	create(t, next, qcow(3)) // a commit brings all metadata areas up
	mustBeClean(t, lun)
	return err == nil, asked.Load() <= allowed
}
