package host

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/extend"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// further makes a further domain.
func further(t *testing.T, h *Host, name string) fsm.Domain {
	t.Helper()
	d, _, err := h.CreateDomain(testutil.Deadline(t), DomainRequest{Name: name, Devices: []string{testutil.SparseFile(t, name, lunSize)}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// uses waits until a host uses a domain as the pool's master.
func uses(t *testing.T, h *Host, id string) {
	t.Helper()
	testutil.Retry(t, bound, func() error {
		rt := h.runtime()
		if rt == nil {
			return ErrNoStorage
		}
		if _, keeper, valid := rt.Health(); rt.presentID() != id || !keeper || !valid {
			return fmt.Errorf("it uses %q, keeper %v, lease readable %v", rt.presentID(), keeper, valid)
		}
		return nil
	})
}

// The master goes to another domain and back, under two hosts: everything that stands on the master follows, on both.
func TestHost_SetMaster(t *testing.T) {
	t.Parallel()
	a, m := founded(t)
	b := running(t, "h2")
	if _, err := b.Join(testutil.Deadline(t), a.cfg.Cluster.ClusterAddr, m.Token); err != nil {
		t.Fatal(err)
	}
	second, third := further(t, a, "second"), further(t, a, "third")
	all := []string{m.Domain, second.ID, third.ID}
	for _, id := range all {
		createVolume(t, a, id, "before on "+id)
	}
	members(t, a, m.Domain, all)
	epoch := a.Role().Status().Epoch
	rep, err := a.SetMaster(testutil.Deadline(t), second, "anna", "the old array goes")
	if err != nil || rep.Master != second.ID || rep.Former != m.Domain || rep.Version != 2 || !rep.Mirrored || rep.Epoch <= epoch {
		t.Fatalf("%+v, %v", rep, err)
	}
	t.Logf("no domain was served for %v", rep.Took)
	pool, _ := a.Node().View().Pool()
	if pool.Master != second.ID || pool.MasterVersion != 2 || len(pool.Former) != 1 || pool.Former[0].Domain != m.Domain {
		t.Errorf("%+v", pool)
	}
	uses(t, a, second.ID)
	uses(t, b, second.ID)
	for _, id := range all {
		createVolume(t, a, id, "after on "+id)
	}
	members(t, a, second.ID, all)
	plain(t, a, m.Domain)

	grow(t, b, third.ID)
	moved := movedTo(t, a, "h2")
	if moved <= rep.Epoch {
		t.Errorf("epoch %d after %d", moved, rep.Epoch)
	}
	for _, id := range all {
		createVolume(t, b, id, "by the other on "+id)
	}
	old, _ := b.Node().View().Domains.Get(m.Domain)
	back, err := b.SetMaster(testutil.Deadline(t), old, "anna", "and back")
	if err != nil || back.Version != 3 || back.Epoch <= moved {
		t.Fatalf("%+v, %v", back, err)
	}
	uses(t, a, m.Domain)
	members(t, b, m.Domain, all)
	plain(t, b, second.ID)
	movedTo(t, b, "h1")
	for _, id := range all {
		createVolume(t, a, id, "in the end on "+id)
		if found, err := a.CheckDomain(testutil.Deadline(t), mustGet(t, a, id)); err != nil || len(found) > 0 {
			t.Errorf("domain %s: %v, %v", id, found, err)
		}
	}
}

func mustGet(t *testing.T, h *Host, id string) fsm.Domain {
	t.Helper()
	d, ok := h.Node().View().Domains.Get(id)
	if !ok {
		t.Fatalf("no domain %s", id)
	}
	return d
}

// keysOf reads what a domain's keys say on its LUN.
func keysOf(t *testing.T, h *Host, id string) domain.MasterState {
	t.Helper()
	l, ok := h.runtime().domain(id)
	if !ok {
		t.Fatalf("domain %s is not open", id)
	}
	disk, err := l.read(testutil.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	return disk.Master()
}

// members waits until the master lists all domains of the pool.
func members(t *testing.T, h *Host, master string, want []string) {
	t.Helper()
	pool, _ := h.Node().View().Pool()
	testutil.Retry(t, bound, func() error {
		st := keysOf(t, h, master)
		var got []string
		for _, d := range st.Members {
			if d.Status == domain.PoolActive {
				got = append(got, d.ID)
			}
		}
		if slices.Sort(got); !st.InForce(pool.ID) || !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			return fmt.Errorf("the keys say %+v", st)
		}
		return nil
	})
}

// plain waits until a domain says nothing of being the master.
func plain(t *testing.T, h *Host, id string) {
	t.Helper()
	testutil.Retry(t, bound, func() error {
		if st := keysOf(t, h, id); st.Master || st.Next.Domain != "" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
}

// movedTo moves the role and waits until that host serves.
func movedTo(t *testing.T, h *Host, to string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	s, err := manager.Operator{Cluster: h.Node(), Now: time.Now}.Move(ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	return s.Epoch
}

// grow makes a volume larger through the mailbox alone, which lies on the present master.
func grow(t *testing.T, h *Host, id string) {
	t.Helper()
	var vol fsm.Volume
	testutil.Retry(t, bound, func() error {
		for _, v := range h.Node().View().Volumes().All() {
			if v.Domain == id {
				vol = v
				return nil
			}
		}
		return fmt.Errorf("no volume of %s is known", id)
	})
	testutil.Retry(t, bound, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), bound/4)
		defer cancel()
		return h.AskExtend(ctx, extend.Request{Domain: id, Volume: vol.ID, Size: vol.Allocated + 1<<27, StorageOnly: true})
	})
}

// A domain that cannot be served does not become master, and the one that is stays.
func TestHost_SetMaster_refused(t *testing.T) {
	t.Parallel()
	h, m := founded(t)
	gone := fsm.Domain{ID: "0b9a7f52-3c53-4b4c-9c8e-6a5f2f0e9d11", Name: "gone", Type: "block", Role: "regular", Status: "active", LUNs: []string{t.TempDir() + "/none"}}
	if err := apply(testutil.Deadline(t), h.Node(), &fsm.DomainPut{Domain: gone}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	if rep, err := h.SetMaster(ctx, gone, "anna", ""); err == nil {
		t.Fatalf("%+v", rep)
	}
	if st := h.Role().Status(); st.State != spm.StateServing || st.Domains[0] != m.Domain {
		t.Errorf("%+v", st)
	}
	if st := keysOf(t, h, m.Domain); !st.Master || st.Next.Domain != "" {
		t.Errorf("%+v", st)
	}
	createVolume(t, h, "", "still works")
}
