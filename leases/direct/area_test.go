package direct

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/rindex"
)

// FuzzArea: any bytes decode without a panic, damage lies within the area, and what is shown lies there too.
func FuzzArea(f *testing.F) {
	for _, pattern := range []string{"../testdata/golden/*.bin", "../rindex/testdata/*.bin"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, false)
			f.Add(b, true)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, big bool) {
		geo := leases.Geometry512
		if big {
			geo = leases.Geometry{SectorSize: 4096, AlignSize: 2 << 20}
		}
		buf := make([]byte, 64<<10)
		copy(buf, b)
		a := &Area{Offset: 4 << 20, Geometry: geo, Kind: kindOf(buf)}
		if a.Kind == KindOther {
			a.guess(buf)
		}
		a.decode(buf)
		for _, d := range a.Damage {
			if d.Offset < a.Offset || d.Length < 1 || d.Offset+int64(d.Length) > a.Offset+geo.AlignSize || d.What == "" {
				t.Fatalf("%+v", d)
			}
		}
		for _, h := range a.Blocks {
			if h.Host < 1 || h.Host > geo.MaxHosts() || h.Offset != a.Offset+geo.SectorOffset(h.Host+1) {
				t.Fatalf("%+v", h)
			}
		}
		for _, e := range a.Entries {
			if e.Slot < 0 || e.Entry.Free() {
				t.Fatalf("%+v", e)
			}
		}
	})
}

func TestCode_numbersOfErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {codef(CodeNumHosts, "x"), -228}, {fmt.Errorf("outer: %w", coded(CodeMagic, errors.New("inner"))), -223},
		{&leases.HeldError{Shared: true}, -11}, {&leases.HeldError{}, -244}, {fmt.Errorf("%w: %w", leases.ErrNoLockspace, &leases.HeldError{}), -241},
		{leases.ErrHostIDBusy, -262}, {leases.ErrChanged, -251}, {blockdev.ErrOutcomeUnknown, -202}, {blockdev.ErrOutOfRange, -90},
		{rindex.ErrFull, -28}, {rindex.ErrMismatch, -278}, {fs.ErrNotExist, -2}, {errors.New("anything"), -5},
	} {
		if got := Code(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}
