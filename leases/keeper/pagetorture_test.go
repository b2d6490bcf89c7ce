package keeper

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// Words of the page that nobody else uses: how many leases were published and withdrawn so far.
const (
	wordPublished = 8
	wordWithdrawn = 9

	tortureSlots = 3
	tortureSpace = 2
	perJoin      = 16 // leases under one join
)

// leaseAt is lease number k of a page's history. It has a version of its own, and its slots are those of its neighbours,
// before it or after. Every third is withdrawn before the next one is published, the others by that.
func leaseAt(k uint64) *grant {
	return &grant{resource: int(k / 3 % tortureSlots), lockspace: tortureSpace, version: k, generation: 1 + k/perJoin/2, join: k / perJoin,
		state: 1 + k%2, name: k % 5}
}

// expiryAt is when lease number k ends at least; it may be up to 999 later. Each join has times of its own.
func expiryAt(k uint64) time.Duration { return time.Duration(1 + k/perJoin*1000) }

// writer changes a page. A mistake is planted by replacing a method.
type writer struct {
	page *page
	// update changes a slot.
	update func(s []uint64, values ...uint64)
	// early says what is withdrawn before it is.
	early bool
}

// history publishes and withdraws leases until it is over.
func (w *writer) history(over func() bool) {
	for k := uint64(1); !over(); k++ {
		if k%perJoin == 0 {
			w.drop(k - 1)
			w.update(w.page.slot(lockspaceBase, tortureSpace), 0, 0, 0, 0)
			w.update(w.page.slot(lockspaceBase, tortureSpace), stateHeld, uint64(expiryAt(k)), leaseAt(k).generation, leaseAt(k).join)
		}
		g := leaseAt(k)
		w.update(w.page.slot(resourceBase, g.resource), g.state, g.version, g.generation, uint64(g.lockspace), g.name)
		w.told(wordWithdrawn, k-1) // by a change in place, if not before
		w.told(wordPublished, k)
		w.page.setExpiry(tortureSpace, expiryAt(k)+time.Duration(k%perJoin))
		if (k+1)%3 == 0 {
			w.drop(k)
		}
	}
}

// drop withdraws lease number k.
func (w *writer) drop(k uint64) {
	if w.early {
		w.told(wordWithdrawn, k)
		runtime.Gosched()
	}
	w.update(w.page.slot(resourceBase, leaseAt(k).resource), 0, 0, 0, 0, 0)
	w.told(wordWithdrawn, k)
}

func (w *writer) told(word int, k uint64) { atomic.StoreUint64(&w.page.words[word], k) }

// reader checks guards of leases near the one that is published now.
type reader struct {
	page          *page
	rng           *rand.Rand
	checks, goods int
}

// once checks one lease, and one that never was.
func (r *reader) once() error {
	withdrawn := atomic.LoadUint64(&r.page.words[wordWithdrawn])
	k := withdrawn + uint64(r.rng.IntN(5))
	if k < 3 {
		return nil
	}
	k -= 2
	r.checks += 2
	if good, err := r.check(leaseAt(k)); err != nil || good && k <= withdrawn {
		return fmt.Errorf("lease %d was withdrawn, as was %d, and its guard says yes (%v)", k, withdrawn, err)
	} else if good {
		r.goods++
	}
	if good, err := r.check(r.mixed(k)); err != nil || good {
		return fmt.Errorf("a lease that never was, near %d: %v, %v", k, good, err)
	}
	return nil
}

// stopped is a clock at 0.
type stopped struct{}

func (stopped) Boot() time.Duration { return 0 }

// check asks for g, and whether it would be good for longer than its join can be.
func (r *reader) check(g *grant) (bool, error) {
	guard := &guard{page: r.page, clock: stopped{}, g: g}
	if guard.Check(expiryAt(g.version)+1000) == nil {
		return true, errors.New("it has the time of another join")
	}
	return guard.Check(expiryAt(g.version)-1) == nil, nil
}

// mixed is lease number k with something of the next one, so that it is neither.
func (r *reader) mixed(k uint64) *grant {
	m, next, what := *leaseAt(k), leaseAt(k+1), r.rng.IntN(3)
	if what != 0 {
		m.name = next.name
	}
	if what != 1 {
		m.state = next.state
	}
	return &m
}

// torture looks so many times and returns what is wrong first.
func (r *reader) torture(looks int) error {
	for range looks {
		if err := r.once(); err != nil {
			return err
		}
		if r.checks%64 == 0 {
			runtime.Gosched()
		}
	}
	return nil
}

// torture lets some readers look at a page until they are done or one finds something, and says what is wrong.
func torture(t *testing.T, p *page) error {
	errs, all, looks := make([]error, 3), make([]reader, 3), 20_000
	if raceDetector {
		looks = 5_000
	}
	var wg sync.WaitGroup
	for i := range all {
		all[i] = reader{page: p, rng: rand.New(rand.NewPCG(1, uint64(i)))}
		wg.Go(func() { errs[i] = all[i].torture(looks) })
	}
	wg.Wait()
	checks, goods := 0, 0
	for i := range all {
		checks, goods = checks+all[i].checks, goods+all[i].goods
	}
	err := errors.Join(errs...)
	if t.Logf("%d checks, %d said yes", checks, goods); goods == 0 && err == nil {
		t.Error("no lease was ever seen")
	}
	return err
}

// inMemory is a page of this process, which the race detector can see.
func inMemory() *page { return &page{words: make([]uint64, pageBytes/8)} }

// beside lets w write while readers look.
func beside(t *testing.T, w *writer) error {
	var over atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() { w.history(over.Load) })
	err := torture(t, w.page)
	over.Store(true)
	wg.Wait()
	return err
}

// TestPage_torture: while leases are published, changed in place, withdrawn, and the lockspace joined again, no guard of one
// that was withdrawn before says yes, nor one of a lease that never was.
func TestPage_torture(t *testing.T) {
	t.Parallel()
	if err := beside(t, &writer{page: inMemory(), update: update}); err != nil {
		t.Error(err)
	}
}

// TestPage_torture_catches: the readers find writers that make mistakes.
func TestPage_torture_catches(t *testing.T) {
	t.Parallel()
	words := func(s []uint64, values ...uint64) {
		for i, v := range values {
			atomic.StoreUint64(&s[1+i], v)
			runtime.Gosched()
		}
	}
	for name, w := range map[string]writer{
		"no sequence": {update: words},
		"the sequence grows before": {update: func(s []uint64, values ...uint64) {
			atomic.AddUint64(&s[wordSeq], 2)
			words(s, values...)
		}},
		"the sequence grows after": {update: func(s []uint64, values ...uint64) {
			words(s, values...)
			atomic.AddUint64(&s[wordSeq], 2)
		}},
		"said to be withdrawn before it is": {update: update, early: true},
		"withdrawn but for the state": {update: func(s []uint64, values ...uint64) {
			if values[0] != 0 {
				update(s, values...)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.page = inMemory()
			if err := beside(t, &w); err == nil {
				t.Error("not caught")
			} else {
				t.Log(err)
			}
		})
	}
}

// TestPage_heldThroughout: renewals do not disturb the guards of a lease that stays.
func TestPage_heldThroughout(t *testing.T) {
	t.Parallel()
	p, g := inMemory(), leaseAt(7)
	p.holdLockspace(g.lockspace, 1, g.generation, g.join)
	p.holdResource(g.resource, g.state, g.version, g.generation, g.lockspace, g.name)
	var over atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 300_000 {
			p.setExpiry(g.lockspace, time.Duration(1+i))
		}
		over.Store(true)
	})
	guard, checks := &guard{page: p, clock: stopped{}, g: g}, 0
	for ; !over.Load(); checks++ {
		if err := guard.Check(0); err != nil {
			t.Error(err)
			break
		}
	}
	wg.Wait()
	t.Logf("%d checks", checks)
}

// pageMain writes, as another process, to the page that is its descriptor 3, until its input ends.
func pageMain() error {
	p, err := mapPage(os.NewFile(3, "page"), true)
	if err != nil {
		return err
	}
	var over atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		over.Store(true)
	}()
	(&writer{page: p, update: update}).history(over.Load)
	return nil
}

// TestPage_twoProcesses: the same as TestPage_torture with the writer in another process and the page mapped by both, as it
// is between keeper and agent.
func TestPage_twoProcesses(t *testing.T) {
	t.Parallel()
	f, err := newPageFile()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := mapPage(f, false)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(testutil.Deadline(t), os.Args[0])
	cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), envRole+"=page"), []*os.File{f}, os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, 10*time.Second, func() error {
		if atomic.LoadUint64(&p.words[wordPublished]) == 0 {
			return errors.New("nothing is written yet")
		}
		return nil
	})
	err = torture(t, p)
	runtime.KeepAlive(p)
	_ = input.Close()
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Error(err)
	}
}
