package spm

import (
	"context"
	"errors"
	"maps"
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

// fakeOthers are further domains on luns of their own.
type fakeOthers struct {
	mu      sync.Mutex
	luns    map[string]*lun
	hung    map[string]bool // opening hangs
	lost    map[string]bool // our host id is not held
	changed chan struct{}
	events  []fsm.Event
}

func newOthers(ids ...string) *fakeOthers {
	o := &fakeOthers{luns: map[string]*lun{}, hung: map[string]bool{}, lost: map[string]bool{}, changed: make(chan struct{})}
	for _, id := range ids {
		o.add(id)
	}
	return o
}

func (o *fakeOthers) add(id string) *lun {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := newLUN()
	l.id = id
	o.luns[id] = l
	close(o.changed)
	o.changed = make(chan struct{})
	return l
}

func (o *fakeOthers) set(m map[string]bool, id string, v bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m[id] = v
}

func (o *fakeOthers) List() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.luns))
}

func (o *fakeOthers) Held(string) uint64 { return 0 } // looked at with Masters only

func (o *fakeOthers) Changed() <-chan struct{} { o.mu.Lock(); defer o.mu.Unlock(); return o.changed }

func (o *fakeOthers) Open(ctx context.Context, id string) (Domain, blockdev.Guard, error) {
	o.mu.Lock()
	l, hung := o.luns[id], o.hung[id]
	o.mu.Unlock()
	if hung {
		<-ctx.Done()
		return nil, nil, ctx.Err()
	}
	return &fakeDomain{l: l}, spaceGuard{o, id}, nil
}

func (o *fakeOthers) report(_ context.Context, e fsm.Event) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
	return nil
}

func (o *fakeOthers) kinds() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var k []string
	for _, e := range o.events {
		k = append(k, e.Kind)
	}
	return strings.Join(k, " ")
}

func (o *fakeOthers) pending(id string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l := o.luns[id]; l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.pending
	}
	return 0
}

type spaceGuard struct {
	o  *fakeOthers
	id string
}

func (g spaceGuard) Epoch() uint64 { return 1 }
func (g spaceGuard) Check(time.Duration) error {
	g.o.mu.Lock()
	defer g.o.mu.Unlock()
	if g.o.lost[g.id] {
		return blockdev.ErrLeaseLost
	}
	return nil
}

// pool runs fn with a started role that has further domains.
func pool(t *testing.T, o *fakeOthers, fn func(t *testing.T, l *lun, m *fakeMirror, r *Role)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o.changed = make(chan struct{}) // made anew inside the bubble
		l, m := newLUN(), &fakeMirror{}
		r, _ := newRole(t, l, m, 1, func(c *Config) {
			c.Others, c.Report, c.PendingOn, c.Pending = o, o.report, o.pending, nil
		})
		if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 3}); err != nil {
			t.Fatal(err)
		}
		fn(t, l, m, r)
	})
}

// peek reads what others may be writing.
func peek[T any](mu *sync.Mutex, v *T) T { mu.Lock(); defer mu.Unlock(); return *v }

func on(domainID, name string) CreateRequest {
	c := create(name)
	c.Domain = domainID
	return c
}

func TestRole_servesOtherDomains(t *testing.T) {
	o := newOthers("dom-more")
	pool(t, o, func(t *testing.T, l *lun, m *fakeMirror, r *Role) {
		a, err := r.CreateVolume(t.Context(), on("dom-more", "a"))
		if err != nil || a.Domain != "dom-more" || a.Epoch != 4 || !a.Mirrored {
			t.Fatalf("%+v, %v", a, err)
		}
		if _, err := r.CreateVolume(t.Context(), on("-more", "b")); err != nil {
			t.Fatalf("by name: %v", err)
		}
		if _, err := r.CreateVolume(t.Context(), on("dom-none", "c")); !errors.Is(err, ErrNoDomain) {
			t.Fatalf("no such domain: %v", err)
		}
		if n := len(r.Status().Domains); n != 2 {
			t.Fatalf("%d domains in the status", n)
		}
		if _, err := r.DeleteVolume(t.Context(), "", a.Volume.ID); err != nil {
			t.Fatalf("delete without a domain: %v", err)
		}
		if !m.same(o.luns["dom-more"]) || !m.same(l) {
			t.Fatal("the volumes are not where they should be")
		}
	})
}

func TestRole_namesAreUniqueInThePool(t *testing.T) {
	o := newOthers("dom-more")
	pool(t, o, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role) {
		a, err := r.CreateVolume(t.Context(), on("dom-more", "a"))
		if err != nil {
			t.Fatal(err)
		}
		other := create("a")
		other.Key = "another"
		if _, err := r.CreateVolume(t.Context(), other); !errors.Is(err, domain.ErrNameTaken) {
			t.Fatalf("the same name on another domain: %v", err)
		}
		if _, err := r.CreateVolume(t.Context(), create("a")); !errors.Is(err, domain.ErrConflict) {
			t.Fatalf("the same key on another domain: %v", err)
		}
		if _, err := r.DeleteVolume(t.Context(), "", a.Volume.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := r.CreateVolume(t.Context(), other); err != nil {
			t.Fatalf("the name of a deleted volume: %v", err)
		}
	})
}

// Of callers on two domains that want one name exactly one gets it, and a failed creation gives it back.
func TestRole_namesUnderContention(t *testing.T) {
	o := newOthers("dom-more")
	pool(t, o, func(t *testing.T, l *lun, _ *fakeMirror, r *Role) {
		if _, err := r.CreateVolume(t.Context(), on("dom-more", "x")); err != nil {
			t.Fatal(err)
		}
		full := create("a")
		full.Size = 1 << 40
		l.mu.Lock()
		l.free = 1
		l.mu.Unlock()
		if _, err := r.CreateVolume(t.Context(), full); !errors.Is(err, domain.ErrFull) {
			t.Fatal(err)
		}
		l.mu.Lock()
		l.free = 1 << 40
		l.mu.Unlock()
		var wg sync.WaitGroup
		var made sync.Map
		for _, id := range []string{"dom", "dom-more"} {
			for _, key := range []string{"1", "2"} {
				wg.Go(func() {
					req := on(id, "a")
					req.Key = id + key
					req.Image = deriveID("p", "image", id)
					if _, err := r.CreateVolume(t.Context(), req); err == nil {
						made.Store(id, true)
					}
				})
			}
		}
		wg.Wait()
		n := 0
		made.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Fatalf("the name was given on %d domains", n)
		}
	})
}

func TestRole_hungDomainStopsNoOther(t *testing.T) {
	o := newOthers("dom-hung", "dom-more")
	o.hung["dom-hung"] = true
	pool(t, o, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role) {
		begun := time.Now()
		for _, req := range []CreateRequest{create("a"), on("dom-more", "b")} {
			if _, err := r.CreateVolume(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(begun); d > 10*time.Millisecond {
			t.Errorf("took %s", d)
		}
		if _, err := r.CreateVolume(t.Context(), on("dom-hung", "c")); !errors.Is(err, ErrDomainDown) {
			t.Fatalf("on the hung domain: %v", err)
		}
		if _, err := r.DeleteVolume(t.Context(), "", "6a1f3b52-3c53-4b4c-9c8e-6a5f2f0e9d11"); !errors.Is(err, ErrDomainDown) {
			t.Fatalf("a volume that may be on the hung domain: %v", err)
		}
		time.Sleep(20 * time.Second)
		if o.kinds() != "domain.unserved" {
			t.Fatalf("events %q", o.kinds())
		}
		o.set(o.hung, "dom-hung", false)
		time.Sleep(30 * time.Second)
		if _, err := r.CreateVolume(t.Context(), on("dom-hung", "c")); err != nil || o.kinds() != "domain.unserved domain.served" {
			t.Fatalf("after the hang: %v, %q", err, o.kinds())
		}
	})
}

func TestRole_domainAddedWhileServing(t *testing.T) {
	o := newOthers()
	pool(t, o, func(t *testing.T, _ *lun, m *fakeMirror, r *Role) {
		time.Sleep(time.Minute)
		l := o.add("dom-new")
		if _, err := r.CreateVolume(t.Context(), on("dom-new", "a")); err != nil || !m.same(l) {
			t.Fatal(err)
		}
	})
}

// A domain whose outcome stays unknown is given up and opened again; the master goes on, and the places of the mirror's
// entries never go back.
func TestRole_doubtOfOneDomain(t *testing.T) {
	o := newOthers("dom-more")
	pool(t, o, func(t *testing.T, l *lun, m *fakeMirror, r *Role) {
		more := o.luns["dom-more"]
		for _, name := range []string{"a", "b", "c"} {
			if _, err := r.CreateVolume(t.Context(), on("dom-more", name)); err != nil {
				t.Fatal(err)
			}
		}
		more.mu.Lock()
		more.next, more.landed, more.readErr = domain.ErrOutcomeUnknown, true, errors.New("cannot read")
		more.mu.Unlock()
		if _, err := r.CreateVolume(t.Context(), on("dom-more", "d")); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Fatalf("err = %v", err)
		}
		if _, err := r.CreateVolume(t.Context(), create("m")); err != nil || r.Status().State != StateServing {
			t.Fatalf("the master: %v, %+v", err, r.Status())
		}
		synctest.Wait()
		if _, err := r.CreateVolume(t.Context(), on("dom-more", "e")); !errors.Is(err, ErrDomainDown) {
			t.Fatalf("err = %v", err)
		}
		more.mu.Lock()
		more.readErr = nil
		more.mu.Unlock()
		time.Sleep(6 * time.Second)
		if _, err := r.CreateVolume(t.Context(), on("dom-more", "e")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if !m.same(more) || !m.same(l) || peek(&m.mu, &m.stale) != 0 {
			t.Fatalf("mirror differs, or %d entries went back", m.stale)
		}
	})
}

func TestRole_hostIDOfOneDomainLost(t *testing.T) {
	o := newOthers("dom-more")
	pool(t, o, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role) {
		if _, err := r.CreateVolume(t.Context(), on("dom-more", "a")); err != nil {
			t.Fatal(err)
		}
		o.set(o.lost, "dom-more", true)
		if _, err := r.CreateVolume(t.Context(), on("dom-more", "b")); !errors.Is(err, ErrDomainDown) {
			t.Fatalf("err = %v", err)
		}
		if _, err := r.CreateVolume(t.Context(), create("c")); err != nil {
			t.Fatalf("the master: %v", err)
		}
	})
}

// A stop waits for the requests of every domain and writes nothing afterwards.
func TestRole_stopDrainsAllDomains(t *testing.T) {
	o := newOthers("dom-more")
	pool(t, o, func(t *testing.T, l *lun, _ *fakeMirror, r *Role) {
		if _, err := r.CreateVolume(t.Context(), on("dom-more", "a")); err != nil {
			t.Fatal(err)
		}
		more := o.luns["dom-more"]
		hang := make(chan struct{})
		more.mu.Lock()
		more.hang = hang
		more.mu.Unlock()
		made := make(chan error)
		go func() {
			_, err := r.CreateVolume(t.Context(), on("dom-more", "b"))
			made <- err
		}()
		synctest.Wait()
		stopped := make(chan error)
		go func() {
			_, err := r.Stop(t.Context(), StopRequest{})
			stopped <- err
		}()
		time.Sleep(time.Second)
		if peek(&l.mu, &l.holder) != 1 {
			t.Fatal("the lease was released under a request")
		}
		close(hang)
		if err := errors.Join(<-made, <-stopped); err != nil || l.holder != 0 || len(more.vols) != 2 {
			t.Fatalf("%v, holder %d", err, l.holder)
		}
		if _, err := r.CreateVolume(t.Context(), on("dom-more", "c")); !errors.Is(err, ErrNotSPM) {
			t.Fatalf("after the stop: %v", err)
		}
	})
}

// Sizes follow a change soon, and many changes cost few entries.
func TestRole_sizesFollowSoon(t *testing.T) {
	o := newOthers()
	pool(t, o, func(t *testing.T, _ *lun, m *fakeMirror, r *Role) {
		synctest.Wait()
		before := peek(&m.mu, &m.sizes)
		var wg sync.WaitGroup
		for _, name := range strings.Split(strings.Repeat("x", 200), "") {
			wg.Go(func() {
				req := create(name)
				req.Key = ""
				if _, err := r.CreateVolume(t.Context(), req); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		time.Sleep(200 * time.Millisecond)
		if n := peek(&m.mu, &m.sizes) - before; n < 1 || n > 2 {
			t.Fatalf("%d descriptions for 200 changes", n)
		}
	})
}

// A first child makes its parent internal and its end makes that a leaf again; the mirror must see both.
func TestRole_parentIsMirrored(t *testing.T) {
	o := newOthers("dom-more")
	pool(t, o, func(t *testing.T, _ *lun, m *fakeMirror, r *Role) {
		p, err := r.CreateVolume(t.Context(), on("dom-more", "a"))
		if err != nil {
			t.Fatal(err)
		}
		mirrored := func() string {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.vols[p.Volume.ID].VolType
		}
		req := on("dom-more", "a")
		req.Key, req.Image, req.Parent = "child", p.Volume.Image, p.Volume.ID
		child, err := r.CreateVolume(t.Context(), req)
		if err != nil || mirrored() != domain.Internal {
			t.Fatalf("with a child the mirror says %q, %v", mirrored(), err)
		}
		if _, err := r.DeleteVolume(t.Context(), "", child.Volume.ID); err != nil || mirrored() != domain.Leaf {
			t.Fatalf("without it %q, %v", mirrored(), err)
		}
	})
}

// Wiping what was deleted takes long; requests go on meanwhile, a failure is tried again, and a stop ends it.
func TestRole_finishesDeletesBesideRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLUN()
		l.slowWipe = time.Hour
		r, _ := newRole(t, l, &fakeMirror{}, 1)
		if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 3}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		begun := time.Now()
		if _, err := r.CreateVolume(t.Context(), create("a")); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Stop(t.Context(), StopRequest{}); err != nil || time.Since(begun) > time.Second {
			t.Fatalf("%v, took %s", err, time.Since(begun))
		}
		if peek(&l.mu, &l.finishing) != 2 {
			t.Fatalf("tried %d times", l.finishing)
		}
	})
}
