package keeper

import (
	"context"
	"log/slog"
	"sync"
)

// asyncLog hands records to a goroutine and drops them when that one is behind: a log that blocks, such as a pipe that
// nobody reads, must not stop a renewal.
type asyncLog struct {
	next  slog.Handler
	queue chan logged
}

type logged struct {
	h slog.Handler
	r slog.Record
}

// newAsyncLog starts the goroutine; stop ends it after what is queued has been written.
func newAsyncLog(next slog.Handler) (h *asyncLog, stop func()) {
	h = &asyncLog{next: next, queue: make(chan logged, 256)}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { h.write(quit) })
	return h, func() { close(quit); wg.Wait() }
}

func (h *asyncLog) write(quit <-chan struct{}) {
	for {
		select {
		case l := <-h.queue:
			_ = l.h.Handle(context.Background(), l.r)
		case <-quit:
			for len(h.queue) > 0 {
				l := <-h.queue
				_ = l.h.Handle(context.Background(), l.r)
			}
			return
		}
	}
}

// Enabled implements slog.Handler.
func (h *asyncLog) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h *asyncLog) Handle(_ context.Context, r slog.Record) error {
	select {
	case h.queue <- logged{h.next, r.Clone()}:
	default:
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h *asyncLog) WithAttrs(a []slog.Attr) slog.Handler {
	return &asyncLog{next: h.next.WithAttrs(a), queue: h.queue}
}

// WithGroup implements slog.Handler.
func (h *asyncLog) WithGroup(name string) slog.Handler {
	return &asyncLog{next: h.next.WithGroup(name), queue: h.queue}
}
