package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// lunSize is enough for a domain and a few volumes; the file is sparse.
const lunSize = 64 << 30

// bound is how long anything here may take on a busy machine.
const bound = 40 * time.Second

// running starts a host whose keeper is this test binary. It stops in order when the test ends.
func running(t *testing.T, name string) *Host {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	log := slog.New(slog.DiscardHandler)
	h := New(Config{
		Cluster: cluster.Config{Name: name, DataDir: dir, ClusterAddr: fmt.Sprintf("127.0.0.1:%d", testutil.FreePort(t)), Log: log},
		Keeper:  keeper.Config{Dir: dir, Log: log}, HostName: name, Profile: "dev", Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	testutil.Retry(t, bound, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.runCtx == nil {
			return errors.New("not running")
		}
		return nil
	})
	return h
}

// founded starts a host with a cluster, a pool and the role of SPM.
func founded(t *testing.T) (*Host, Member) {
	t.Helper()
	h := running(t, "h1")
	m, err := h.Init(testutil.Deadline(t), InitRequest{Pool: "p", Devices: []string{testutil.SparseFile(t, "lun", lunSize)}})
	if err != nil {
		t.Fatal(err)
	}
	serves(t, h, 0)
	return h, m
}

// serves waits until h is SPM under an epoch greater than after, and returns it.
func serves(t *testing.T, h *Host, after uint64) uint64 {
	t.Helper()
	var epoch uint64
	testutil.Retry(t, bound, func() error {
		r := h.Role()
		if r == nil {
			return ErrNoStorage
		}
		st := r.Status()
		if epoch = st.Epoch; st.State != spm.StateServing || epoch <= after {
			return fmt.Errorf("%s: %s, epoch %d", st.State, st.Reason, st.Epoch)
		}
		return nil
	})
	return epoch
}

func createVolume(t *testing.T, h *Host, domainID, name string) spm.VolumeReply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	rep, err := h.Role().CreateVolume(ctx, spm.CreateRequest{Key: name, Domain: domainID, Name: name, Size: 1 << 30})
	if err != nil {
		t.Fatalf("volume %s: %v", name, err)
	}
	return rep
}

// Without its keeper a host gives the role up at once; with a new keeper it can be SPM again, and nothing is lost.
func TestHost_keeperKilled(t *testing.T) {
	t.Parallel()
	h, _ := founded(t)
	first := createVolume(t, h, "", "before")
	rt := h.runtime()
	old := rt.keeper.PID()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-rt.keeper.Done()
	if _, err := rt.role.CreateVolume(t.Context(), spm.CreateRequest{Name: "x", Size: 1 << 30}); !errors.Is(err, spm.ErrNotSPM) {
		t.Errorf("a change without a keeper: %v", err)
	}
	if _, ok, _ := rt.Health(); ok {
		t.Error("its keeper is said to work")
	}
	serves(t, h, first.Epoch)
	if again := h.runtime(); again == rt || again.keeper.PID() == old || again.generation() <= rt.generation() {
		t.Error("the new runtime is not a new one")
	}
	if after := createVolume(t, h, "", "after"); after.Epoch <= first.Epoch {
		t.Errorf("epoch %d after %d", after.Epoch, first.Epoch)
	}
	vols, err := h.Role().Volumes()
	if err != nil || len(vols) != 2 {
		t.Errorf("%d volumes, %v", len(vols), err)
	}
}

// A domain that is made while the pool works is served at once, and by the next SPM too.
func TestHost_CreateDomain(t *testing.T) {
	t.Parallel()
	h, m := founded(t)
	d, index, err := h.CreateDomain(testutil.Deadline(t), DomainRequest{Name: "more", Devices: []string{testutil.SparseFile(t, "more", lunSize)}})
	if err != nil || index == 0 || d.Role != "regular" {
		t.Fatalf("%+v, index %d, %v", d, index, err)
	}
	v := createVolume(t, h, d.ID, "a")
	if v.Domain != d.ID || !v.Mirrored {
		t.Fatalf("%+v", v)
	}
	if got := h.Role().Status().Domains; !slices.Equal(got, []string{m.Domain, d.ID}) {
		t.Errorf("serves %v", got)
	}
	epoch := h.Role().Status().Epoch
	if _, err := h.Role().Stop(testutil.Deadline(t), spm.StopRequest{Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	serves(t, h, epoch)
	if rep, err := h.Role().DeleteVolume(testutil.Deadline(t), "", v.Volume.ID); err != nil || rep.Domain != d.ID {
		t.Errorf("%+v, %v", rep, err)
	}
	createVolume(t, h, d.ID, "b")
	testutil.Retry(t, bound, func() error {
		got, _ := h.Node().View().Domains.Get(d.ID)
		if got.Epoch <= epoch || got.Free >= d.Free {
			return fmt.Errorf("the mirror says %+v", got)
		}
		return nil
	})
}

// A lost lockspace of one domain is joined again; the SPM goes on with the others meanwhile.
func TestHost_lostLockspaceOfOneDomain(t *testing.T) {
	t.Parallel()
	h, _ := founded(t)
	d, _, err := h.CreateDomain(testutil.Deadline(t), DomainRequest{Name: "more", Devices: []string{testutil.SparseFile(t, "more", lunSize)}})
	if err != nil {
		t.Fatal(err)
	}
	createVolume(t, h, d.ID, "a")
	rt := h.runtime()
	old, _ := rt.domain(d.ID)
	asked, _ := h.Node().View().Config.Get(fsm.ConfigMasterConfirmed)
	if err := rt.keeper.Leave(testutil.Deadline(t), d.ID); err != nil {
		t.Fatal(err)
	}
	createVolume(t, h, "", "meanwhile")
	testutil.Retry(t, bound, func() error {
		if l, ok := rt.domain(d.ID); !ok || l == old {
			return errors.New("not joined again")
		}
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		defer cancel()
		_, err := h.Role().CreateVolume(ctx, spm.CreateRequest{Key: "b", Domain: d.ID, Name: "b", Size: 1 << 30})
		return err
	})
	if now, _ := h.Node().View().Config.Get(fsm.ConfigMasterConfirmed); now == asked || !strings.HasPrefix(now, "h1 ") {
		t.Errorf("the domain is served again, and the cluster was not asked whether the master is still ours: %q, before %q", now, asked)
	}
	if h.runtime() != rt {
		t.Error("the whole storage of the host was restarted")
	}
}

// A domain that cannot be opened here is reported and holds up nothing.
func TestHost_domainThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	h, _ := founded(t)
	gone := fsm.Domain{ID: "0b9a7f52-3c53-4b4c-9c8e-6a5f2f0e9d11", Name: "gone", Type: "block", Role: "regular", Status: "active",
		LUNs: []string{filepath.Join(t.TempDir(), "none")}}
	if err := apply(testutil.Deadline(t), h.Node(), &fsm.DomainPut{Domain: gone}); err != nil {
		t.Fatal(err)
	}
	createVolume(t, h, "", "a")
	testutil.Retry(t, bound, func() error {
		for _, e := range h.Node().View().Events() {
			if e.Kind == "domain.unserved" && e.Subject == gone.ID {
				return nil
			}
		}
		return errors.New("no event")
	})
	_, err := h.Role().CreateVolume(testutil.Deadline(t), spm.CreateRequest{Domain: gone.ID, Name: "b", Size: 1 << 30})
	if !errors.Is(err, spm.ErrDomainDown) {
		t.Errorf("err = %v", err)
	}
}

// A host that leaves frees its host id and may be followed by another of that name; the last one cannot leave.
func TestHost_Leave(t *testing.T) {
	t.Parallel()
	a, m := founded(t)
	if _, err := a.Leave(testutil.Deadline(t)); !errors.Is(err, cluster.ErrLastHost) {
		t.Fatalf("the last host: %v", err)
	}
	b := running(t, "h2")
	joined, err := b.Join(testutil.Deadline(t), a.cfg.Cluster.ClusterAddr, m.Token)
	if err != nil || joined.HostID != 2 {
		t.Fatalf("%+v, %v", joined, err)
	}
	var rt *runtime
	testutil.Retry(t, bound, func() error {
		if rt = b.runtime(); rt == nil {
			return ErrNoStorage
		}
		return nil
	})
	if left, err := b.Leave(testutil.Deadline(t)); err != nil || left.Host != "h2" {
		t.Fatalf("%+v, %v", left, err)
	}
	if b.Node() != nil || b.Role() != nil || cluster.IsMember(b.cfg.Cluster.DataDir) {
		t.Error("it still has parts of a member")
	}
	select {
	case <-rt.keeper.Done():
	default:
		t.Error("its keeper still runs")
	}
	testutil.Retry(t, bound, func() error {
		if a.Node().View().Hosts.Has("h2") {
			return errors.New("the others still know it")
		}
		return nil
	})
	createVolume(t, a, "", "still works")
}
