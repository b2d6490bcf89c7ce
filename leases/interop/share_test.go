package interop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

// What a side may do with a resource.
const (
	exclusive = "EX"
	shared    = "SH"
)

// side is one party of the matrix, ours or theirs, with the one lease it has.
type side interface {
	take(mode string) error // nothing to mode
	turn(mode string) error // from the mode it has to the other one
	drop() error            // back to nothing
}

// errRefused says that the other side's lease is in the way, as opposed to an error.
var errRefused = errors.New("refused")

// theirSide is a user of a daemon.
type theirSide struct {
	u   *user
	res string
	has string
}

func (s *theirSide) name(mode string) string {
	if mode == shared {
		return s.res + ":SH"
	}
	return s.res
}

func (s *theirSide) result(rc int, mode string) error {
	switch {
	case rc >= 0:
		s.has = mode
		return nil
	case rc == rcIDLive || rc == rcAgain || rc == rcOwned || rc == rcOther:
		return errRefused
	}
	return fmt.Errorf("sanlock: %d", rc)
}

func (s *theirSide) take(mode string) error {
	rc, _ := s.u.acquire(s.name(mode), 0)
	return s.result(rc, mode)
}

func (s *theirSide) turn(mode string) error {
	rc, _ := s.u.do("convert", s.name(mode))
	return s.result(rc, mode)
}

func (s *theirSide) drop() error {
	rc, _ := s.u.do("release", s.res)
	return s.result(rc, "")
}

// ourSide is a host of ours.
type ourSide struct {
	h  *host
	i  int
	ex *leases.Lease
	sh *leases.SharedLease
}

func (s *ourSide) ctx() context.Context { return within(s.h.t, 10*time.Second) }

func ourResult(err error) error {
	if errors.Is(err, leases.ErrHeld) {
		return errRefused
	}
	return err
}

func (s *ourSide) take(mode string) (err error) {
	spec := s.h.spec(s.i)
	spec.NoWait = true
	if mode == shared {
		s.sh, err = s.h.AcquireShared(s.ctx(), spec)
	} else {
		s.ex, err = s.h.Acquire(s.ctx(), spec)
	}
	return ourResult(err)
}

func (s *ourSide) turn(mode string) error {
	if mode == shared {
		sh, err := s.ex.ToShared(s.ctx())
		if err == nil {
			s.ex, s.sh = nil, sh
		}
		return ourResult(err)
	}
	ex, err := s.sh.ToExclusive(s.ctx())
	if err == nil {
		s.ex, s.sh = ex, nil
	}
	return ourResult(err)
}

func (s *ourSide) drop() error {
	ex, sh := s.ex, s.sh
	s.ex, s.sh = nil, nil
	if ex != nil {
		return ex.Release(s.ctx())
	}
	return sh.Release(s.ctx())
}

// way is how a side gets to hold a resource.
type way struct{ first, then string }

func (w way) String() string {
	if w.then != "" {
		return w.first + " then " + w.then
	}
	return w.first
}

func (w way) apply(s side) error {
	if err := s.take(w.first); err != nil || w.then == "" {
		return err
	}
	return s.turn(w.then)
}

// TestShare_matrix is test 10: whatever one side holds, by whichever way, against whatever the other one wants, in both
// directions.
func TestShare_matrix(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	retry(t, 20*time.Second, func() error { return inState(string(h.HostStatus(5).State), "LIVE") })
	retry(t, 20*time.Second, func() error { return inState(d.state(3), "LIVE") })
	for i, c := range []struct {
		name         string
		first, other side
	}{
		{"we hold", &ourSide{h: h, i: 1}, &theirSide{u: startUser(t, d), res: l.theirs(1)}},
		{"they hold", &theirSide{u: startUser(t, d), res: l.theirs(2)}, &ourSide{h: h, i: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, w := range []way{{exclusive, ""}, {shared, ""}, {exclusive, shared}, {shared, exclusive}} {
				matrixRow(t, h, i+1, w, c.first, c.other)
			}
		})
	}
}

// matrixRow has first hold the resource by w, and lets other try everything.
func matrixRow(t *testing.T, h *host, i int, w way, first, other side) {
	t.Helper()
	if err := w.apply(first); err != nil {
		t.Fatalf("%v: %v", w, err)
	}
	isShared := w.then == shared || w.first == shared && w.then == ""
	state := leases.ResourceExclusive
	if isShared {
		state = leases.ResourceShared
	}
	if info := h.info(i); info.State != state || len(info.Sharers) != map[bool]int{true: 1, false: 0}[isShared] {
		t.Errorf("%v: our reader says %s, sharers %v", w, info.State, info.Sharers)
	}
	if err := other.take(exclusive); !errors.Is(err, errRefused) {
		t.Errorf("%v, then the other side EX: %v", w, err)
	}
	err := other.take(shared)
	if isShared {
		bothShare(t, h, i, w, first, other, err)
	} else if !errors.Is(err, errRefused) {
		t.Errorf("%v, then the other side SH: %v", w, err)
	}
	if err := first.drop(); err != nil {
		t.Fatalf("%v: release: %v", w, err)
	}
	if info := h.info(i); info.State != leases.ResourceFree || !info.Takeable {
		t.Errorf("%v, released: our reader says %+v", w, info)
	}
}

// bothShare goes on where the other side's attempt to share ended with err: neither can have it exclusively until the
// other one is gone.
func bothShare(t *testing.T, h *host, i int, w way, first, other side, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v, then the other side SH: %v", w, err)
	}
	if info := h.info(i); info.State != leases.ResourceShared || len(info.Sharers) != 2 {
		t.Errorf("%v, both share: our reader says %s, sharers %v", w, info.State, info.Sharers)
	}
	for _, s := range []side{first, other} {
		if err := s.turn(exclusive); !errors.Is(err, errRefused) {
			t.Errorf("%v, both share, conversion: %v", w, err)
		}
	}
	if info := h.info(i); info.State != leases.ResourceShared || len(info.Sharers) != 2 {
		t.Errorf("%v, after refused conversions: our reader says %s, sharers %v", w, info.State, info.Sharers)
	}
	if err := first.drop(); err != nil {
		t.Fatalf("%v: %v", w, err)
	}
	if err := other.turn(exclusive); err != nil {
		t.Errorf("%v, conversion of the last sharer: %v", w, err)
	}
	if err := first.take(shared); !errors.Is(err, errRefused) {
		t.Errorf("%v, SH beside a converted EX: %v", w, err)
	}
	if err := other.turn(shared); err != nil {
		t.Errorf("%v, back to shared: %v", w, err)
	}
	if err := first.take(shared); err != nil {
		t.Fatalf("%v, shared again: %v", w, err)
	}
	if err := other.drop(); err != nil {
		t.Fatalf("%v: %v", w, err)
	}
}

// TestShare_deadTheirs: a daemon that shared is killed. We clear its block once it is dead, and not before.
func TestShare_deadTheirs(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	u := startUser(t, d)
	u.must("acquire", 0, l.theirs(1)+":SH")
	u.must("acquire", 0, l.theirs(2)+":SH")
	sh, err := h.AcquireShared(within(t, 10*time.Second), h.spec(2))
	if err != nil {
		t.Fatal(err)
	}
	retry(t, 20*time.Second, func() error { return inState(string(h.HostStatus(5).State), "LIVE") })
	d.kill()
	stamp := time.Duration(l.record(t, 5).Timestamp)*time.Second + boot() - monotonic(t)
	lease, err := h.eventually(1, 110*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	takenOver(t, "EX from a dead sharer", stamp, boot(), fast)
	if block := l.block(t, 1, 5); block.Shared() {
		t.Error("the dead sharer was not cleared")
	}
	h.release(lease)
	ex, err := sh.ToExclusive(within(t, 10*time.Second))
	if err != nil {
		t.Fatalf("conversion beside a dead sharer: %v", err)
	}
	if block := l.block(t, 2, 5); block.Shared() {
		t.Error("the dead sharer was not cleared by the conversion")
	}
	h.release(ex)
}

// TestShare_deadOurs: the same with our host dead and the daemon as the heir.
func TestShare_deadOurs(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	for i := 1; i <= 2; i++ {
		if _, err := h.AcquireShared(within(t, 10*time.Second), h.spec(i)); err != nil {
			t.Fatal(err)
		}
	}
	u := startUser(t, d)
	u.must("acquire", 0, l.theirs(2)+":SH")
	retry(t, 20*time.Second, func() error { return inState(d.state(3), "LIVE") })
	h.crash()
	stamp := time.Duration(l.record(t, 3).Timestamp) * time.Second
	heir := startUser(t, d)
	if rc, _ := heir.eventually(l.theirs(1), 110*time.Second); rc < 0 {
		t.Fatal(rc)
	}
	takenOver(t, "EX from a dead sharer of ours", stamp, monotonic(t), fast)
	if block := l.block(t, 1, 3); block.Shared() {
		t.Error("the dead sharer was not cleared")
	}
	if rc, _ := u.do("convert", l.theirs(2)); rc < 0 {
		t.Errorf("conversion beside a dead sharer of ours: %d", rc)
	}
}

// TestShare_contention mixes SH and EX: writers count up under EX, readers of both kinds look under SH that nothing
// moves and no writer is there.
func TestShare_contention(t *testing.T) {
	t.Parallel()
	ar := newArena(t, plant.Bugs{})
	ctx, cancel := context.WithTimeout(context.Background(), contentionTime(t, 45*time.Second))
	defer cancel()
	ar.runOurs(ctx)
	ar.runTheirs(ctx, ar.a, idA, time.Second, 4*time.Second)
	reader := joinHost(t, ar.lun, hostConfig(ar.lun, idReader, contentionN))
	var ourReads, theirReads int
	var wg sync.WaitGroup
	wg.Go(func() { ourReads = ar.readOurs(ctx, reader) })
	wg.Go(func() { theirReads = ar.readTheirs(ctx) })
	wg.Wait()
	ar.finish()
	t.Logf("shared: ours %d, theirs %d", ourReads, theirReads)
	if bad := ar.tally.bad(); len(bad) > 0 {
		t.Fatalf("%d violations, the first: %s", len(bad), bad[0])
	}
	if ourReads < 20 || theirReads < 5 {
		t.Error("too few shared leases were had")
	}
	ar.notStuck()
}

// readOurs looks at the counter under shared leases of a host of ours, and counts how often.
func (ar *arena) readOurs(ctx context.Context, h *host) (n int) {
	spec := h.spec(1)
	spec.NoWait = true
	for sleep(ctx, 5*time.Millisecond) {
		sh, err := h.AcquireShared(within(ar.t, 20*time.Second), spec)
		if errors.Is(err, leases.ErrHeld) || overloaded(err) {
			continue
		}
		if err != nil {
			ar.tally.line(idReader, "v shared acquire: "+err.Error())
			return n
		}
		n++
		ar.still("our sharer")
		if err := sh.Release(within(ar.t, 20*time.Second)); err != nil && !overloaded(err) {
			ar.tally.line(idReader, "v shared release: "+err.Error())
		}
		_ = sleep(ctx, 30*time.Millisecond)
	}
	return n
}

// readTheirs does it through a daemon.
func (ar *arena) readTheirs(ctx context.Context) (n int) {
	u := startUser(ar.t, ar.b)
	for sleep(ctx, 20*time.Millisecond) {
		if rc, _ := u.acquire(ar.lun.theirs(1)+":SH", 0); rc < 0 {
			continue
		}
		n++
		ar.still("their sharer")
		if rc, rest := u.do("release", ar.lun.theirs(1)); rc < 0 {
			ar.tally.line(idB, fmt.Sprintf("v shared release: %d %s", rc, rest))
		}
	}
	return n
}

// still wants the counter not to move for a moment.
func (ar *arena) still(who string) {
	before := ar.lun.sectorAt(ar.t, ar.lun.counter())
	time.Sleep(10 * time.Millisecond)
	if after := ar.lun.sectorAt(ar.t, ar.lun.counter()); string(after) != string(before) {
		ar.tally.line(idReader, "v somebody wrote beside "+who)
	}
}
