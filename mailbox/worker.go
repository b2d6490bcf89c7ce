package mailbox

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// job is a request in the queue.
type job struct {
	id       int
	req      Request
	deadline time.Time
	dropped  atomic.Bool // not wanted any more; looked at before the handler is called
	err      error       // written by the worker, read when it comes back
}

// workers calls the handler. The loop puts jobs in and takes them out; all of them come out.
type workers struct {
	cfg    *ServerConfig
	in     chan *job
	out    chan *job
	count  int // jobs in it; belongs to the loop
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startWorkers starts the goroutines. They end, and are waited for, in stop.
func startWorkers(ctx context.Context, cfg *ServerConfig) *workers {
	o := cfg.Options
	w := &workers{cfg: cfg, in: make(chan *job, o.Queue), out: make(chan *job, o.Queue)}
	ctx, w.cancel = context.WithCancel(ctx)
	for range o.Workers {
		w.wg.Go(func() { w.run(ctx) })
	}
	return w
}

// room says whether one more job fits.
func (w *workers) room() bool { return w.count < w.cfg.Options.Queue }

// put takes in a job, for which there must be room.
func (w *workers) put(j *job) {
	w.count++
	w.in <- j
}

func (w *workers) run(ctx context.Context) {
	for j := range w.in {
		j.err = w.handle(ctx, j)
		w.out <- j
	}
}

// handle calls the handler unless nobody wants it any more.
func (w *workers) handle(ctx context.Context, j *job) error {
	if j.dropped.Load() || ctx.Err() != nil {
		return ErrStopped
	}
	if err := w.cfg.Guard.Check(0); err != nil {
		return fmt.Errorf("not the SPM any more: %w", err)
	}
	ctx, cancel := context.WithDeadline(ctx, j.deadline)
	defer cancel()
	err := w.cfg.Handler.Extend(ctx, j.req)
	if err != nil {
		w.cfg.Log.Warn("mailbox request was not done", "host_id", j.req.Host, "request", j.req.String(), "error", err)
	}
	return err
}

// stop ends the handlers and waits for them.
func (w *workers) stop() {
	w.cancel()
	close(w.in)
	w.wg.Wait()
}
