package blockdev_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// testSteps: steps do what the calls one by one do, and a refusal of any of them comes before the first.
func testSteps(t *testing.T, d blockdev.Device) {
	ctx, ss := testutil.Deadline(t), d.SectorSize()
	want, got := bytes.Repeat([]byte{7}, 2*ss), make([]byte, 4*ss)
	off := int64(16 * ss)
	if err := d.WriteZeroes(ctx, off, int64(len(got))); err != nil {
		t.Fatal(err)
	}
	err := blockdev.Do(ctx, d, blockdev.WriteStep(want, off), blockdev.FlushStep(), blockdev.ReadStep(got, off))
	if err != nil || !bytes.Equal(got[:2*ss], want) || !bytes.Equal(got[2*ss:], make([]byte, 2*ss)) {
		t.Fatalf("write, flush, read: %v", err)
	}
	refused := errors.New("refused")
	no := blockdev.WithSubmitCheck(ctx, func() error { return refused })
	if err := blockdev.Do(no, d, blockdev.WriteStep(got[2*ss:], off), blockdev.FlushStep()); !errors.Is(err, refused) {
		t.Errorf("write against the guard: %v", err)
	}
	four := []blockdev.Step{blockdev.FlushStep(), blockdev.FlushStep(), blockdev.WriteStep(want, off), blockdev.ReadStep(got, off)}
	if err := blockdev.Do(ctx, d, four...); err != nil || !bytes.Equal(got[:2*ss], want) {
		t.Errorf("four steps: %v", err)
	}
}

// TestDo_refused: a step that cannot be done keeps those before it from being done, on devices that take all at once.
func TestDo_refused(t *testing.T) {
	t.Parallel()
	d := open(t, testutil.SparseFile(t, "lun", 1<<20), blockdev.Options{})
	ctx, p := testutil.Deadline(t), bytes.Repeat([]byte{1}, 512)
	err := blockdev.Do(ctx, d, blockdev.WriteStep(p, 0), blockdev.ReadStep(make([]byte, 512), 1<<20))
	if !errors.Is(err, blockdev.ErrOutOfRange) || errors.Is(err, blockdev.ErrOutcomeUnknown) {
		t.Errorf("read beyond the end: %v", err)
	}
	if err := d.ReadAt(ctx, p, 0); err != nil || p[0] != 0 {
		t.Errorf("the write was done: %v", err)
	}
}

// TestDo_hung: steps that hang are one call abandoned, and they land whole and in order when the kernel lets them.
func TestDo_hung(t *testing.T) {
	t.Parallel()
	file, freeze, thaw := frozenFS(t)
	d := open(t, file, blockdev.Options{})
	freeze()
	p := bytes.Repeat([]byte{5}, 4096)
	got := make([]byte, 4096)
	err := blockdev.Do(short(t, time.Second), d, blockdev.WriteStep(p, 0), blockdev.FlushStep(), blockdev.ReadStep(got, 0))
	if !errors.Is(err, blockdev.ErrOutcomeUnknown) || d.Pending() != 1 {
		t.Errorf("%v, %d pending", err, d.Pending())
	}
	clear(p)
	thaw()
	wantPending(t, d, 0)
	if err := d.ReadAt(testutil.Deadline(t), p, 0); err != nil || p[0] != 5 || got[0] != 0 {
		t.Errorf("%v: on disk %d, in the abandoned slice %d", err, p[0], got[0])
	}
}
