package blockdev_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// guard is good for a fixed time, and notes what it was asked.
type guard struct {
	good  time.Duration
	asked []time.Duration
}

func (g *guard) Epoch() uint64 { return 1 }
func (g *guard) Check(need time.Duration) error {
	g.asked = append(g.asked, need)
	if need >= g.good {
		return errors.New("expired")
	}
	return nil
}

func TestGuarded(t *testing.T) {
	t.Parallel()
	m := blockdev.NewMem(1<<20, 512)
	g := &guard{good: 10 * time.Second}
	d := blockdev.NewGuarded(m, g)
	want := bytes.Repeat([]byte{1}, 512)
	if err := d.WriteAt(short(t, 5*time.Second), want, 0); err != nil {
		t.Fatal(err)
	}
	if len(g.asked) != 2 || g.asked[0] < 4*time.Second+blockdev.GuardMargin {
		t.Errorf("asked for %v, want twice at least the deadline and the margin", g.asked)
	}
	late := short(t, 10*time.Second) // the lease does not outlive this deadline by the margin
	none := blockdev.NewGuarded(m, nil)
	for name, f := range calls(d, 0, 512) {
		if err := f(late); (name == "read") != (err == nil) || err != nil && !errors.Is(err, blockdev.ErrLeaseLost) {
			t.Errorf("%s: %v", name, err)
		}
		if err := calls(none, 0, 512)[name](late); name != "read" && !errors.Is(err, blockdev.ErrLeaseLost) {
			t.Errorf("%s without a guard: %v", name, err)
		}
	}
	if err := d.Flush(late); err != nil {
		t.Errorf("flush: %v", err)
	}
	if !bytes.Equal(m.Bytes(0, 512), want) {
		t.Error("something was written")
	}
}

// TestGuarded_lostBetween: a lease that is lost between the call and the submission stops the write.
func TestGuarded_lostBetween(t *testing.T) {
	t.Parallel()
	for name, inner := range map[string]blockdev.Device{
		"mem":  blockdev.NewMem(1<<20, 512),
		"file": openFile(t, blockdev.Options{}),
	} {
		d := blockdev.NewGuarded(inner, &once{})
		if err := d.WriteAt(testutil.Deadline(t), bytes.Repeat([]byte{1}, 512), 0); !errors.Is(err, blockdev.ErrLeaseLost) {
			t.Errorf("%s: %v", name, err)
		}
		got := make([]byte, 512)
		if err := inner.ReadAt(testutil.Deadline(t), got, 0); err != nil || got[0] != 0 {
			t.Errorf("%s: written without a lease, or %v", name, err)
		}
	}
}

// once is a guard that agrees one time.
type once struct{ n int }

func (o *once) Epoch() uint64 { return 1 }
func (o *once) Check(time.Duration) error {
	if o.n++; o.n > 1 {
		return blockdev.ErrLeaseLost
	}
	return nil
}

func TestLinear_partial(t *testing.T) {
	t.Parallel()
	a, b := blockdev.NewMem(4096, 512), faulty.New(blockdev.NewMem(4096, 512))
	d, err := blockdev.NewLinear("lv", []blockdev.Segment{{Dev: a, Off: 0, Len: 4096}, {Dev: b, Off: 0, Len: 4096}})
	if err != nil {
		t.Fatal(err)
	}
	b.Inject(faulty.Fault{Err: faulty.EIO})
	ctx := testutil.Deadline(t)
	if err := d.WriteAt(ctx, make([]byte, 1024), 4096-512); !errors.Is(err, blockdev.ErrOutcomeUnknown) || !errors.Is(err, faulty.EIO) {
		t.Errorf("half written: %v", err)
	}
	if err := d.WriteAt(ctx, make([]byte, 512), 4096); errors.Is(err, blockdev.ErrOutcomeUnknown) || !errors.Is(err, faulty.EIO) {
		t.Errorf("not written: %v", err)
	}
	if err := d.Flush(ctx); !errors.Is(err, faulty.EIO) {
		t.Errorf("flush: %v", err)
	}
}

func TestLinear_refusals(t *testing.T) {
	t.Parallel()
	m, k := blockdev.NewMem(8192, 512), blockdev.NewMem(8192, 4096)
	for name, segs := range map[string][]blockdev.Segment{
		"none":       nil,
		"mixed":      {{Dev: m, Len: 4096}, {Dev: k, Len: 4096}},
		"misaligned": {{Dev: m, Off: 1, Len: 512}},
		"empty":      {{Dev: m}},
		"too long":   {{Dev: m, Off: 512, Len: 8192}},
		"negative":   {{Dev: m, Off: -512, Len: 512}},
		"overflow":   {{Dev: m, Off: 1 << 62, Len: 1 << 62}},
	} {
		if _, err := blockdev.NewLinear("lv", segs); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

func TestMem_cloneAndFile(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	m := blockdev.NewMem(1<<40, 4096)
	p := bytes.Repeat([]byte{1}, 4096)
	if err := m.WriteAt(ctx, p, 1<<39); err != nil {
		t.Fatal(err)
	}
	c := m.Clone()
	m.SetBytes(1<<39, []byte{2})
	c.SetBytes(1<<39+1, []byte{3})
	if got := m.Bytes(1<<39, 2); !bytes.Equal(got, []byte{2, 1}) {
		t.Errorf("original %v", got)
	}
	if got := c.Bytes(1<<39, 2); !bytes.Equal(got, []byte{1, 3}) {
		t.Errorf("clone %v", got)
	}
	small := blockdev.NewMem(3*4096, 4096)
	small.SetBytes(5000, []byte("hello"))
	path := t.TempDir() + "/f"
	if err := small.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	back, err := blockdev.ReadMem(path, 4096)
	if err != nil || back.Size() != small.Size() || !bytes.Equal(back.Bytes(0, 1<<20), small.Bytes(0, 1<<20)) {
		t.Errorf("read back: %v", err)
	}
}
