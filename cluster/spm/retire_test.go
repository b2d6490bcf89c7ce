package spm

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// gone takes a domain off the list, or puts it back.
func (o *fakeOthers) gone(id string, l *lun) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.luns, id)
	if l != nil {
		o.luns[id] = l
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// A domain that is taken out of use lets go of what it was doing in order, is no failure, and when it comes back in the same epoch its
// entries are newer than those before.
func TestRole_domainRetiredAndBack(t *testing.T) {
	o := newOthers("dom-more")
	pool(t, o, func(t *testing.T, _ *lun, m *fakeMirror, r *Role) {
		more := o.luns["dom-more"]
		for _, name := range []string{"a", "b", "c"} {
			if _, err := r.CreateVolume(t.Context(), on("dom-more", name)); err != nil {
				t.Fatal(err)
			}
		}
		more.mu.Lock()
		more.hang = make(chan struct{})
		more.mu.Unlock()
		slow := make(chan error, 1)
		go func() {
			_, err := r.CreateVolume(t.Context(), on("dom-more", "d"))
			slow <- err
		}()
		time.Sleep(time.Second)
		o.gone("dom-more", nil)
		time.Sleep(time.Second)
		if n := len(r.Status().Domains); n != 2 {
			t.Errorf("given up while a request is under way: %d domains", n)
		}
		more.mu.Lock()
		close(more.hang)
		more.hang = nil
		more.mu.Unlock()
		if err := <-slow; err != nil {
			t.Errorf("a request that was under way: %v", err)
		}
		time.Sleep(10 * time.Second)
		if n := len(r.Status().Domains); n != 1 || o.kinds() != "domain.retired" {
			t.Errorf("%d domains, events %q", n, o.kinds())
		}
		if _, err := r.CreateVolume(t.Context(), on("dom-more", "e")); !errors.Is(err, ErrNoDomain) {
			t.Errorf("a volume on a domain that is out of use: %v", err)
		}
		o.gone("dom-more", more)
		time.Sleep(10 * time.Second)
		if _, err := r.CreateVolume(t.Context(), on("dom-more", "e")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if peek(&m.mu, &m.stale) != 0 || !m.same(more) {
			t.Errorf("%d entries were older than those before", peek(&m.mu, &m.stale))
		}
	})
}

var errAway = errors.New("in maintenance")

// What may not be changed is refused with the reason, by id and by name.
func TestRole_refused(t *testing.T) {
	o := newOthers("dom-more")
	pool(t, o, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role) {
		r.cfg.Refused = func(id string) error {
			if strings.HasSuffix(id, "-more") {
				return errAway
			}
			return nil
		}
		for _, id := range []string{"dom-more", "-more"} {
			if _, err := r.CreateVolume(t.Context(), on(id, "a")); !errors.Is(err, errAway) {
				t.Errorf("%s: %v", id, err)
			}
		}
		if _, err := r.CreateVolume(t.Context(), create("b")); err != nil {
			t.Error(err)
		}
	})
}
