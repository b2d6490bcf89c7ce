package faulty_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func TestDevice_delay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := faulty.New(blockdev.NewMem(1<<20, 512))
		d.Inject(faulty.Fault{Ops: faulty.Write, Delay: time.Second})
		begin := time.Now()
		if err := d.WriteAt(within(t, 2*time.Second), fill(1, 512), 0); err != nil || time.Since(begin) != time.Second {
			t.Errorf("slow write: %v after %v", err, time.Since(begin))
		}
		err := d.WriteAt(within(t, time.Second/2), fill(2, 512), 0)
		if !errors.Is(err, blockdev.ErrOutcomeUnknown) || d.Pending() != 1 {
			t.Errorf("too slow write: %v, %d pending", err, d.Pending())
		}
	})
}

func TestDevice_hang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := blockdev.NewMem(1<<20, 512)
		d := faulty.New(m)
		r := d.Inject(faulty.Fault{Hang: true, Off: 0, Len: 4096})
		p := fill(1, 512)
		if err := d.WriteAt(within(t, time.Second), p, 0); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Errorf("write: %v", err)
		}
		clear(p)
		if err := d.ReadAt(within(t, time.Second), p, 0); !errors.Is(err, blockdev.ErrTimeout) {
			t.Errorf("read: %v", err)
		}
		if err := d.WriteAt(within(t, time.Second), p, 4096); err != nil {
			t.Errorf("write elsewhere: %v", err)
		}
		if d.Pending() != 2 || r.Hits() != 2 || m.Bytes(0, 1)[0] != 0 {
			t.Errorf("%d pending, %d hits", d.Pending(), r.Hits())
		}
		go func() { time.Sleep(time.Second); d.Release() }()
		if err := d.WriteAt(within(t, time.Minute), fill(3, 512), 512); err != nil {
			t.Errorf("write released in time: %v", err)
		}
		if d.Pending() != 0 || m.Bytes(0, 1)[0] != 1 || m.Bytes(512, 1)[0] != 3 {
			t.Error("the late write did not land with the data it was given")
		}
		d.WriteAt(within(t, time.Second), fill(9, 512), 0)
		d.Forget()
		if d.Pending() != 0 || m.Bytes(0, 1)[0] != 1 {
			t.Error("a forgotten write landed")
		}
	})
}

func TestDevice_failAndDrop(t *testing.T) {
	t.Parallel()
	m := blockdev.NewMem(1<<20, 512)
	d := faulty.New(m)
	ctx := within(t, time.Minute)
	r := d.Inject(faulty.Fault{Ops: faulty.Write, Err: faulty.EIO, After: 1, Count: 1})
	for i, want := range []error{nil, faulty.EIO, nil} {
		if err := d.WriteAt(ctx, fill(1, 512), 0); !errors.Is(err, want) {
			t.Errorf("write %d: %v", i, err)
		}
	}
	r.Remove()
	d.Inject(faulty.Fault{Ops: faulty.Write | faulty.Flush, Drop: true})
	if err := errors.Join(d.WriteAt(ctx, fill(2, 512), 0), d.Flush(ctx)); err != nil || m.Bytes(0, 1)[0] != 1 {
		t.Errorf("dropped write: %v, or it landed", err)
	}
	d.Heal()
	if err := d.WriteAt(ctx, fill(2, 512), 0); err != nil || m.Bytes(0, 1)[0] != 2 {
		t.Errorf("after Heal: %v", err)
	}
}

func TestDevice_torn(t *testing.T) {
	t.Parallel()
	m := blockdev.NewMem(1<<20, 512)
	d := faulty.New(m)
	d.Inject(faulty.Fault{Ops: faulty.Write, Torn: 2})
	if err := d.WriteAt(within(t, time.Minute), fill(1, 2048), 512); !errors.Is(err, faulty.EIO) {
		t.Errorf("torn write: %v", err)
	}
	if want := append(append(make([]byte, 512), fill(1, 1024)...), make([]byte, 1024)...); !bytes.Equal(m.Bytes(0, 2560), want) {
		t.Error("not the first two sectors")
	}
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	base := blockdev.NewMem(1<<20, 512)
	base.SetBytes(0, fill(9, 4096))
	m := base.Clone()
	r := faulty.NewRecorder(m)
	ctx := within(t, time.Minute)
	p := fill(1, 1024)
	steps := []error{
		r.WriteAt(ctx, p, 0), r.Flush(ctx), r.WriteAt(ctx, fill(2, 1024), 1024), r.WriteZeroes(ctx, 0, 512), r.Discard(ctx, 2048, 512),
		r.ReadAt(ctx, make([]byte, 512), 0),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	clear(p) // the log has a copy
	same := func(name string, got *blockdev.Mem, want []byte) {
		t.Helper()
		if !bytes.Equal(got.Bytes(0, int64(len(want))), want) {
			t.Errorf("%s: wrong contents", name)
		}
	}
	old, one, two := fill(9, 1024), fill(1, 1024), fill(2, 1024)
	same("nothing", r.Replay(base, 0, 0), old)
	same("torn", r.Replay(base, 0, 1), append(fill(1, 512), fill(9, 512)...))
	same("torn second", r.Replay(base, 2, 1), append(append(append([]byte{}, one...), two[:512]...), fill(9, 512)...))
	same("everything", r.Replay(base, r.Len(), 0), m.Bytes(0, m.Size()))
	same("base untouched", base, old)
	if v := r.Volatile(5); len(v) != 3 || v[0] != 2 {
		t.Errorf("volatile %v", v)
	}
	same("reordered", r.ReplayKeep(base, 5, func(seq int) bool { return seq == 3 }), append(append(make([]byte, 512), fill(1, 512)...), old...))
	want := faulty.Stats{Reads: 1, ReadBytes: 512, Writes: 2, WriteBytes: 2048, Zeroes: 1, Discards: 1, Flushes: 1}
	if r.Stats() != want {
		t.Errorf("stats %+v", r.Stats())
	}
	if r.Sectors(0) != 2 || r.Sectors(1) != 0 || r.Sectors(99) != 0 {
		t.Error("wrong number of sectors")
	}
}

// TestRecorder_volatileUnderFlush: a write that came back after the flush came in is not covered by it, though it
// is earlier in the log; a flush that failed covers nothing.
func TestRecorder_volatileUnderFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := faulty.New(blockdev.NewMem(1<<20, 512))
		r := faulty.NewRecorder(f)
		f.Inject(faulty.Fault{Ops: faulty.Write, Delay: time.Second, Count: 1})
		done := make(chan error)
		go func() { done <- r.WriteAt(within(t, time.Minute), fill(1, 512), 0) }()
		synctest.Wait()
		if err := r.Flush(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if v := r.Volatile(2); len(v) != 1 || v[0] != 0 {
			t.Errorf("volatile %v, want the slow write", v)
		}
		f.Inject(faulty.Fault{Ops: faulty.Flush, Err: faulty.EIO, Count: 1})
		r.Flush(within(t, time.Minute))
		if v := r.Volatile(3); len(v) != 1 {
			t.Errorf("volatile %v after a failed flush", v)
		}
	})
}
