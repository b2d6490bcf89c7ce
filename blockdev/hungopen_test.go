package blockdev

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A path whose openings never come back holds so many threads and no more, however often it is tried, and is opened again once one has.
func TestOpen_hangsForHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const path = "/dev/mapper/hung for hours"
		release, begun := make(chan struct{}), 0
		try := func(open func() (*local, error)) error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := openAside(ctx, path, open)
			synctest.Wait()
			return err
		}
		for i := range 500 {
			err := try(func() (*local, error) { begun++; <-release; return nil, ErrGone })
			if want := map[bool]error{true: ErrTimeout, false: ErrPending}[i < maxHungOpens]; !errors.Is(err, want) {
				t.Fatalf("attempt %d: %v", i, err)
			}
			time.Sleep(30 * time.Second)
		}
		if begun != maxHungOpens {
			t.Errorf("%d openings hang", begun)
		}
		close(release)
		synctest.Wait()
		if err := try(func() (*local, error) { return nil, ErrGone }); !errors.Is(err, ErrGone) {
			t.Errorf("after they came back: %v", err)
		}
		if n := hungOpen(path, 0); n != 0 {
			t.Errorf("%d still counted", n)
		}
	})
}
