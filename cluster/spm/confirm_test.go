package spm

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// make1 asks for a volume on a domain.
func make1(t *testing.T, r *Role, domainID, name string) error {
	t.Helper()
	_, err := r.CreateVolume(t.Context(), on(domainID, name))
	return err
}

func (w *masterWorld) change(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

// commits is how often something was written to a domain.
func (w *masterWorld) commits(id string) (n int) {
	w.on(id, func(l *lun) { n = len(l.writes) })
	return n
}

// lines are those of the log from a place that begin so.
func (w *masterWorld) lines(from int, prefix string) (out []string) {
	w.change(func() {
		for _, l := range w.log[from:] {
			if strings.HasPrefix(l, prefix) {
				out = append(out, l)
			}
		}
	})
	return out
}

func (w *masterWorld) mark() (n int) { w.change(func() { n = len(w.log) }); return n }

// writesAsOutranked is the story: the SPM loses a domain, its master is given up meanwhile, and it gets the domain back, and hears of
// nothing: neither the mirror nor the domain says so, only a question to the cluster would tell. It says whether it wrote there.
func writesAsOutranked(t *testing.T, w *masterWorld, r *Role) bool {
	t.Helper()
	w.loseSpace("dom-c")
	time.Sleep(2 * time.Second)
	before := w.commits("dom-c")
	w.change(func() { w.mute = true })
	w.regain("dom-c")
	time.Sleep(time.Minute)
	err := make1(t, r, "dom-c", "beside the new SPM")
	return err == nil || w.commits("dom-c") != before
}

// An SPM that regains a domain, and has no word from the cluster, does not write there; it says why, and tries again. What it held all
// the time it serves.
func TestConfirm_noAnswer(t *testing.T) {
	masterBubble(t, func(t *testing.T, w *masterWorld, _ *fakeMirror, r *Role, _ func()) {
		if n := len(w.lines(0, "confirm")); n != 0 {
			t.Errorf("%d questions about domains that were held before the start", n)
		}
		if writesAsOutranked(t, w, r) {
			t.Fatal("a domain that was regained is written to without a word from the cluster")
		}
		err := make1(t, r, "dom-c", "early")
		if !errors.Is(err, ErrDomainDown) || !errors.Is(err, ErrMasterUnconfirmed) || errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Errorf("a request for it gets %v", err)
		}
		if st := r.Status(); !strings.Contains(st.Unserved["dom-c"], "waiting for a word from the pool's leader") || slices.Contains(st.Domains, "dom-c") {
			t.Errorf("the status says %+v", st)
		}
		said := 0
		w.change(func() {
			for _, k := range w.events {
				if k == "domain.unserved" {
					said++
				}
			}
		})
		if said != 2 {
			t.Errorf("%d events: one for the loss, and one for what is waited for", said)
		}
		for _, id := range []string{"dom", "dom-b"} {
			if err := make1(t, r, id, "meanwhile on "+id); err != nil {
				t.Errorf("a domain that was held all the time: %v", err)
			}
		}
		w.change(func() { w.mute = false })
		time.Sleep(10 * time.Second)
		if err := make1(t, r, "dom-c", "late"); err != nil || len(r.Status().Unserved) != 0 {
			t.Errorf("with the cluster's word: %v, %+v", err, r.Status())
		}
	})
}

// Without the question the story ends badly: the test above would fail.
func TestConfirm_planted(t *testing.T) {
	masterBubble(t, func(t *testing.T, w *masterWorld, _ *fakeMirror, r *Role, _ func()) {
		r.bug = bugUnconfirmed
		if !writesAsOutranked(t, w, r) {
			t.Fatal("not caught")
		}
	})
}

// The answer ends the session when the master is another one, or a newer version of ours, and nothing was written.
func TestConfirm_replaced(t *testing.T) {
	for name, now := range map[string]MasterRecord{
		"another master":                       {"dom-b", 2},
		"another master of no greater version": {"dom-b", 1},
		"ours, made master anew":               {"dom", 2},
	} {
		t.Run(name, func(t *testing.T) {
			masterBubble(t, func(t *testing.T, w *masterWorld, _ *fakeMirror, r *Role, _ func()) {
				w.change(func() { w.blind = true }) // it learns of another master by asking only
				w.loseSpace("dom-c")
				time.Sleep(2 * time.Second)
				before := w.commits("dom-c")
				w.change(func() { w.master, w.version = now.Domain, now.Version })
				time.Sleep(2 * time.Second)
				if r.Status().State != StateServing {
					t.Fatalf("it knows already: %+v", r.Status())
				}
				w.regain("dom-c")
				time.Sleep(10 * time.Second)
				if st := r.Status(); st.State != StateNone || w.holder("dom") != 0 || !strings.Contains(st.Reason, "the pool has another master") {
					t.Errorf("%+v, the lease is held by %d", st, w.holder("dom"))
				}
				if w.commits("dom-c") != before {
					t.Error("it wrote before it knew")
				}
			})
		})
	}
}

// The question begins when the host id is held, and is asked once for each time it was taken. A host id that is lost while the answer is
// on its way makes another question necessary.
func TestConfirm_order(t *testing.T) {
	masterBubble(t, func(t *testing.T, w *masterWorld, _ *fakeMirror, r *Role, _ func()) {
		from := w.mark()
		w.loseSpace("dom-c")
		time.Sleep(5 * time.Second)
		if n := len(w.lines(from, "confirm")); n != 0 {
			t.Fatalf("%d questions before the host id is held again", n)
		}
		w.change(func() { w.slow = 3 * time.Second })
		w.regain("dom-c")
		time.Sleep(2 * time.Second) // the question is on its way
		if n := len(w.lines(from, "confirm")); n != 1 {
			t.Fatalf("%d questions", n)
		}
		w.regain("dom-c") // lost and taken once more
		time.Sleep(20 * time.Second)
		opens, asked := w.lines(from, "open dom-c 3"), w.lines(from, "confirm")
		if len(opens) == 0 || len(asked) != 2 {
			t.Errorf("%d questions, %d openings with the last generation", len(asked), len(opens))
		}
		if err := make1(t, r, "dom-c", "late"); err != nil {
			t.Fatal(err)
		}
		// Read again under the same generation, for a doubt: nothing is asked, a pool without a quorum goes on.
		w.change(func() { w.mute = true })
		w.on("dom-c", func(l *lun) { l.next, l.readErr = domain.ErrOutcomeUnknown, errors.New("cannot read") })
		if err := make1(t, r, "dom-c", "doubtful"); !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		synctest.Wait()
		w.on("dom-c", func(l *lun) { l.readErr = nil })
		time.Sleep(5 * time.Second)
		if err := make1(t, r, "dom-c", "after the doubt"); err != nil || len(w.lines(from, "confirm")) != 2 {
			t.Errorf("%v, %d questions", err, len(w.lines(from, "confirm")))
		}
	})
}

// What could not be had at the start is asked about when it comes; a change of the master asks about nothing that was held before it.
func TestConfirm_lateAndAfterSetMaster(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, m := newMasterWorld(), &fakeMirror{}
		w.watch(func(string, string) error { return nil })
		w.loseSpace("dom-c")
		r, _ := w.host(t, 1, m)
		w.elect(t, r, 0)
		w.change(func() { w.mute, w.noQuorum = true, true })
		time.Sleep(5 * time.Second)
		w.regain("dom-c")
		time.Sleep(time.Minute)
		if err := make1(t, r, "dom-c", "a"); !errors.Is(err, ErrMasterUnconfirmed) {
			t.Fatalf("a domain that came after the start: %v", err)
		}
		if _, err := r.SetMaster(t.Context(), MasterRequest{Domain: "dom-b"}); err != nil {
			t.Fatal(err)
		}
		if err := make1(t, r, "dom", "b"); err != nil {
			t.Errorf("a domain that was held before the change: %v", err)
		}
		time.Sleep(time.Minute)
		if err := make1(t, r, "dom-c", "c"); !errors.Is(err, ErrMasterUnconfirmed) {
			t.Errorf("the change of the master is no word about a domain: %v", err)
		}
		// The cluster names the former master as long as it has not heard of the change: that is ours.
		w.change(func() { w.mute = false })
		time.Sleep(10 * time.Second)
		if err := make1(t, r, "dom-c", "d"); err != nil || r.Status().State != StateServing {
			t.Errorf("%v, %+v", err, r.Status())
		}
	})
}
