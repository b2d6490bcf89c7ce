package blockdev_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// TestDevice_conformance runs every property of a Device over every backend.
func TestDevice_conformance(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			d := b.make(t)
			for _, c := range conformance {
				t.Run(c.name, func(t *testing.T) { c.test(t, d) })
			}
			t.Run("pending", func(t *testing.T) {
				if n := d.Pending(); n != 0 {
					t.Errorf("%d calls pending", n)
				}
			})
		})
	}
}

var conformance = []struct {
	name string
	test func(t *testing.T, d blockdev.Device)
}{
	{"geometry", testGeometry},
	{"random", testRandom},
	{"unalignedMemory", testUnalignedMemory},
	{"refusals", testRefusals},
	{"expired", testExpired},
	{"parallel", testParallel},
	{"submitCheck", testSubmitCheck},
	{"steps", testSteps},
}

func testGeometry(t *testing.T, d blockdev.Device) {
	if d.Size() != devSize {
		t.Errorf("size %d, want %d", d.Size(), devSize)
	}
	if ss := d.SectorSize(); ss != 512 && ss != 4096 {
		t.Errorf("sector size %d", ss)
	}
	if d.Name() == "" {
		t.Error("no name")
	}
}

// testRandom does random mutations on the device and on a slice and compares.
func testRandom(t *testing.T, d blockdev.Device) {
	ctx := testutil.Deadline(t)
	model := make([]byte, d.Size())
	source := rand.NewChaCha8([32]byte{byte(d.SectorSize() >> 8)})
	rnd := rand.New(source)
	for range 60 {
		off, n := randomRange(rnd, d)
		if err := mutate(ctx, rnd, source, d, model, off, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, d.Size())
	if err := d.ReadAt(ctx, got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, model) {
		t.Fatal("device and model differ")
	}
}

// mutate does one random mutation on both.
func mutate(ctx context.Context, rnd *rand.Rand, bytes io.Reader, d blockdev.Device, model []byte, off, n int64) error {
	part := model[off : off+n]
	switch rnd.IntN(4) {
	case 0:
		clear(part)
		return d.WriteZeroes(ctx, off, n)
	case 1:
		err := d.Discard(ctx, off, n)
		if err != nil && !errors.Is(err, blockdev.ErrNotSupported) {
			return err
		}
		return d.ReadAt(ctx, part, off) // whatever is there now
	default:
		io.ReadFull(bytes, part) // never fails
		return d.WriteAt(ctx, part, off)
	}
}

func randomRange(rnd *rand.Rand, d blockdev.Device) (off, n int64) {
	ss := int64(d.SectorSize())
	sectors := d.Size() / ss
	length := int64(1) << rnd.IntN(14) // up to 8 MiB or 64 MiB
	first := rnd.Int64N(sectors)
	return first * ss, min(length, sectors-first) * ss
}

func testUnalignedMemory(t *testing.T, d blockdev.Device) {
	ctx := testutil.Deadline(t)
	raw := bytes.Repeat([]byte("odd"), 3*d.SectorSize())
	p := raw[1 : 1+2*d.SectorSize()]
	off := d.Size() - int64(len(p)) // the very end
	if err := d.WriteAt(ctx, p, off); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(p)+1)[1:]
	if err := d.ReadAt(ctx, got, off); err != nil || !bytes.Equal(got, p) {
		t.Fatalf("read back: %v", err)
	}
}

func testRefusals(t *testing.T, d blockdev.Device) {
	ctx := testutil.Deadline(t)
	ss, end := int64(d.SectorSize()), d.Size()
	for _, c := range []struct {
		name   string
		off, n int64
		want   error
	}{
		{"odd offset", 1, ss, blockdev.ErrMisaligned},
		{"odd length", 0, ss - 1, blockdev.ErrMisaligned},
		{"negative", -ss, ss, blockdev.ErrOutOfRange},
		{"beyond", end, ss, blockdev.ErrOutOfRange},
		{"across", end - ss, 2 * ss, blockdev.ErrOutOfRange},
		{"overflow", (1<<62 - 1) / ss * ss, ss, blockdev.ErrOutOfRange},
	} {
		for name, f := range calls(d, c.off, c.n) {
			if err := f(ctx); !errors.Is(err, c.want) {
				if name == "discard" && errors.Is(err, blockdev.ErrNotSupported) {
					continue
				}
				t.Errorf("%s, %s: %v", c.name, name, err)
			}
		}
	}
	if err := d.WriteZeroes(ctx, ss, -ss); err == nil {
		t.Error("negative length accepted")
	}
	for name, f := range calls(d, 0, 0) {
		if err := f(ctx); err != nil && name != "discard" {
			t.Errorf("%s of nothing: %v", name, err)
		}
	}
}

// calls are all operations on a range.
func calls(d blockdev.Device, off, n int64) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"read":    func(ctx context.Context) error { return d.ReadAt(ctx, make([]byte, n), off) },
		"write":   func(ctx context.Context) error { return d.WriteAt(ctx, make([]byte, n), off) },
		"zero":    func(ctx context.Context) error { return d.WriteZeroes(ctx, off, n) },
		"discard": func(ctx context.Context) error { return d.Discard(ctx, off, n) },
	}
}

func testExpired(t *testing.T, d blockdev.Device) {
	ss := int64(d.SectorSize())
	gone, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	all := calls(d, 0, ss)
	all["flush"] = d.Flush
	for name, f := range all {
		if err := f(context.Background()); !errors.Is(err, blockdev.ErrNoDeadline) && !isUnsupported(name, err) {
			t.Errorf("%s without a deadline: %v", name, err)
		}
		err := f(gone)
		if !errors.Is(err, blockdev.ErrTimeout) && !isUnsupported(name, err) || errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Errorf("%s after its deadline: %v", name, err)
		}
	}
}

func isUnsupported(name string, err error) bool {
	return name == "discard" && errors.Is(err, blockdev.ErrNotSupported)
}

// testParallel lets many callers each write and read their own place.
func testParallel(t *testing.T, d blockdev.Device) {
	ctx := testutil.Deadline(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			n := int64(8 << 10)
			p := bytes.Repeat([]byte{byte(i + 1)}, int(n))
			got := make([]byte, n)
			for range 5 {
				if err := errors.Join(d.WriteAt(ctx, p, int64(i)*n), d.Flush(ctx), d.ReadAt(ctx, got, int64(i)*n)); err != nil {
					t.Error(err)
				}
				if !bytes.Equal(got, p) {
					t.Errorf("caller %d read something else", i)
				}
			}
		})
	}
	wg.Wait()
}

// testSubmitCheck wants every mutation to be refused by the check that travels in the context, and nothing else.
func testSubmitCheck(t *testing.T, d blockdev.Device) {
	ctx := testutil.Deadline(t)
	ss := int64(d.SectorSize())
	want := bytes.Repeat([]byte{7}, int(ss))
	if err := d.WriteAt(ctx, want, 0); err != nil {
		t.Fatal(err)
	}
	no := fmt.Errorf("stopped")
	checked := blockdev.WithSubmitCheck(ctx, func() error { return no })
	for name, f := range calls(d, 0, ss) {
		if err := f(checked); (name != "read") != errors.Is(err, no) && !isUnsupported(name, err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got := make([]byte, ss)
	if err := errors.Join(d.Flush(checked), d.ReadAt(ctx, got, 0)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("contents changed, or %v", err)
	}
}
