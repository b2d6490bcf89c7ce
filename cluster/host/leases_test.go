package host

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

const testLease = "6d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02"

// inIndex is the place on the LUN of a byte of the index of external leases.
func inIndex(t *testing.T, h *Host, domainID string, at int64) (path string, off int64) {
	t.Helper()
	x, err := h.external(testutil.Deadline(t), domainID)
	if err != nil {
		t.Fatal(err)
	}
	dev, off, err := x.group.Locate(lvExternal, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return dev.Name(), off + at
}

// A new domain has the index that xlease.Format writes, and nothing in it that the check would find.
func TestHost_newDomainHasAnIndex(t *testing.T) {
	t.Parallel()
	h, m := founded(t)
	path, off := inIndex(t, h, m.Domain, 0)
	got := make([]byte, xlease.IndexSize)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(got, off); err != nil {
		t.Fatal(err)
	}
	mem := blockdev.NewMem(8<<20, 512)
	v, err := xlease.New(xlease.Config{Device: mem, Lockspace: m.Domain, Geometry: leases.Geometry512})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Format(testutil.Deadline(t)); err != nil {
		t.Fatal(err)
	}
	want := mem.Bytes(1<<20, xlease.IndexSize)
	copy(want[59:69], got[59:69]) // the time
	if !bytes.Equal(got, want) {
		t.Error("the index of a new domain differs from a formatted one")
	}
	if list, err := h.Leases(testutil.Deadline(t), m.Domain); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// From the SPM's create over the keeper's acquire to the refusal of a delete.
func TestHost_leases(t *testing.T) {
	t.Parallel()
	h, m := founded(t)
	ctx := testutil.Deadline(t)
	if _, err := h.Lease(ctx, m.Domain, testLease); !errors.Is(err, xlease.ErrNotFound) {
		t.Errorf("before it was made: %v", err)
	}
	if _, err := h.Leases(ctx, "another"); !errors.Is(err, ErrNotOpen) {
		t.Errorf("of no domain: %v", err)
	}
	rep, err := h.Role().CreateLease(ctx, "", testLease)
	if err != nil || !rep.Changed {
		t.Fatalf("%+v, %v", rep, err)
	}
	spec, rec, err := h.LeaseResource(ctx, m.Domain, testLease)
	if err != nil || rec != rep.Lease || spec.Name != testLease || spec.Lockspace != m.Domain {
		t.Fatalf("%+v, %+v, %v", spec, rec, err)
	}
	k := h.runtime().keeper
	version, err := k.Acquire(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	held := awaitState(t, h, m.Domain, leases.ResourceExclusive)
	if held.Owner != 1 || held.Version != version || held.Takeable || held.Offset != rec.Offset || held.Reason == "" {
		t.Errorf("%+v", held)
	}
	agree(t, k, spec, held)
	if _, err := h.Role().DeleteLease(ctx, "", testLease, false); !errors.Is(err, xlease.ErrInUse) {
		t.Errorf("delete of a held lease: %v", err)
	}
	if err := k.Release(ctx, spec); err != nil {
		t.Fatal(err)
	}
	awaitState(t, h, m.Domain, leases.ResourceFree)
	if rep, err := h.Role().DeleteLease(ctx, "", testLease, false); err != nil || !rep.Changed {
		t.Errorf("%+v, %v", rep, err)
	}
}

// agree compares a listing with the keeper's own view.
func agree(t *testing.T, k *keeper.Client, spec keeper.ResourceSpec, st xlease.Status) {
	t.Helper()
	info, err := k.Inspect(testutil.Deadline(t), spec)
	if err != nil || info.State != st.State || info.Owner != st.Owner || info.Generation != st.Generation || info.Version != st.Version {
		t.Errorf("the keeper says %+v, %v, the list %+v", info, err, st)
	}
}

func awaitState(t *testing.T, h *Host, domainID string, want leases.ResourceState) (st xlease.Status) {
	t.Helper()
	testutil.Retry(t, bound, func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if st, err = h.Lease(ctx, domainID, testLease); err == nil && st.State != want {
			err = errors.New("it is " + string(st.State))
		}
		return err
	})
	return st
}

// What is wrong with the index is found by the check, with the repair that helps.
func TestHost_CheckDomain_leases(t *testing.T) {
	t.Parallel()
	h, m := founded(t)
	if _, err := h.Role().CreateLease(testutil.Deadline(t), "", testLease); err != nil {
		t.Fatal(err)
	}
	path, off := inIndex(t, h, m.Domain, 70)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{'u'}, off); err != nil {
		t.Fatal(err)
	}
	dom, _ := h.Node().View().Domains.Get(m.Domain)
	found, err := h.CheckDomain(testutil.Deadline(t), dom)
	if err != nil || len(found) != 1 || !strings.Contains(found[0].Where, "xleases") || !strings.Contains(found[0].Repair, "holdfast lease rebuild") {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := h.Leases(testutil.Deadline(t), m.Domain); !errors.Is(err, xlease.ErrUpdating) {
		t.Errorf("listing it: %v", err)
	}
	if _, _, err := h.Role().RebuildLeases(testutil.Deadline(t), "", false); err != nil {
		t.Fatal(err)
	}
	if list, err := h.Leases(testutil.Deadline(t), m.Domain); err != nil || len(list) != 1 {
		t.Errorf("after the rebuild: %+v, %v", list, err)
	}
}
