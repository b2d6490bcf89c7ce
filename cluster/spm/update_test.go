package spm

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

func described(text string) domain.VolumeEdit { return domain.VolumeEdit{Description: &text} }
func named(name string) domain.VolumeEdit     { return domain.VolumeEdit{Name: &name} }

// has tells what the mirror says of a volume.
func (m *fakeMirror) has(id string) domain.Volume {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.vols[id]
}

func TestRole_update(t *testing.T) {
	bubble(t, func(t *testing.T, _ *lun, m *fakeMirror, r *Role, _ *hostLease) {
		made, err := r.CreateVolume(t.Context(), create("a"))
		if err != nil {
			t.Fatal(err)
		}
		id := made.Volume.ID
		rep, err := r.UpdateVolume(t.Context(), "", id, domain.VolumeEdit{Name: new("b"), Description: new("text")})
		if err != nil || !rep.Mirrored || rep.Index <= made.Index || rep.Epoch != 4 || rep.Domain != "dom" || rep.Volume.Name != "b" {
			t.Fatalf("%+v, %v", rep, err)
		}
		if v := m.has(id); v.Name != "b" || v.Description != "text" || v.Seq <= made.Volume.Seq {
			t.Errorf("the mirror has %+v", v)
		}
		if again, err := r.CreateVolume(t.Context(), create("a")); err != nil || again.Volume.ID != id || again.Volume.Name != "b" {
			t.Errorf("the create repeated: %+v, %v", again, err)
		}
		if _, err := r.UpdateVolume(t.Context(), "", "6a1f3b52-3c53-4b4c-9c8e-6a5f2f0e9d11", named("x")); !errors.Is(err, domain.ErrNotFound) {
			t.Errorf("no such volume: %v", err)
		}
		m.setDown(true)
		rep, err = r.UpdateVolume(t.Context(), "data", id, described("later"))
		if err != nil || rep.Mirrored || rep.Volume.Description != "later" {
			t.Fatalf("without a quorum: %+v, %v", rep, err)
		}
		m.setDown(false)
		time.Sleep(2 * time.Second)
		if v := m.has(id); v.Description != "later" || m.stale != 0 {
			t.Errorf("the mirror did not follow: %+v, %d stale", v, m.stale)
		}
	})
}

func TestRole_update_refused(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, h *hostLease) {
		made, err := r.CreateVolume(t.Context(), create("a"))
		if err != nil {
			t.Fatal(err)
		}
		for name, e := range map[string]domain.VolumeEdit{
			"nothing": {}, "no name": named(""), "long": named(strings.Repeat("n", 256)), "space": named(" a"),
			"line break": described("a\nb"), "not UTF-8": described("\xff"), "bidi": named("a\u202eb"),
		} {
			if _, err := r.UpdateVolume(t.Context(), "", made.Volume.ID, e); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := r.UpdateVolume(t.Context(), "", "a", named("b")); !errors.Is(err, ErrInvalid) {
			t.Errorf("no UUID: %v", err)
		}
		writes := len(l.writes)
		h.lose()
		if _, err := r.UpdateVolume(t.Context(), "", made.Volume.ID, named("b")); !errors.Is(err, ErrNotSPM) || errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Errorf("without the lease: %v", err)
		}
		if len(l.writes) != writes {
			t.Error("something was written")
		}
	})
}

func TestRole_update_unknownOutcome(t *testing.T) {
	for _, landed := range []bool{true, false} {
		t.Run(fmt.Sprintf("landed=%v", landed), func(t *testing.T) {
			bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
				made, err := r.CreateVolume(t.Context(), create("a"))
				if err != nil {
					t.Fatal(err)
				}
				l.mu.Lock()
				l.next, l.landed = domain.ErrOutcomeUnknown, landed
				l.mu.Unlock()
				rep, err := r.UpdateVolume(t.Context(), "", made.Volume.ID, named("b"))
				if landed && (err != nil || rep.Volume.Name != "b" || !rep.Mirrored) {
					t.Fatalf("%+v, %v", rep, err)
				}
				if !landed && !errors.Is(err, ErrNotCommitted) {
					t.Fatalf("err = %v", err)
				}
				time.Sleep(time.Second)
				want := map[bool]string{true: "b", false: "a"}[landed]
				if v := m.has(made.Volume.ID); v.Name != want {
					t.Errorf("the mirror has %q, want %q", v.Name, want)
				}
				if _, err := r.UpdateVolume(t.Context(), "", made.Volume.ID, named("b")); err != nil {
					t.Errorf("the same again: %v", err)
				}
			})
		})
	}
}

// A volume that was changed again after the disk was read tells nothing about the update that was in doubt.
func TestServed_updatedAfterAll_changedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		made, err := r.CreateVolume(t.Context(), create("a"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.UpdateVolume(t.Context(), "", made.Volume.ID, named("c")); err != nil {
			t.Fatal(err)
		}
		s, err := r.serving()
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.master.updatedAfterAll(t.Context(), made.Volume.ID, named("b"), domain.ErrOutcomeUnknown)
		if !errors.Is(err, blockdev.ErrOutcomeUnknown) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestRole_update_namesAreUniqueInThePool(t *testing.T) {
	o := newOthers("dom2")
	pool(t, o, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role) {
		a, err := r.CreateVolume(t.Context(), on("dom", "a"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.CreateVolume(t.Context(), on("dom2", "b"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.UpdateVolume(t.Context(), "", a.Volume.ID, named("b")); !errors.Is(err, domain.ErrNameTaken) {
			t.Errorf("the name of a volume of another domain: %v", err)
		}
		if _, err := r.UpdateVolume(t.Context(), "", b.Volume.ID, named("c")); err != nil {
			t.Fatal(err)
		}
		if _, err := r.CreateVolume(t.Context(), on("dom", "c")); !errors.Is(err, domain.ErrNameTaken) {
			t.Errorf("a name that was taken by a rename: %v", err)
		}
		if _, err := r.UpdateVolume(t.Context(), "", a.Volume.ID, named("b")); err != nil {
			t.Errorf("a name that is free again: %v", err)
		}
		var wg sync.WaitGroup
		won := make(chan string, 2)
		for _, id := range []string{a.Volume.ID, b.Volume.ID} {
			wg.Go(func() {
				if _, err := r.UpdateVolume(t.Context(), "", id, named("both")); err == nil {
					won <- id
				} else if !errors.Is(err, domain.ErrNameTaken) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Errorf("%d volumes got one name", len(won))
		}
	})
}

func TestNames_reservation(t *testing.T) {
	t.Parallel()
	n := newNames()
	n.load("d1", []domain.Volume{{ID: "1", Name: "a", Image: "i"}})
	key, err := n.reserve("1", use{domain: "d1", name: "b", image: "i"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := n.claim("2", use{domain: "d2", name: name, image: "j"}); !errors.Is(err, domain.ErrNameTaken) || strings.Contains(err.Error(), reserved) {
			t.Errorf("while its outcome is open, %s: %v", name, err)
		}
	}
	n.release(key, true)
	if err := n.claim("2", use{domain: "d2", name: "b", image: "j"}); err == nil {
		t.Error("the outcome is unknown, and the name is free")
	}
	n.load("d1", []domain.Volume{{ID: "1", Name: "a", Image: "i"}})
	if err := n.claim("2", use{domain: "d2", name: "b", image: "j"}); err != nil {
		t.Errorf("after the domain was read again: %v", err)
	}
}

// A description that reached the disk and not the mirror is brought there by whoever serves next.
func TestRole_update_reconciledAtTakeover(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, a *Role, _ *hostLease) {
		made, err := a.CreateVolume(t.Context(), create("a"))
		if err != nil {
			t.Fatal(err)
		}
		m.setDown(true)
		if rep, err := a.UpdateVolume(t.Context(), "", made.Volume.ID, described("text")); err != nil || rep.Mirrored {
			t.Fatalf("%+v, %v", rep, err)
		}
		if rep, err := a.Stop(t.Context(), StopRequest{Epoch: 4}); err != nil || rep.Unmirrored == 0 {
			t.Fatalf("%+v, %v", rep, err)
		}
		m.setDown(false)
		if v := m.has(made.Volume.ID); v.Description != "" {
			t.Fatalf("the mirror has it already: %+v", v)
		}
		b, _ := newRole(t, l, m, 2)
		if _, err := b.Start(t.Context(), StartRequest{ExpectVersion: 4}); err != nil {
			t.Fatal(err)
		}
		if v := m.has(made.Volume.ID); v.Description != "text" {
			t.Errorf("the mirror has %+v", v)
		}
	})
}
