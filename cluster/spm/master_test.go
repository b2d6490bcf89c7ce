package spm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
)

const masterPool = "11111111-2222-4333-8444-555555555555"

// masterWorld is a pool of three domains whose master may change, its mirror, and everything that happened, in order.
type masterWorld struct {
	luns map[string]*lun

	mu       sync.Mutex
	master   string // by the mirror
	version  int
	noQuorum bool
	blind    bool          // the hosts' mirrors stay at version 1
	mute     bool          // nobody answers who asks which domain is the master
	slow     time.Duration // that an answer takes
	pending  int           // device calls of the hosts that have not come back
	log      []string
	events   []string
}

func newMasterWorld() *masterWorld {
	w := &masterWorld{luns: map[string]*lun{}, master: "dom", version: 1}
	for i, id := range []string{"dom", "dom-b", "dom-c"} {
		l := newLUN()
		l.id, l.version, l.spaceGen = id, uint64(7-3*i), 1
		l.keys = domain.MasterState{Master: id == "dom", Pools: []string{masterPool}}
		if l.keys.Master {
			l.keys.Version = 1
		}
		w.luns[id] = l
	}
	return w
}

// on looks at a domain's LUN, or changes it.
func (w *masterWorld) on(id string, fn func(l *lun)) {
	l := w.luns[id]
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(l)
}

func (w *masterWorld) outstanding() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pending
}

func (w *masterWorld) setPending(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = n
}

// said tells whether there was an event of a kind.
func (w *masterWorld) said(kind string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.events, kind)
}

func (w *masterWorld) holder(id string) (n int) { w.on(id, func(l *lun) { n = l.holder }); return n }

func (w *masterWorld) keys(id string) (m domain.MasterState) {
	w.on(id, func(l *lun) { m = l.keys })
	return m
}

func (w *masterWorld) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// watch makes the luns tell what is written to the keys, by whom, and lets fail decide what comes of it.
func (w *masterWorld) watch(fail func(what, id string) error) {
	for _, l := range w.luns {
		l.keyWrites = func(what, id string) error {
			err := fail(what, id)
			w.say("%s %s: %v", what, id, err)
			return err
		}
	}
}

func (w *masterWorld) present() (string, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.master, w.version
}

// hostMasters is one host's view.
type hostMasters struct {
	w       *masterWorld
	id      int
	dead    *bool // guarded by w.mu
	leases  map[string]*hostLease
	retired map[string]time.Time
}

func (h *hostMasters) Present() string { id, _ := h.w.present(); return id }

func (h *hostMasters) Master(_ context.Context, id string) (Master, error) {
	l := h.w.luns[id]
	if l == nil {
		return Master{}, errors.New("no such domain")
	}
	return Master{ID: id, Lease: loggedLease{h.leases[id], h.w}, Open: func(context.Context) (Domain, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return &fakeDomain{l: l}, l.readErr
	}}, nil
}

func (h *hostMasters) Version() int {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.w.blind {
		return 1
	}
	return h.w.version
}

func (h *hostMasters) Confirm(ctx context.Context) (MasterRecord, error) {
	h.w.say("confirm")
	h.w.mu.Lock()
	mute, slow := h.w.mute, h.w.slow
	h.w.mu.Unlock()
	if mute {
		<-ctx.Done()
		return MasterRecord{}, fmt.Errorf("no leader: %w", blockdev.ErrOutcomeUnknown)
	}
	time.Sleep(slow)
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return MasterRecord{Domain: h.w.master, Version: h.w.version}, nil
}

func (h *hostMasters) Members() []domain.MemberStatus { return nil }

func (h *hostMasters) Record(_ context.Context, c MasterChange) (uint64, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	switch {
	case h.w.noQuorum || *h.dead:
		return 0, errNoQuorum
	case h.w.master == c.To && h.w.version == c.Version:
		return 9, nil
	case h.w.master != c.From:
		return 0, ErrChanged
	}
	h.w.master, h.w.version = c.To, c.Version
	h.w.log = append(h.w.log, "record "+c.To)
	return 9, nil
}

func (h *hostMasters) Retire(id string, d time.Duration) { h.retired[id] = time.Now().Add(d) }
func (h *hostMasters) Retired(id string) bool            { return time.Now().Before(h.retired[id]) }

// loggedLease tells when it is taken and released.
type loggedLease struct {
	*hostLease
	w *masterWorld
}

func (l loggedLease) Acquire(ctx context.Context, least uint64) (uint64, error) {
	v, err := l.hostLease.Acquire(ctx, least)
	if err == nil {
		l.w.say("acquire %s %d", l.l.id, v)
	}
	return v, err
}

func (l loggedLease) Release(ctx context.Context) error {
	l.l.mu.Lock()
	held := l.l.holder == l.id
	l.l.mu.Unlock()
	if held {
		l.w.say("release %s", l.l.id)
	}
	return l.hostLease.Release(ctx)
}

// host makes a role on one host of the world, and what kills it.
func (w *masterWorld) host(t *testing.T, id int, m *fakeMirror) (*Role, func()) {
	t.Helper()
	h := &hostMasters{w: w, id: id, dead: new(bool), leases: map[string]*hostLease{}, retired: map[string]time.Time{}}
	for lid, l := range w.luns {
		h.leases[lid] = &hostLease{l: l, id: id, done: make(chan struct{})}
	}
	r, err := New(Config{Host: fmt.Sprint("h", id), HostID: id, Pool: masterPool, PoolName: "pool", Masters: h, Mirror: m, Others: worldOthers{w},
		RetryDomain: time.Second, Pending: w.outstanding, Report: func(_ context.Context, e fsm.Event) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e.Kind)
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	kill := func() { // its leases are dead on disk, and it writes nothing any more
		w.mu.Lock()
		*h.dead = true
		w.mu.Unlock()
		for _, l := range h.leases {
			l.lose()
			l.l.mu.Lock()
			if l.l.holder == id {
				l.l.holder = 0
			}
			l.l.mu.Unlock()
		}
	}
	return r, kill
}

// worldOthers are all domains, the master too.
type worldOthers struct{ w *masterWorld }

func (o worldOthers) List() []string           { return []string{"dom", "dom-b", "dom-c"} }
func (o worldOthers) Changed() <-chan struct{} { return nil }
func (o worldOthers) Open(_ context.Context, id string) (Domain, blockdev.Guard, error) {
	l := o.w.luns[id]
	l.mu.Lock()
	defer l.mu.Unlock()
	o.w.say("open %s %d", id, l.spaceGen)
	return &fakeDomain{l: l}, worldGuard{l, l.spaceGen}, errors.Join(l.spaceErr, l.readErr)
}
func (o worldOthers) Held(id string) (g uint64) {
	o.w.on(id, func(l *lun) {
		if l.spaceErr == nil {
			g = l.spaceGen
		}
	})
	return g
}

// worldGuard is a host id in a domain's lockspace.
type worldGuard struct {
	l   *lun
	gen uint64
}

func (g worldGuard) Epoch() uint64 { return g.gen }
func (g worldGuard) Check(time.Duration) error {
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	if g.l.spaceGen != g.gen {
		return blockdev.ErrLeaseLost
	}
	return g.l.spaceErr
}

// loseSpace takes the host id away in a domain's lockspace, regain gives it back, as another generation.
func (w *masterWorld) loseSpace(id string) {
	w.on(id, func(l *lun) { l.spaceErr = errors.New("lockspace lost") })
}

func (w *masterWorld) regain(id string) {
	w.on(id, func(l *lun) { l.spaceErr = nil; l.spaceGen++ })
}

// elect starts the role on a host as the manager would, until somebody serves.
func (w *masterWorld) elect(t *testing.T, r *Role, epoch uint64) uint64 {
	t.Helper()
	for range 4 {
		id, version := w.present()
		l := w.luns[id]
		l.mu.Lock()
		expect := l.version
		l.mu.Unlock()
		rep, err := r.Start(t.Context(), StartRequest{ExpectVersion: expect, Master: id, MasterVersion: version, MinEpoch: epoch + 1, Reason: "test"})
		if err == nil {
			return rep.Epoch
		}
		if !errors.Is(err, ErrMasterMoved) {
			t.Fatalf("starting under %s: %v", id, err)
		}
	}
	t.Fatal("nobody comes to serve")
	return 0
}

// judge is the checker: no lease of a master was given up before the next one was in force and known, and in the end one domain says
// that it is the master, the mirror says so too, no mark is left, and volumes are made on all domains.
func (w *masterWorld) judge(t *testing.T, r *Role) error {
	t.Helper()
	time.Sleep(2 * membersEvery) // virtual
	id, version := w.present()
	var masters []string
	for lid := range w.luns {
		k := w.keys(lid)
		if k.Master {
			masters = append(masters, lid)
		}
		if k.Next.Domain != "" {
			return fmt.Errorf("a mark is left on %s: %+v", lid, k.Next)
		}
	}
	if len(masters) != 1 || masters[0] != id || w.keys(id).Version != version {
		return fmt.Errorf("the mirror says %s version %d, the disks %v", id, version, masters)
	}
	for lid := range w.luns {
		req := create("new on " + lid)
		req.Domain = lid
		if _, err := r.CreateVolume(t.Context(), req); err != nil {
			return fmt.Errorf("volume on %s: %w", lid, err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return judgeLog(w.log)
}

// judgeLog looks only at what was done, in order.
func judgeLog(log []string) error {
	held := map[string]bool{}
	moving := "" // to the domain that was committed and is not known yet
	from, down := "dom", false
	for i, line := range log {
		f := strings.Fields(line)
		switch {
		case f[0] == "acquire":
			held[f[1]] = true
		case strings.HasPrefix(line, "become") && !strings.HasSuffix(line, "nil>"):
		case f[0] == "become":
			to := strings.TrimSuffix(f[1], ":")
			if !held[from] || !held[to] {
				return fmt.Errorf("line %d: %s became master and the leases held are %v: %v", i, to, held, log)
			}
			moving = to
		case line == "step down "+from+": <nil>" || strings.HasPrefix(line, "step down "+from+": no answer, but it landed"):
			down = true
		case f[0] == "record":
			if !down {
				return fmt.Errorf("line %d: the cluster is told of %s while %s says that it is the master: %v", i, f[1], from, log)
			}
			moving, from, down = "", f[1], false
		case f[0] == "release" && f[1] == from && moving != "":
			return fmt.Errorf("line %d: the lease of %s was given up before the cluster knew of %s: %v", i, from, moving, log)
		case f[0] == "release":
			held[f[1]] = false
		}
	}
	return nil
}

// masterBubble runs fn with host 1 serving under the old master, with a volume on each domain.
func masterBubble(t *testing.T, fn func(t *testing.T, w *masterWorld, m *fakeMirror, r *Role, kill func())) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, m := newMasterWorld(), &fakeMirror{}
		w.watch(func(string, string) error { return nil })
		r, kill := w.host(t, 1, m)
		if e := w.elect(t, r, 0); e != 8 {
			t.Fatalf("epoch %d", e)
		}
		synctest.Wait()
		for id := range w.luns {
			req := create("old on " + id)
			req.Domain = id
			if _, err := r.CreateVolume(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		fn(t, w, m, r, kill)
	})
}

func TestSetMaster_moves(t *testing.T) {
	masterBubble(t, func(t *testing.T, w *masterWorld, m *fakeMirror, r *Role, _ func()) {
		rep, err := r.SetMaster(t.Context(), MasterRequest{Domain: "dom-b", By: "anna", Reason: "array is replaced"})
		if err != nil || rep.Master != "dom-b" || rep.Former != "dom" || rep.Version != 2 || rep.Epoch != 9 || !rep.Mirrored {
			t.Fatalf("%+v, %v", rep, err)
		}
		if st := r.Status(); st.State != StateServing || st.Epoch != 9 || st.Domains[0] != "dom-b" {
			t.Fatalf("%+v", st)
		}
		again, err := r.SetMaster(t.Context(), MasterRequest{Domain: "dom-b"})
		if err != nil || again.Former != "" || again.Version != 2 {
			t.Fatalf("again: %+v, %v", again, err)
		}
		if err := w.judge(t, r); err != nil {
			t.Fatal(err)
		}
		if w.holder("dom") != 0 || w.holder("dom-b") != 1 {
			t.Error("the leases are not where they belong")
		}
		for id, l := range w.luns {
			if !m.same(l) {
				t.Errorf("mirror of %s differs", id)
			}
		}
		// And back: epochs go on.
		rep, err = r.SetMaster(t.Context(), MasterRequest{Domain: "dom"})
		if err != nil || rep.Version != 3 || rep.Epoch != 10 {
			t.Fatalf("back: %+v, %v", rep, err)
		}
		if err := w.judge(t, r); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSetMaster_noQuorum: the new master serves, and both leases are held until the cluster can be told.
func TestSetMaster_noQuorum(t *testing.T) {
	masterBubble(t, func(t *testing.T, w *masterWorld, m *fakeMirror, r *Role, _ func()) {
		w.mu.Lock()
		w.noQuorum = true
		w.mu.Unlock()
		m.setDown(true)
		rep, err := r.SetMaster(t.Context(), MasterRequest{Domain: "dom-b"})
		if err != nil || rep.Mirrored || rep.Epoch != 9 {
			t.Fatalf("%+v, %v", rep, err)
		}
		time.Sleep(time.Minute)
		if w.holder("dom") != 1 || w.holder("dom-b") != 1 {
			t.Fatal("a lease was given up while nobody knows of the new master")
		}
		if w.keys("dom").Next.Domain != "dom-b" {
			t.Fatal("the mark is gone before the cluster knows")
		}
		w.mu.Lock()
		w.noQuorum = false
		w.mu.Unlock()
		m.setDown(false)
		time.Sleep(time.Minute)
		if w.holder("dom") != 0 {
			t.Fatal("the old lease is still held")
		}
		if err := w.judge(t, r); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSetMaster_failures lets each write of the keys fail in each way, and the host die at each, and looks at what the next SPM makes
// of it.
func TestSetMaster_failures(t *testing.T) {
	t.Parallel()
	refused := errors.New("I/O error")
	steps := []string{"copy dom-b", "clear dom-b", "announce dom", "become dom-b", "step down dom"}
	for _, step := range steps {
		for name, how := range map[string]error{"refused": refused, "no answer, landed": errLanded, "no answer, lost": domain.ErrOutcomeUnknown} {
			for _, dies := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/dies=%v", step, name, dies), func(t *testing.T) {
					masterBubble(t, func(t *testing.T, w *masterWorld, m *fakeMirror, r *Role, kill func()) {
						failing := true
						w.watch(func(what, id string) error {
							if what+" "+id != step || !failing {
								return nil
							}
							failing = false
							if dies {
								time.AfterFunc(0, kill)
								synctestYield()
							}
							return how
						})
						epoch := r.Status().Epoch
						rep, err := r.SetMaster(t.Context(), MasterRequest{Domain: "dom-b"})
						if err == nil {
							epoch = rep.Epoch
						}
						time.Sleep(time.Minute)
						next := r
						if st := r.Status(); dies || st.State != StateServing {
							if !dies && st.State != StateNone {
								t.Fatalf("%+v", st)
							}
							next, _ = w.host(t, 2, m)
							epoch = w.elect(t, next, max(epoch, 9))
						}
						if err := w.judge(t, next); err != nil {
							t.Errorf("set-master said %+v, %v; then: %v", rep, err, err)
						}
						if id, _ := w.present(); err == nil && id != "dom-b" || err != nil && id == "dom-b" && !maybe(err, step) {
							t.Errorf("set-master said %+v, %v, and the master is %s", rep, err, id)
						}
						_ = epoch
					})
				})
			}
		}
	}
}

// maybe says whether a failure at a step may have left the new master in force: the error must say so.
func maybe(err error, step string) bool {
	if step == "become dom-b" {
		return errors.Is(err, domain.ErrOutcomeUnknown) || strings.Contains(err.Error(), "is the master now")
	}
	return step == "step down dom"
}

// synctestYield lets what was begun run before the caller goes on.
func synctestYield() { time.Sleep(time.Nanosecond) }

// TestSetMaster_plantedMistakes: the checker sees them.
func TestSetMaster_plantedMistakes(t *testing.T) {
	t.Parallel()
	for bug, sees := range map[string]string{bugEarlyRelease: "became master and the leases held are", bugTwoMasters: "while dom says"} {
		t.Run(bug, func(t *testing.T) {
			masterBubble(t, func(t *testing.T, w *masterWorld, m *fakeMirror, r *Role, _ func()) {
				r.bug = bug
				_, _ = r.SetMaster(t.Context(), MasterRequest{Domain: "dom-b"})
				next := r
				if r.Status().State != StateServing {
					next, _ = w.host(t, 2, m)
					w.elect(t, next, 10)
				}
				if err := w.judge(t, next); err == nil || !strings.Contains(err.Error(), sees) {
					t.Fatalf("not caught: %v", err)
				}
			})
		})
	}
	early := []string{"acquire dom 8", "acquire dom-b 9", "become dom-b: <nil>", "release dom", "record dom-b"}
	if judgeLog(early) == nil {
		t.Error("a lease that is released before the record is not seen")
	}
}

// TestStart_undecidedUnreadable: a master with a mark does not serve while the domain that the mark names cannot be read.
func TestStart_undecidedUnreadable(t *testing.T) {
	masterBubble(t, func(t *testing.T, w *masterWorld, m *fakeMirror, r *Role, kill func()) {
		kill()
		time.Sleep(time.Minute)
		w.on("dom", func(l *lun) { l.keys.Next = domain.NextMaster{Domain: "dom-b", Version: 2} })
		w.on("dom-b", func(l *lun) { l.readErr = errors.New("no path to the LUN") })
		next, _ := w.host(t, 2, m)
		start := StartRequest{ExpectVersion: 8, Master: "dom", MasterVersion: 1}
		if _, err := next.Start(t.Context(), start); !errors.Is(err, ErrMasterUnclear) || !strings.Contains(err.Error(), "no path") {
			t.Fatalf("%v", err)
		}
		if w.holder("dom") != 0 {
			t.Fatal("the lease stays held")
		}
		w.on("dom-b", func(l *lun) { l.readErr = nil })
		w.elect(t, next, 9)
		if err := w.judge(t, next); err != nil {
			t.Fatal(err)
		}
		if id, _ := w.present(); id != "dom" || !w.said("master.undone") {
			t.Errorf("%s, said: %v", id, w.said("master.undone"))
		}
	})
}

// TestStart_assumes: after a reconstruction the mirror's word makes a plain domain the master, and the former one, when it can be read
// again, is a plain domain only after its own lease could be had.
func TestStart_assumes(t *testing.T) {
	masterBubble(t, func(t *testing.T, w *masterWorld, m *fakeMirror, r *Role, kill func()) {
		kill()
		time.Sleep(time.Minute)
		w.on("dom", func(l *lun) { l.readErr = errors.New("the array burnt") })
		w.on("dom", func(l *lun) { l.holder = 3 }) // somebody that nobody can see
		next, _ := w.host(t, 2, m)
		w.mu.Lock()
		w.master, w.version = "dom-b", 2
		w.log = nil
		w.mu.Unlock()
		start := StartRequest{ExpectVersion: 4, Master: "dom-b", MasterVersion: 2, MinEpoch: 9}
		if _, err := next.Start(t.Context(), start); !errors.Is(err, ErrNotMaster) {
			t.Fatalf("without the mirror's word that the old one is lost: %v", err)
		}
		w.on("dom-b", func(l *lun) { start.ExpectVersion = l.version })
		start.Assume = true
		start.MinEpoch = start.ExpectVersion + 1
		rep, err := next.Start(t.Context(), start)
		if err != nil || rep.Epoch != start.MinEpoch {
			t.Fatalf("%+v, %v", rep, err)
		}
		if k := w.keys("dom-b"); !k.InForce(masterPool) || k.Version != 2 {
			t.Fatalf("%+v", k)
		}
		w.on("dom", func(l *lun) { l.readErr = nil }) // found under the ashes
		time.Sleep(time.Minute)
		if !w.keys("dom").Master || len(next.Status().Domains) != 2 {
			t.Fatalf("the former master is served although host 3 holds its lease: %+v", next.Status())
		}
		w.on("dom", func(l *lun) { l.holder = 0 })
		time.Sleep(time.Minute)
		if w.keys("dom").Master || w.holder("dom") != 0 || len(next.Status().Domains) != 3 || !w.said("master.rejoined") {
			t.Fatalf("%+v, holder %d, said: %v", w.keys("dom"), w.holder("dom"), w.said("master.rejoined"))
		}
	})
}

// TestSetMaster_leavesNoLease: a change that fails while a write hangs keeps both leases; the next stop releases both, whichever domain is
// the master then.
func TestSetMaster_leavesNoLease(t *testing.T) {
	masterBubble(t, func(t *testing.T, w *masterWorld, _ *fakeMirror, r *Role, _ func()) {
		w.watch(func(what, _ string) error {
			if what == "become" {
				w.setPending(1)
				return domain.ErrOutcomeUnknown
			}
			return nil
		})
		if _, err := r.SetMaster(t.Context(), MasterRequest{Domain: "dom-b"}); !errors.Is(err, ErrPending) {
			t.Fatalf("%v", err)
		}
		if w.holder("dom") != 1 || w.holder("dom-b") != 1 {
			t.Fatalf("held by %d and %d while a write is on its way", w.holder("dom"), w.holder("dom-b"))
		}
		if _, err := r.Stop(t.Context(), StopRequest{}); !errors.Is(err, ErrPending) {
			t.Fatalf("%v", err)
		}
		w.setPending(0)
		if _, err := r.Stop(t.Context(), StopRequest{}); err != nil || w.holder("dom") != 0 || w.holder("dom-b") != 0 {
			t.Errorf("%v; still held by %d and %d", err, w.holder("dom"), w.holder("dom-b"))
		}
	})
}

// TestSession_outranked: an SPM that was given up with its master while nobody could reach it stops as soon as it hears of that, by the
// mirror or by what lies on a domain that it served before as a plain one.
func TestSession_outranked(t *testing.T) {
	for name, given := range map[string]func(w *masterWorld){
		"by the mirror": func(w *masterWorld) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.master, w.version = "dom-b", 2
		},
		"by the disk": func(w *masterWorld) {
			w.mu.Lock()
			w.mute = true // what the disk says needs no other word
			w.mu.Unlock()
			w.loseSpace("dom-b")
			time.Sleep(2 * time.Second)
			w.on("dom-b", func(l *lun) { l.keys = domain.MasterState{Master: true, Version: 2, Pools: []string{masterPool}} })
			w.regain("dom-b")
		},
	} {
		t.Run(name, func(t *testing.T) {
			masterBubble(t, func(t *testing.T, w *masterWorld, _ *fakeMirror, r *Role, _ func()) {
				given(w)
				time.Sleep(5 * time.Second)
				if st := r.Status(); st.State != StateNone || w.holder("dom") != 0 || !strings.Contains(st.Reason, "version 2") {
					t.Errorf("%+v, the lease is held by %d", st, w.holder("dom"))
				}
				req := create("late")
				req.Domain = "dom-c"
				if _, err := r.CreateVolume(t.Context(), req); !errors.Is(err, ErrNotSPM) {
					t.Errorf("a volume is still made: %v", err)
				}
			})
		})
	}
}

// TestRetire: a host that gave its word does not take the role, and one that serves does not give it.
func TestRetire(t *testing.T) {
	masterBubble(t, func(t *testing.T, w *masterWorld, m *fakeMirror, r *Role, kill func()) {
		req := RetireRequest{Master: "dom", For: time.Minute}
		if _, err := r.Retire(t.Context(), req); !errors.Is(err, ErrBusy) {
			t.Fatalf("the SPM gives up its own master: %v", err)
		}
		if _, err := r.Stop(t.Context(), StopRequest{}); err != nil {
			t.Fatal(err)
		}
		if rep, err := r.Retire(t.Context(), req); err != nil || rep.Host != "h1" {
			t.Fatalf("%+v, %v", rep, err)
		}
		start := StartRequest{ExpectVersion: 8, Master: "dom", MasterVersion: 1}
		if _, err := r.Start(t.Context(), start); !errors.Is(err, ErrRetired) {
			t.Fatalf("%v", err)
		}
		if _, err := r.Retire(t.Context(), RetireRequest{Master: "dom"}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Start(t.Context(), start); err != nil {
			t.Fatalf("the word was given back: %v", err)
		}
		if _, err := r.Stop(t.Context(), StopRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Retire(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		start.ExpectVersion++
		if _, err := r.Start(t.Context(), start); err != nil {
			t.Fatalf("the word is for a while only: %v", err)
		}
	})
}
