package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// A domain goes into maintenance when nothing holds a lease there: the host leaves its lockspace, closes its LUNs, serves it no more
// and says why. It comes back with all that is on it.
func TestHost_domainMaintenance(t *testing.T) {
	t.Parallel()
	h, _ := founded(t)
	d, _, err := h.CreateDomain(testutil.Deadline(t), DomainRequest{Name: "more", Devices: []string{testutil.SparseFile(t, "more", lunSize)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	v := createVolume(t, h, d.ID, "a")
	if _, err := h.Role().CreateLease(ctx, d.ID, testLease); err != nil {
		t.Fatal(err)
	}
	guest := &keeper.Holder{Name: "guest"}
	if _, err := h.AcquireLease(ctx, d.ID, testLease, guest); err != nil {
		t.Fatal(err)
	}
	wish := manager.DomainWish{Domain: d.ID, By: "eve", Reason: "firmware"}
	testutil.Retry(t, bound, func() error {
		_, err := h.Manager().DeactivateDomain(ctx, wish)
		if !errors.Is(err, manager.ErrDomainUsed) || !strings.Contains(err.Error(), testLease) || !strings.Contains(err.Error(), "guest") {
			return fmt.Errorf("in use: %w", err)
		}
		return nil
	})
	if err := h.ReleaseLease(ctx, d.ID, testLease, guest); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, bound, func() error { _, err := h.Manager().DeactivateDomain(ctx, wish); return err })
	rt := h.runtime()
	if _, open := rt.domain(d.ID); open || slices.Contains(h.Role().Status().Domains, d.ID) {
		t.Error("the domain is in maintenance, and open or served")
	}
	if _, err := rt.keeper.Held(ctx, d.ID); !errors.Is(err, keeper.ErrNotJoined) {
		t.Errorf("its lockspace: %v", err)
	}
	if _, err := h.Role().CreateVolume(ctx, spm.CreateRequest{Key: "b", Domain: d.ID, Name: "b", Size: 1 << 30}); !errors.Is(err, ErrMaintenance) {
		t.Errorf("a volume there: %v", err)
	}
	if list, _ := h.monitors.reports(0); len(list) != 1 {
		t.Errorf("it is monitored: %+v", list)
	}
	createVolume(t, h, "", "meanwhile")
	if dom, err := h.Manager().ActivateDomain(ctx, manager.DomainWish{Domain: d.ID, By: "eve"}); err != nil || dom.Status != fsm.DomainActive {
		t.Fatalf("%+v, %v", dom, err)
	}
	createVolume(t, h, d.ID, "c")
	testutil.Retry(t, bound, func() error {
		if n := len(h.Node().View().VolumesOf(d.ID)); n != 2 {
			return fmt.Errorf("the mirror has %d volumes", n)
		}
		return nil
	})
	if got, err := h.Role().DeleteVolume(ctx, "", v.Volume.ID); err != nil || got.Domain != d.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if h.runtime() != rt {
		t.Error("the storage of the host was restarted")
	}
}

func TestRefuseNew(t *testing.T) {
	t.Parallel()
	m := newTestMirror(t, fsm.Domain{ID: watchedDomain, Name: "one"}, fsm.Domain{ID: secondDomain, Name: "two"})
	for status, refused := range map[string]bool{fsm.DomainActive: false, fsm.DomainInactive: false, fsm.DomainUnknown: false,
		fsm.DomainActivating: false, fsm.DomainPreparing: true, fsm.DomainMaintenance: true} {
		m.apply(t, &fsm.DomainUpdate{ID: secondDomain, Status: &status})
		for _, ref := range []string{secondDomain, "two"} {
			if err := RefuseNew(m.View(), ref); errors.Is(err, ErrMaintenance) != refused {
				t.Errorf("%s, %s: %v", ref, status, err)
			}
		}
		if err := RefuseNew(m.View(), "one"); err != nil {
			t.Error(err)
		}
	}
}
