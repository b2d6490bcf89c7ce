package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

const (
	watchedDomain = "8adbc85e-e554-4ae0-b318-8a5465fe5fe1"
	secondDomain  = "9bdbc85e-e554-4ae0-b318-8a5465fe5fe2"
)

// memLUN is a domain in memory whose device can be made to fail.
type memLUN struct {
	id    string
	dev   *faulty.Device
	opens atomic.Int32
	held  atomic.Bool // our host id is held in its lockspace
	fail  atomic.Pointer[error]
}

// keptOpen is a device that a monitor may close without taking it from the next one.
type keptOpen struct{ blockdev.Device }

func (keptOpen) Close() error { return nil }

func newMemLUN(t *testing.T, id string) *memLUN {
	t.Helper()
	l := &memLUN{id: id, dev: faulty.New(blockdev.NewMem(lunSize, 512))}
	l.held.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	locks := Locks{IOTimeout: time.Second, Log: slog.New(slog.DiscardHandler)}
	if _, err := domain.Create(ctx, domain.CreateOptions{UUID: id, Name: "d-" + id[:1], Devices: []blockdev.Device{l.dev}, Locks: locks, Leases: locks,
		Host: "test", IOTimeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *memLUN) record() fsm.Domain {
	return fsm.Domain{ID: l.id, Name: "d-" + l.id[:1], Status: fsm.DomainActive, LUNs: []string{"mem"}}
}

// memLUNs are several, as monitors open and use them.
type memLUNs map[string]*memLUN

func (ls memLUNs) open(_ context.Context, d fsm.Domain) (*luns, error) {
	l := ls[d.ID]
	l.opens.Add(1)
	if err := l.fail.Load(); err != nil {
		return nil, *err
	}
	return &luns{id: d.ID, name: d.Name, group: newFollower(), devs: []blockdev.Device{keptOpen{l.dev}}}, nil
}

func (ls memLUNs) use(_ context.Context, id string) domainUse {
	held := ls[id].held.Load()
	return domainUse{open: held, acquired: held}
}

// mirrorOf is a mirror with a pool of the dev profile and these domains.
type testMirror struct {
	fsm   *fsm.FSM
	index uint64
}

func newTestMirror(t *testing.T, domains ...fsm.Domain) *testMirror {
	t.Helper()
	m := &testMirror{fsm: fsm.New()}
	m.apply(t, &fsm.ClusterInit{ClusterID: "c", ClusterName: "c", Version: 1, Host: fsm.Host{Name: "h1"}})
	m.apply(t, &fsm.PoolCreate{Pool: fsm.Pool{ID: "p", Profile: "dev", Master: watchedDomain}})
	for _, d := range domains {
		m.apply(t, &fsm.DomainPut{Domain: d})
	}
	return m
}

func (m *testMirror) apply(t *testing.T, cmd fsm.Command) {
	t.Helper()
	b, err := fsm.Encode(cmd, "")
	if err != nil {
		t.Fatal(err)
	}
	m.index++
	if out := m.fsm.Apply(m.index, b).(fsm.Outcome); out.Err() != nil {
		t.Fatal(out.Err())
	}
}

func (m *testMirror) View() *fsm.State         { return m.fsm.View() }
func (m *testMirror) Changed() <-chan struct{} { return m.fsm.Changed() }

// watching runs monitors over domains in memory until the test ends.
func watching(t *testing.T, m mirror, all memLUNs, edge func(context.Context, string, bool)) *monitors {
	t.Helper()
	if edge == nil {
		edge = func(context.Context, string, bool) {}
	}
	ms := newMonitors(all.open, all.use, edge, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); ms.run(ctx, m) }()
	t.Cleanup(func() { cancel(); <-done })
	return ms
}

// reportOf is what monitors say of one domain.
func reportOf(t *testing.T, ms *monitors, id string) manager.DomainReport {
	t.Helper()
	list, _ := ms.reports(0)
	for _, r := range list {
		if r.Domain == id {
			return r
		}
	}
	t.Fatalf("no report of domain %s among %+v", id, list)
	return manager.DomainReport{}
}

func TestMonitor_reportsWhatItSees(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemLUN(t, watchedDomain)
		l.dev.Inject(faulty.Fault{Ops: faulty.Read, Len: probeBytes, Delay: 30 * time.Millisecond})
		ms := watching(t, newTestMirror(t, l.record()), memLUNs{l.id: l}, nil)
		time.Sleep(2500 * time.Millisecond)
		r := reportOf(t, ms, l.id)
		if !r.Valid() || r.Looks != 3 || r.Delay != 30*time.Millisecond || !r.Acquired || r.Version != 5 || r.Size == 0 || r.Free == 0 || r.Free >= r.Size {
			t.Errorf("%+v", r)
		}
		if r.MetadataUsed == 0 || r.MetadataUsed >= r.MetadataSize || r.Age <= 0 || r.Age >= time.Second || r.Status != fsm.DomainActive {
			t.Errorf("%+v", r)
		}
		if n := l.opens.Load(); n != 1 {
			t.Errorf("a healthy domain was opened %d times", n)
		}
		w := ms.watches()
		if len(w) != 1 || w[0].Reads != 3 || w[0].Quantiles[0.99] != 30*time.Millisecond {
			t.Errorf("%+v", w)
		}
	})
}

// keptPace says whether a domain was looked at in every slot.
func keptPace(looks uint64, passed, cycle time.Duration) error {
	if want := uint64(passed/cycle) - 1; looks < want {
		return fmt.Errorf("%d looks in %v, want %d: something holds it up", looks, passed, want)
	}
	return nil
}

// A LUN that hangs holds up no other domain; when it answers again its domain is valid again.
func TestMonitors_hungLUNHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good, hung := newMemLUN(t, watchedDomain), newMemLUN(t, secondDomain)
		var mu sync.Mutex
		edges := map[bool]int{}
		ms := watching(t, newTestMirror(t, good.record(), hung.record()), memLUNs{good.id: good, hung.id: hung}, func(_ context.Context, id string, valid bool) {
			mu.Lock()
			defer mu.Unlock()
			if id == hung.id {
				edges[valid]++
			}
		})
		time.Sleep(1500 * time.Millisecond)
		hung.dev.Inject(faulty.Fault{Hang: true})
		time.Sleep(time.Minute)
		if err := keptPace(reportOf(t, ms, good.id).Looks, time.Minute, time.Second); err != nil {
			t.Error(err)
		}
		r := reportOf(t, ms, hung.id)
		if r.Code != manager.DomainHung || r.Detail == "" {
			t.Errorf("%+v", r)
		}
		for _, w := range ms.watches() {
			if w.Domain == hung.id && w.Missed == 0 {
				t.Error("no slot went by although looks hung for longer")
			}
		}
		if n := hung.dev.Pending(); n > maxStuck*2 {
			t.Errorf("%d reads were left hanging", n)
		}
		hung.dev.Heal()
		hung.dev.Release()
		ms.poke(hung.id)
		time.Sleep(2 * time.Second)
		if r := reportOf(t, ms, hung.id); !r.Valid() {
			t.Errorf("after it answers again: %+v", r)
		}
		mu.Lock()
		defer mu.Unlock()
		if edges[true] != 2 || edges[false] != 1 {
			t.Errorf("edges %v, want valid, invalid, valid", edges)
		}
	})
}

// A planted mistake, one loop that looks at the domains in turn, is caught by the check of the test above.
func TestMonitors_plantedLoopInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good, hung := newMemLUN(t, watchedDomain), newMemLUN(t, secondDomain)
		all := memLUNs{good.id: good, hung.id: hung}
		hung.dev.Inject(faulty.Fault{Hang: true})
		defer hung.dev.Forget()
		log := slog.New(slog.DiscardHandler)
		a, b := newMonitor(good.record(), leases.Dev, all.open, all.use, log), newMonitor(hung.record(), leases.Dev, all.open, all.use, log)
		begun := time.Now()
		for time.Since(begun) < time.Minute {
			a.finish(a.look(t.Context(), good.record(), false))
			b.finish(b.look(t.Context(), hung.record(), true))
			time.Sleep(time.Second)
		}
		if err := keptPace(a.looks, time.Minute, time.Second); err == nil {
			t.Errorf("%d looks in a minute were taken for a full pace", a.looks)
		}
	})
}

// A path that hangs is opened rarer and rarer, and at once when somebody asks for it.
func TestMonitor_hungOpening(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemLUN(t, watchedDomain)
		slow := fmt.Errorf("opening: %w", blockdev.ErrTimeout)
		l.fail.Store(&slow)
		ms := watching(t, newTestMirror(t, l.record()), memLUNs{l.id: l}, nil)
		time.Sleep(10 * time.Minute)
		if n := l.opens.Load(); n < 5 || n > 20 {
			t.Errorf("opened %d times in ten minutes", n)
		}
		l.fail.Store(nil)
		if ms.poke(l.id); !ms.poke(l.id) {
			t.Error("no monitor to poke")
		}
		time.Sleep(2 * time.Second)
		if r := reportOf(t, ms, l.id); !r.Valid() {
			t.Errorf("%+v", r)
		}
	})
}

// A lockspace that is not held makes a domain unusable, readable or not.
func TestMonitor_unjoined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemLUN(t, watchedDomain)
		l.held.Store(false)
		ms := watching(t, newTestMirror(t, l.record()), memLUNs{l.id: l}, nil)
		time.Sleep(500 * time.Millisecond)
		if r := reportOf(t, ms, l.id); r.Code != manager.DomainUnjoined || r.Acquired || r.Delay == 0 {
			t.Errorf("%+v", r)
		}
	})
}

// LUNs that hold something else are damaged, not unreachable.
func TestMonitor_damaged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		other, blank := newMemLUN(t, watchedDomain), newMemLUN(t, secondDomain)
		wrong := &memLUN{id: "0b9a7f52-3c53-4b4c-9c8e-6a5f2f0e9d11", dev: other.dev}
		blank.dev = faulty.New(blockdev.NewMem(lunSize, 512))
		all := memLUNs{wrong.id: wrong, blank.id: blank}
		ms := watching(t, newTestMirror(t, wrong.record(), blank.record()), all, nil)
		time.Sleep(500 * time.Millisecond)
		for id := range all {
			if r := reportOf(t, ms, id); r.Code != manager.DomainDamaged {
				t.Errorf("%+v", r)
			}
		}
	})
}

// A domain in maintenance is left alone; the leader hears only what is new.
func TestMonitors_maintenanceAndNews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newMemLUN(t, watchedDomain), newMemLUN(t, secondDomain)
		m := newTestMirror(t, a.record(), b.record())
		ms := watching(t, m, memLUNs{a.id: a, b.id: b}, nil)
		time.Sleep(500 * time.Millisecond)
		list, seq := ms.reports(0)
		if again, same := ms.reports(seq); len(list) != 2 || again != nil || same != seq {
			t.Errorf("%d reports, then %v with number %d after %d", len(list), again, same, seq)
		}
		m.apply(t, &fsm.DomainUpdate{ID: b.id, Status: new(fsm.DomainPreparing)})
		time.Sleep(10 * time.Millisecond)
		if r := reportOf(t, ms, b.id); r.Status != fsm.DomainPreparing {
			t.Errorf("a change of the status is no reason to look at once: %+v", r)
		}
		m.apply(t, &fsm.DomainUpdate{ID: b.id, Status: new(fsm.DomainMaintenance)})
		time.Sleep(10 * time.Millisecond)
		if list, _ := ms.reports(0); len(list) != 1 || list[0].Domain != a.id {
			t.Errorf("%+v", list)
		}
		opens := b.opens.Load()
		time.Sleep(time.Minute)
		if b.opens.Load() != opens {
			t.Error("the LUN of a domain in maintenance was opened")
		}
		m.apply(t, &fsm.DomainUpdate{ID: b.id, Status: new(fsm.DomainActivating)})
		time.Sleep(10 * time.Millisecond)
		if r := reportOf(t, ms, b.id); !r.Valid() || r.Status != fsm.DomainActivating {
			t.Errorf("%+v", r)
		}
	})
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		code string
	}{
		{nil, manager.DomainOK}, {blockdev.ErrTimeout, manager.DomainHung}, {blockdev.ErrPending, manager.DomainHung}, {context.DeadlineExceeded, manager.DomainHung},
		{blockdev.ErrGone, manager.DomainUnreachable}, {faulty.EIO, manager.DomainUnreachable}, {errors.New("x"), manager.DomainUnreachable},
		{&lvm2.CorruptError{What: "text"}, manager.DomainDamaged}, {lvm2.ErrNotPV, manager.DomainDamaged}, {domain.ErrNotDomain, manager.DomainDamaged},
		{domain.ErrSealBroken, manager.DomainDamaged},
	} {
		code, detail := codeOf(tc.err)
		if code != tc.code || (detail == "") != (tc.err == nil) {
			t.Errorf("%v: %s %q, want %s", tc.err, code, detail, tc.code)
		}
	}
	if _, detail := codeOf(errors.New(string(make([]byte, 5000)))); len(detail) > maxDetail {
		t.Errorf("a detail of %d bytes", len(detail))
	}
}

func TestDelays(t *testing.T) {
	t.Parallel()
	var d delays
	if d.quantiles(0.5) != nil {
		t.Error("quantiles of nothing")
	}
	for i := range 2 * maxDelays {
		d.add(time.Duration(i+1) * time.Millisecond)
	}
	q := d.quantiles(0, 0.5, 1)
	if d.count != 2*maxDelays || len(d.ring) != maxDelays || q[0] != (maxDelays+1)*time.Millisecond || q[0.5] != (maxDelays+maxDelays/2)*time.Millisecond ||
		q[1] != 2*maxDelays*time.Millisecond {
		t.Errorf("%d in all, %v", d.count, q)
	}
}

func TestRetryIn(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 7: hungRetry, 100: hungRetry} {
		for range 50 {
			if got := retryIn(leases.Compatible, n); got > want || got < want*3/4-1 {
				t.Fatalf("after %d failures %v, want up to %v", n, got, want)
			}
		}
	}
}
