package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/mailbox"
)

// Waiting is a volume that asked for space and did not get it yet.
type Waiting struct {
	Since  time.Time
	Reason string
	Size   int64 // asked for
}

// Observer counts what growing costs. It must not block.
type Observer interface {
	// Asked is one request for space.
	Asked()
	// Grown is the time from the need of space to its use.
	Grown(took time.Duration)
	// Paused is a time for which writes waited for space.
	Paused(took time.Duration)
}

// grower makes one volume larger in time. One request at most is under way.
type grower struct {
	rec      Record
	rules    Growth
	mapping  Mapping
	disks    Disks
	extender Extender
	observe  Observer
	times    *latencies
	report   func(Event)
	high     func(int64) // keeps the highest byte written
	log      *slog.Logger

	mu      sync.Mutex // guards waiting and last, which others read
	waiting *Waiting
	last    Status

	// of run alone
	needed  time.Time // since when more space is needed; zero: it is not
	paused  time.Time // since when writes wait; zero: none does
	retryIn time.Duration
	retry   *time.Timer
	results chan extension
	busy    bool
	told    bool // the event of a wait was reported
	short   int  // requests in a row that were refused for lack of space
}

// extension is what came of a request.
type extension struct {
	status Status
	err    error
	size   int64
}

// run serves the volume until the mapping ends or ctx does; both goroutines below end with it.
func (g *grower) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	g.results = make(chan extension, 1)
	g.retry = time.NewTimer(time.Hour)
	g.retry.Stop()
	defer g.retry.Stop()
	news, ended := make(chan Status, 1), make(chan error, 1)
	all.Go(func() { ended <- pump(ctx, g.mapping, news) })
	for {
		select {
		case st := <-news:
			g.see(st)
		case e := <-g.results:
			g.finished(e)
		case <-g.retry.C:
			g.retryIn *= 2
			g.begin(ctx, &all)
			continue
		case err := <-ended:
			return err
		}
		if g.retryIn == 0 {
			g.begin(ctx, &all)
		}
	}
}

// pump hands on each state of a mapping, the newest only where nobody took the one before.
func pump(ctx context.Context, m Mapping, news chan Status) error {
	for seq := uint64(0); ; {
		st, err := m.Watch(ctx, seq)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			continue // nothing happened for a long time
		}
		if err != nil {
			return err
		}
		seq = st.Seq
		select {
		case <-news:
		default:
		}
		news <- st
	}
}

// see takes in a state.
func (g *grower) see(st Status) {
	g.mu.Lock()
	if st.Seq >= g.last.Seq { // else it is older than what an extension has brought
		g.last = st
	} else {
		st = g.last
	}
	g.mu.Unlock()
	now := time.Now()
	switch {
	case st.Waiting > 0 && g.paused.IsZero():
		g.paused = now
	case st.Waiting == 0 && !g.paused.IsZero():
		g.observe.Paused(now.Sub(g.paused))
		g.paused = time.Time{}
	}
	if needsMore(st) && g.needed.IsZero() {
		g.needed = now
		g.high(st.HighBytes)
	}
}

// begin asks for space, if it is needed and nothing is under way.
func (g *grower) begin(ctx context.Context, all *sync.WaitGroup) {
	st := g.status()
	if g.busy || g.needed.IsZero() {
		return
	}
	size := g.rules.Less(st, g.rules.Target(st, g.times.p99()), g.short)
	g.busy = true
	g.observe.Asked()
	g.log.Debug("asking for space", "volume", g.rec.Volume, "allocated", st.AllocatedBytes, "high", st.HighBytes, "size", size)
	all.Go(func() {
		grown, err := g.extend(ctx, size)
		g.results <- extension{grown, err, size}
	})
}

// extend is one request, up to the use of the space.
func (g *grower) extend(ctx context.Context, size int64) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, g.rules.RequestTimeout)
	defer cancel()
	if err := g.extender.Extend(ctx, g.rec.Domain, g.rec.Volume, size); err != nil {
		return Status{}, err
	}
	segs, err := g.disks.Segments(ctx, g.rec.Domain, g.rec.Volume)
	if err != nil {
		return Status{}, fmt.Errorf("reading where the extended volume lies: %w", err)
	}
	if got := total(segs); got < size {
		return Status{}, fmt.Errorf("the volume was extended to %d bytes, and the disks show %d yet", size, got)
	}
	return g.mapping.Grow(ctx, segs)
}

// finished takes in what came of a request.
func (g *grower) finished(e extension) {
	g.busy = false
	if e.err != nil {
		g.failed(e)
		return
	}
	took := time.Since(g.needed)
	g.needed, g.retryIn, g.short = time.Time{}, 0, 0
	g.times.add(took)
	g.observe.Grown(took)
	g.log.Info("the volume has grown", "volume", g.rec.Volume, "allocated", e.status.AllocatedBytes, "took", took)
	g.setWaiting(nil)
	if g.told {
		g.told = false
		g.report(Event{Kind: EventGrown, Subject: g.rec.Volume, Message: fmt.Sprintf("the volume got its space after %v", took.Round(time.Millisecond))})
	}
	g.see(e.status)
}

// failed arranges for another try, and says once that the volume waits.
func (g *grower) failed(e extension) {
	if errors.Is(e.err, domain.ErrNoSpace) || errors.Is(e.err, mailbox.ErrRefused) { // the mailbox cannot say why
		g.short++
	}
	g.retryIn = min(max(g.retryIn, g.rules.RetryMin), g.rules.RetryMax)
	g.retry.Reset(g.retryIn)
	g.setWaiting(&Waiting{Since: g.needed, Reason: e.err.Error(), Size: e.size})
	if errors.Is(e.err, context.Canceled) || g.told {
		return
	}
	g.told = true
	g.log.Warn("the volume waits for space", "volume", g.rec.Volume, "size", e.size, "error", e.err)
	g.report(Event{Kind: EventWaiting, Warning: true, Subject: g.rec.Volume,
		Message: fmt.Sprintf("the volume waits for space (%d bytes): %v", e.size, e.err)})
}

func (g *grower) setWaiting(w *Waiting) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = w
}

func (g *grower) status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

// state is what others are told.
func (g *grower) state() (Status, *Waiting) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last, g.waiting
}
