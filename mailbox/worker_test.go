package mailbox

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// hangingOn is a handler for which one domain's requests hang until their time is up.
type hangingOn UUID

func (h hangingOn) Extend(ctx context.Context, r Request) error {
	if r.Domain == UUID(h) {
		<-ctx.Done()
		return blockdev.ErrTimeout
	}
	return nil
}

type openGuard struct{}

func (openGuard) Check(time.Duration) error { return nil }
func (openGuard) Epoch() uint64             { return 1 }

// firstOut is how long the first answer takes that is not for the hung domain, or not hung; other is the domain of that request.
func firstOut(t *testing.T, hung, other UUID) (took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := &ServerConfig{Handler: hangingOn(hung), Guard: openGuard{}, Options: DefaultServerOptions(), Log: slog.New(slog.DiscardHandler)}
		w := startWorkers(t.Context(), cfg)
		begun := time.Now()
		put := func(domain UUID, limit time.Duration) {
			j := &job{deadline: begun.Add(limit)}
			j.req.Domain = domain
			w.put(j)
		}
		for range 3 * cfg.Options.Workers {
			put(hung, time.Minute)
		}
		put(other, time.Hour)
		for {
			j := <-w.out
			w.took(j)
			if j.deadline.Equal(begun.Add(time.Hour)) {
				took = time.Since(begun)
				break
			}
		}
		w.stop()
		for len(w.out) > 0 {
			w.took(<-w.out)
		}
		if w.count != 0 || len(w.of) != 0 || len(w.lanes) != 0 {
			t.Errorf("left: %d jobs, %d domains, %d lanes", w.count, len(w.of), len(w.lanes))
		}
	})
	return took
}

// Requests for a domain that hangs keep no other domain's waiting. One that is for the hung domain itself does wait, which shows that
// the test can tell.
func TestWorkers_hungDomainHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	hung, other := UUID{1}, UUID{2}
	if took := firstOut(t, hung, other); took != 0 {
		t.Errorf("another domain waited for %v", took)
	}
	if took := firstOut(t, hung, hung); took < time.Minute {
		t.Errorf("the hung domain answered after %v", took)
	}
}

// One domain cannot fill the queue.
func TestWorkers_roomForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := &ServerConfig{Handler: hangingOn(UUID{1}), Guard: openGuard{}, Options: DefaultServerOptions(), Log: slog.New(slog.DiscardHandler)}
		w := startWorkers(t.Context(), cfg)
		defer w.stop()
		n := 0
		for ; w.room(UUID{1}); n++ {
			j := &job{deadline: time.Now().Add(time.Minute)}
			j.req.Domain = UUID{1}
			w.put(j)
		}
		if n != cfg.Options.Queue*3/4 || !w.room(UUID{2}) {
			t.Errorf("one domain took %d of %d places, room for others: %v", n, cfg.Options.Queue, w.room(UUID{2}))
		}
	})
}
