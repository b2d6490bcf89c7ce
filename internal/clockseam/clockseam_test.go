package clockseam

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T) (string, *Seam) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clock")
	if err := Set(path, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, s
}

func TestSet(t *testing.T) {
	t.Parallel()
	const s = time.Second
	path, seam := open(t)
	for i, step := range []struct {
		boot, offset time.Duration
		ppm          int64
		ask, want    time.Duration
	}{
		{boot: 100 * s, ask: 150 * s, want: 150 * s},
		{boot: 200 * s, ppm: 1000, ask: 300 * s, want: 300*s + 100*time.Millisecond},
		{boot: 300 * s, ppm: -1000, ask: 300 * s, want: 300*s + 100*time.Millisecond}, // no step
		{boot: 400 * s, ask: 500 * s, want: 500 * s},                                  // what it lost it has gained
		{boot: 500 * s, offset: time.Hour, ask: 501 * s, want: time.Hour + 501*s},
		{boot: 502 * s, ask: 503 * s, want: time.Hour + 503*s},                          // a suspend is not undone
		{boot: 504 * s, offset: -time.Hour, ask: 505 * s, want: time.Hour + 505*s},      // only the wall clock goes back
		{boot: 506 * s, ask: 507 * s, want: time.Hour + 507*s},                          // and comes again
		{boot: 508 * s, offset: time.Minute, ask: 508 * s, want: time.Hour + 568*s},     // the next suspend
		{boot: 509 * s, offset: 2 * time.Minute, ask: 509 * s, want: time.Hour + 629*s}, // one minute more
	} {
		before := seam.Skew(step.boot)
		if err := Set(path, step.boot, step.offset, step.ppm); err != nil {
			t.Fatal(err)
		}
		if got := seam.Skew(step.boot); got < before {
			t.Errorf("step %d: the clock went back from %v to %v", i, before, got)
		}
		if got := seam.Skew(step.ask); got != step.want {
			t.Errorf("step %d: %v at %v, want %v", i, got, step.ask, step.want)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) != Size || binary.LittleEndian.Uint64(b) != uint64(2*time.Minute) {
		t.Errorf("%d bytes, %x, %v", len(b), b[:16], err)
	}
	if err := Set(path, 0, 0, maxPPM+1); err == nil {
		t.Error("a clock that is no clock was set")
	}
}

// While one side sets, the other never sees half a line.
func TestSeam_Skew_races(t *testing.T) {
	t.Parallel()
	path, seam := open(t)
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		last := time.Duration(0)
		for {
			got := seam.Skew(time.Hour)
			if got < last || got > 2*time.Hour {
				t.Errorf("%v after %v", got, last)
				return
			}
			last = got
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for i := range 1000 {
		if err := Set(path, time.Hour, time.Duration(i)*time.Second, int64(i%2)); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

func TestOpen_refuses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "clock")
	if _, err := Open(path); err == nil {
		t.Error("no file was mapped")
	}
	if err := os.WriteFile(path, make([]byte, 16), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Error("a file that is too short was mapped")
	}
}
