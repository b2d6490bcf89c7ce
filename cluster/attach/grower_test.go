package attach

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// spm extends volumes after a while, unless it is told to fail.
type spm struct {
	w     *world
	delay time.Duration

	mu      sync.Mutex // guards what follows
	err     error
	room    int64 // the largest size that there is space for; 0: any
	asked   int
	running int
	most    int // requests of one volume at the same time
}

func (s *spm) Extend(ctx context.Context, _, volume string, size int64) error {
	s.mu.Lock()
	s.asked++
	s.running++
	s.most = max(s.most, s.running)
	err := s.err
	if s.room > 0 && size > s.room {
		err = &domain.NoSpaceError{Volume: volume}
	}
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.running--; s.mu.Unlock() }()
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	v := s.w.vols[volume]
	if have := total(v.Segments); have < size {
		v.Segments = append(v.Segments[:len(v.Segments):len(v.Segments)], Segment{"/dev/lun", have, size - have})
	}
	s.w.vols[volume] = v
	return nil
}

// seen is how often it was asked, and how often at the same time.
func (s *spm) seen() (asked, most int) { s.mu.Lock(); defer s.mu.Unlock(); return s.asked, s.most }

func (s *spm) fail(err error) { s.mu.Lock(); defer s.mu.Unlock(); s.err = err }

// counted counts what growing costs.
type counted struct {
	mu     sync.Mutex // guards what follows
	grown  []time.Duration
	paused []time.Duration
	events []Event
}

func (c *counted) Asked() {}
func (c *counted) Grown(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.grown = append(c.grown, d)
}
func (c *counted) Paused(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = append(c.paused, d)
}
func (c *counted) event(e Event) { c.mu.Lock(); defer c.mu.Unlock(); c.events = append(c.events, e) }

// growing attaches the leaf on a host whose volumes an spm extends.
func growing(t *testing.T, delay time.Duration) (*world, *spm, *counted, *agent, *proc) {
	w := newWorld(t)
	s, c := &spm{w: w, delay: delay}, &counted{}
	a := w.start("h1", t.TempDir(), s)
	a.cfg.Observe, a.cfg.Report = c, c.event
	at, err := a.Attach(t.Context(), req(leaf))
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w, s, c, a, w.procs[at.Process.PID]
}

func (p *proc) state() Status { p.w.mu.Lock(); defer p.w.mu.Unlock(); return p.st }

// write raises the highest byte, and waits like a guest's write until there is space.
func (p *proc) write(n int64) {
	p.w.mu.Lock()
	end := min(p.st.HighBytes+n, p.st.SizeBytes)
	for p.st.AllocatedBytes < end {
		p.st.WantBytes = end
		p.event()
		changed := p.changed
		p.w.mu.Unlock()
		<-changed
		p.w.mu.Lock()
	}
	p.st.HighBytes = end
	p.event()
	p.w.mu.Unlock()
}

// A writer of 1 GiB/s and an extension of 300 ms: no write ever waits, up to the largest size, and one request at a time.
func TestGrower_noPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, c, a, p := growing(t, 300*time.Millisecond)
		defer a.kill()
		for range 1101 {
			p.write(gib / 100)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if len(c.paused) > 0 {
			t.Errorf("writes waited: %v", c.paused)
		}
		if p.st.AllocatedBytes != 11*gib || p.st.HighBytes != 11*gib {
			t.Errorf("%+v", p.st)
		}
		if asked, most := s.seen(); most != 1 || asked < 4 || asked > 5 {
			t.Errorf("%d requests, %d at once", asked, most)
		}
	})
}

// The domain is full: the volume says since when and why it waits, goes on asking, and a write that waits goes on when there is
// space. The event is told once.
func TestGrower_full(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, c, a, p := growing(t, 50*time.Millisecond)
		defer a.kill()
		s.fail(domain.ErrFull)
		done := make(chan struct{})
		go func() { p.write(4 * gib); close(done) }()
		time.Sleep(time.Minute)
		l := a.List()[0]
		if l.Waiting == nil || time.Since(l.Waiting.Since) < 59*time.Second || l.Waiting.Reason != domain.ErrFull.Error() || a.Counts().Waiting != 1 {
			t.Errorf("%+v, %+v", l.Waiting, a.Counts())
		}
		if asked, _ := s.seen(); asked < 12 || asked > 25 {
			t.Errorf("asked %d times in a minute", asked)
		}
		s.fail(nil)
		select {
		case <-done:
		case <-time.After(6 * time.Second):
			t.Fatal("the write still waits")
		}
		synctest.Wait()
		if a.List()[0].Waiting != nil || p.st.AllocatedBytes < 6*gib {
			t.Errorf("afterwards: %+v, %+v", a.List()[0].Waiting, p.st)
		}
		if len(c.paused) != 1 || c.paused[0] < time.Minute || len(c.grown) != 1 || c.grown[0] < time.Minute {
			t.Errorf("paused %v, grown %v", c.paused, c.grown)
		}
		if len(c.events) != 2 || c.events[0].Kind != EventWaiting || !c.events[0].Warning || c.events[1].Kind != EventGrown {
			t.Errorf("events: %+v", c.events)
		}
	})
}

// What is left of a domain is given out before a guest has to wait, although a chunk does not fit any more.
func TestGrower_lastSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, c, a, p := growing(t, 50*time.Millisecond)
		defer a.kill()
		const room = 4*gib + 100*mib // the chunk after the first ends behind it
		s.mu.Lock()
		s.room = room
		s.mu.Unlock()
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			for p.state().HighBytes < room-200*mib {
				p.write(20 * mib)
				time.Sleep(200 * time.Millisecond)
			}
		}()
		select {
		case <-wrote:
		case <-time.After(5 * time.Minute):
			s.mu.Lock()
			s.room = 0 // so that the writer ends
			s.mu.Unlock()
			<-wrote
			t.Fatalf("a write waits with space left: %+v", p.state())
		}
		time.Sleep(time.Minute)
		if len(c.paused) > 0 {
			t.Errorf("writes waited with space left: %v", c.paused)
		}
		if st := p.state(); st.AllocatedBytes > room || st.AllocatedBytes < room-200*mib {
			t.Errorf("%+v", st)
		}
		if a.List()[0].Waiting == nil {
			t.Error("nobody is told that the next chunk is missing")
		}
		s.mu.Lock()
		s.room = 0
		s.mu.Unlock()
		time.Sleep(10 * time.Second)
		if st := p.state(); a.List()[0].Waiting != nil || st.AllocatedBytes < room+gib {
			t.Errorf("with space again: %+v", st)
		}
	})
}

func TestGrowth_Less(t *testing.T) {
	t.Parallel()
	g := DefaultGrowth()
	st := Status{SizeBytes: 100 * gib, AllocatedBytes: 10 * gib, HighBytes: 9 * gib}
	waiting := st
	waiting.WantBytes = 10*gib + 300*mib
	for _, c := range []struct {
		st       Status
		refusals int
		want     int64
	}{
		{st, 0, 10*gib + 2560*mib}, {st, 1, 10*gib + 1280*mib}, {st, 4, 10*gib + 160*mib}, {st, 12, 10*gib + mib}, {st, 1000, 10*gib + mib},
		{waiting, 0, 10*gib + 2560*mib}, {waiting, 4, 10*gib + 300*mib},
		{Status{SizeBytes: 10*gib + mib, AllocatedBytes: 10 * gib}, 3, 10*gib + mib},
	} {
		if got := g.Less(c.st, g.Target(c.st, 0), c.refusals); got != c.want {
			t.Errorf("%d refusals: %d MiB more, want %d", c.refusals, (got-c.st.AllocatedBytes)/mib, (c.want-c.st.AllocatedBytes)/mib)
		}
	}
}

// A request that hangs is given up and made again; an agent that ends does not wait for it.
func TestGrower_hangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, _, a, p := growing(t, time.Hour)
		p.write(gib)
		time.Sleep(2 * time.Minute)
		if asked, most := s.seen(); asked < 3 || most != 1 {
			t.Errorf("%d requests, %d at once", asked, most)
		}
		begun := time.Now()
		a.kill()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the end took %v", took)
		}
	})
}

// The SPM says that the volume was extended and the disks do not show it yet.
func TestGrower_staleDisks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &grower{rules: DefaultGrowth(), extender: nothing{}, disks: host{w: newWorld(t)}, rec: Record{Domain: dom, Volume: leaf}}
		if _, err := g.extend(t.Context(), 3*gib); err == nil {
			t.Error("accepted")
		}
	})
}

type nothing struct{}

func (nothing) Extend(context.Context, string, string, int64) error { return nil }

func TestGrowth_target(t *testing.T) {
	t.Parallel()
	g := DefaultGrowth()
	if g.Threshold() != 2*gib {
		t.Errorf("threshold %d", g.Threshold())
	}
	const chunk = 2560 * mib
	for name, tc := range map[string]struct {
		st   Status
		p99  time.Duration
		want int64
	}{
		"a chunk more":            {Status{AllocatedBytes: chunk, HighBytes: gib, SizeBytes: 100 * gib}, time.Second, 2 * chunk},
		"never more than it uses": {Status{AllocatedBytes: chunk, HighBytes: gib, SizeBytes: 4 * gib}, time.Second, 4 * gib},
		"rate":                    {Status{AllocatedBytes: 2 * gib, HighBytes: 2 * gib, GrowRate: gib, SizeBytes: 100 * gib}, 2 * time.Second, 8 * gib},
		"a far write":             {Status{AllocatedBytes: 2 * gib, WantBytes: 20 * gib, SizeBytes: 100 * gib}, time.Second, 22 * gib},
		"an absurd rate":          {Status{AllocatedBytes: 2 * gib, HighBytes: 2 * gib, GrowRate: 1 << 62, SizeBytes: 100 * gib}, time.Hour, 100 * gib},
		"rounded":                 {Status{AllocatedBytes: 2*gib + 1, HighBytes: 1, SizeBytes: 100 * gib}, time.Second, 2*gib + chunk + mib},
	} {
		if got := g.Target(tc.st, tc.p99); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	for _, bad := range []Growth{{}, {ChunkBytes: chunk, UtilizationPercent: 100, RequestTimeout: 1, RetryMin: 1, RetryMax: 1}, {ChunkBytes: chunk}} {
		if err := bad.Validate(); !errors.Is(err, ErrGrowth) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	var l latencies
	if l.p99() != firstLatency {
		t.Error("the first")
	}
	for i := range 500 {
		l.add(time.Duration(i) * time.Millisecond)
	}
	if got := l.p99(); got != 498*time.Millisecond {
		t.Errorf("p99 %v", got)
	}
}

// Who lists gets what is written now, not what it was when something last happened.
func TestManager_listNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, _, a, p := growing(t, 50*time.Millisecond)
		defer a.kill()
		synctest.Wait()
		heard := a.List()[0].Status.HighBytes
		p.w.mu.Lock()
		p.st.HighBytes = heard + 4096 // far from the threshold: nobody is told
		p.w.mu.Unlock()
		if got := a.List()[0].Status.HighBytes; got != heard {
			t.Errorf("heard of %d, then %d", heard, got)
		}
		if got := a.ListNow(t.Context())[0].Status.HighBytes; got != heard+4096 {
			t.Errorf("asked: %d, want %d", got, heard+4096)
		}
		p.w.mu.Lock()
		p.mute = true
		p.w.mu.Unlock()
		begin := time.Now()
		if got := a.ListNow(t.Context()); len(got) != 1 || time.Since(begin) > lookTimeout {
			t.Errorf("%d after %v", len(got), time.Since(begin))
		}
	})
}
