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

// workers calls the handler. The loop puts jobs in and takes them out; all of them come out. Each domain has workers of its own, so
// that one whose LUN hangs keeps no other waiting.
type workers struct {
	cfg    *ServerConfig
	ctx    context.Context
	out    chan *job
	count  int          // jobs in it; belongs to the loop
	of     map[UUID]int // the same by domain
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex // guards lanes
	lanes map[UUID]*lane
}

// lane is what waits and runs for one domain. workers.mu guards it.
type lane struct {
	queue   []*job
	running int // goroutines
}

// startWorkers makes workers. Their goroutines end, and are waited for, in stop.
func startWorkers(ctx context.Context, cfg *ServerConfig) *workers {
	w := &workers{cfg: cfg, out: make(chan *job, cfg.Options.Queue), of: map[UUID]int{}, lanes: map[UUID]*lane{}}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w
}

// room says whether one more job for a domain fits. A quarter of the queue is out of reach of any one domain.
func (w *workers) room(domain UUID) bool {
	q := w.cfg.Options.Queue
	return w.count < q && w.of[domain] < max(q-q/4, 1)
}

// put takes in a job, for which there must be room.
func (w *workers) put(j *job) {
	w.count++
	w.of[j.req.Domain]++
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.lanes[j.req.Domain]
	if l == nil {
		l = &lane{}
		w.lanes[j.req.Domain] = l
	}
	l.queue = append(l.queue, j)
	if l.running < w.cfg.Options.Workers {
		l.running++
		w.wg.Go(func() { w.run(j.req.Domain, l) })
	}
}

// took notes that a job came out.
func (w *workers) took(j *job) {
	w.count--
	if w.of[j.req.Domain]--; w.of[j.req.Domain] == 0 {
		delete(w.of, j.req.Domain)
	}
}

// run handles the jobs of a domain until none is left.
func (w *workers) run(domain UUID, l *lane) {
	for {
		j := w.next(domain, l)
		if j == nil {
			return
		}
		j.err = w.handle(w.ctx, j)
		w.out <- j // there is room for all that are in
	}
}

// next is the job that waits longest in a lane; nil: none does, and one goroutine fewer runs there.
func (w *workers) next(domain UUID, l *lane) *job {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(l.queue) == 0 {
		if l.running--; l.running == 0 {
			delete(w.lanes, domain)
		}
		return nil
	}
	j := l.queue[0]
	l.queue = l.queue[1:]
	return j
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
	w.wg.Wait()
}
