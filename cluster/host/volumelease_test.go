package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// leaseOf is where the lease of a volume on the master lies, by the disk.
func leaseOf(t *testing.T, h *Host, id string) domain.VolumeLease {
	t.Helper()
	rt := h.runtime()
	l, ok := rt.domain(rt.presentID())
	if !ok {
		t.Fatal("the master is not open")
	}
	disk, err := l.read(testutil.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	v, ok := disk.Volume(id)
	if !ok {
		t.Fatalf("no volume %s", id)
	}
	at, ok, err := disk.VolumeLease(&v)
	if err != nil || !ok {
		t.Fatalf("no lease: %v", err)
	}
	return at
}

func specOf(at domain.VolumeLease, holder string) keeper.ResourceSpec {
	return keeper.ResourceSpec{Lockspace: at.Lockspace, Name: at.Volume, Device: at.Device.Name(), Offset: at.Offset, NoWait: true,
		Holder: &keeper.Holder{Name: holder}}
}

func deleteVolume(t *testing.T, h *Host, id string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	_, err := h.Role().DeleteVolume(ctx, "", id)
	return err
}

// A volume that a real sanlock holds is not deleted; the refusal names who holds it.
func TestVolumeLeases_heldBySanlock(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "sanlock")
	h, _ := founded(t)
	v := createVolume(t, h, "", "in-use")
	at := leaseOf(t, h, v.Volume.ID)
	disk, _ := h.runtime().domain(at.Lockspace)
	opened, err := disk.read(testutil.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	_, ids, err := opened.Lockspace()
	if err != nil {
		t.Fatal(err)
	}
	path := at.Device.Name()
	sanlock := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(testutil.Deadline(t), "sanlock", append([]string{"direct"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("sanlock direct %v: %v %s", args, err, out)
		}
	}
	resource := fmt.Sprintf("%s:%s:%s:%d", at.Lockspace, at.Volume, path, at.Offset)
	sanlock("acquire_id", "-s", fmt.Sprintf("%s:200:%s:%d", at.Lockspace, path, ids), "-o", "1", "-e", "a-sanlock-host")
	sanlock("acquire", "-r", resource, "-i", "200", "-g", "1", "-o", "1")
	err = deleteVolume(t, h, v.Volume.ID)
	var held *domain.VolumeHeldError
	if !errors.As(err, &held) || !errors.Is(err, domain.ErrVolumeHeld) || !errors.Is(err, leases.ErrHeld) {
		t.Fatalf("deleting a volume that is in use: %v", err)
	}
	if !strings.Contains(held.Holder, "sanlock") && held.Holder != "host id 200" {
		t.Errorf("the holder is said to be %q", held.Holder)
	}
	if list, err := h.Role().Volumes(); err != nil || len(list) != 1 || list[0].Legality != domain.Legal {
		t.Errorf("%+v, %v", list, err)
	}
	// `direct release` does nothing; a host that leaves its lockspace gives its leases up with it.
	sanlock("release_id", "-s", fmt.Sprintf("%s:200:%s:%d", at.Lockspace, path, ids), "-o", "1")
	if err := deleteVolume(t, h, v.Volume.ID); err != nil {
		t.Errorf("after it left: %v", err)
	}
}

// Nothing else on the same host can have the volume at the same time; and a deletion that was refused left nothing held.
func TestVolumeLeases_heldHere(t *testing.T) {
	t.Parallel()
	h, _ := founded(t)
	v := createVolume(t, h, "", "in-use")
	at, k := leaseOf(t, h, v.Volume.ID), h.runtime().keeper
	if _, err := k.Acquire(testutil.Deadline(t), specOf(at, "vm1")); err != nil {
		t.Fatal(err)
	}
	var held *domain.VolumeHeldError
	if err := deleteVolume(t, h, v.Volume.ID); !errors.As(err, &held) || held.Holder != "this host" {
		t.Fatalf("deleting a volume that a VM here uses: %v", err)
	}
	if err := k.Release(testutil.Deadline(t), specOf(at, "vm1")); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Acquire(testutil.Deadline(t), specOf(at, "vm1")); err != nil {
		t.Fatalf("the refused deletion still holds the lease: %v", err)
	}
	held = nil
	if _, err := h.Role().Snapshot(testutil.Deadline(t), spm.SnapshotRequest{Image: v.Volume.Image}); !errors.As(err, &held) || held.Holder != "this host" {
		t.Errorf("a snapshot of an image that a VM here uses: %v", err)
	}
	if err := k.Release(testutil.Deadline(t), specOf(at, "vm1")); err != nil {
		t.Fatal(err)
	}
	snap, err := h.Role().Snapshot(testutil.Deadline(t), spm.SnapshotRequest{Image: v.Volume.Image})
	if err != nil || snap.Volume.Parent != v.Volume.ID {
		t.Fatalf("once nobody uses it: %+v, %v", snap, err)
	}
	if err := deleteVolume(t, h, snap.Volume.ID); err != nil {
		t.Fatal(err)
	}
	child, err := h.Role().CreateVolume(testutil.Deadline(t), spm.CreateRequest{Name: "child", Size: v.Volume.Capacity, Image: v.Volume.Image, Parent: v.Volume.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := deleteVolume(t, h, v.Volume.ID); !errors.Is(err, domain.ErrHasChildren) {
		t.Fatalf("a parent: %v", err)
	}
	if _, err := k.Acquire(testutil.Deadline(t), specOf(at, "vm1")); err != nil {
		t.Errorf("the refused deletion still holds the lease: %v", err)
	}
	if err := k.Release(testutil.Deadline(t), specOf(at, "vm1")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{child.Volume.ID, v.Volume.ID} {
		if err := deleteVolume(t, h, id); err != nil {
			t.Error(err)
		}
	}
}

// The lease of a deleted volume cannot be taken any more, and the next volume in its slot has a good one.
func TestVolumeLeases_endWithTheirVolumes(t *testing.T) {
	t.Parallel()
	h, _ := founded(t)
	v := createVolume(t, h, "", "old")
	at, k := leaseOf(t, h, v.Volume.ID), h.runtime().keeper
	if err := deleteVolume(t, h, v.Volume.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Acquire(testutil.Deadline(t), specOf(at, "late")); !errors.Is(err, leases.ErrNoLease) {
		t.Errorf("taking the lease of a deleted volume: %v", err)
	}
	again := leaseOf(t, h, createVolume(t, h, "", "new").Volume.ID)
	if again.Offset != at.Offset {
		t.Errorf("the slot is not used again: %d, was %d", again.Offset, at.Offset)
	}
	if _, err := k.Acquire(testutil.Deadline(t), specOf(again, "vm1")); err != nil {
		t.Errorf("the new volume's lease: %v", err)
	}
}

// Many callers at once do not run the keeper out of leases.
func TestVolumeLeases_manyDeletes(t *testing.T) {
	t.Parallel()
	h, _ := founded(t)
	const n = 48
	ids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { ids[i] = createVolume(t, h, "", fmt.Sprintf("v%d", i)).Volume.ID })
	}
	wg.Wait()
	begun := time.Now()
	for _, id := range ids {
		wg.Go(func() {
			if err := deleteVolume(t, h, id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d deletes in %s", n, time.Since(begun))
	if list, err := h.Role().Volumes(); err != nil || len(list) != 0 {
		t.Errorf("%d volumes left, %v", len(list), err)
	}
}

// fakeKeeper holds leases in memory, in the order taken.
type fakeKeeper struct {
	mu    sync.Mutex
	taken []string
	held  map[string]bool
	other string // held by another host
	done  chan struct{}
	lost  bool
}

func (k *fakeKeeper) Acquire(_ context.Context, s keeper.ResourceSpec) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.Name == k.other {
		return 0, &leases.HeldError{Resource: s.Name, HostID: 9}
	}
	k.taken = append(k.taken, s.Name)
	k.held[s.Name] = true
	return 1, nil
}

func (k *fakeKeeper) Release(_ context.Context, s keeper.ResourceSpec) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, s.Name)
	return nil
}

func (k *fakeKeeper) Destroy(ctx context.Context, s keeper.ResourceSpec) error {
	return k.Release(ctx, s)
}
func (k *fakeKeeper) Done() <-chan struct{}               { return k.done }
func (k *fakeKeeper) Guard(_, name string) blockdev.Guard { return fakeGuard{k, name} }
func (k *fakeKeeper) count() int                          { k.mu.Lock(); defer k.mu.Unlock(); return len(k.held) }

type fakeGuard struct {
	k    *fakeKeeper
	name string
}

func (fakeGuard) Epoch() uint64 { return 1 }
func (g fakeGuard) Check(time.Duration) error {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	if g.k.lost || !g.k.held[g.name] {
		return blockdev.ErrLeaseLost
	}
	return nil
}

func TestVolumeLeases_chain(t *testing.T) {
	t.Parallel()
	k := &fakeKeeper{held: map[string]bool{}, done: make(chan struct{})}
	pending := 1
	var mu sync.Mutex
	all := newVolumeLeases(k, func(string) int { mu.Lock(); defer mu.Unlock(); return pending },
		func(int) string { return "h9" }, time.Second, slog.New(slog.DiscardHandler))
	dev := blockdev.NewMem(1<<20, 512)
	at := func(name string, off int64) domain.VolumeLease {
		return domain.VolumeLease{Lockspace: "d", Volume: name, Device: dev, Offset: off}
	}
	c, err := all.TakeChain(t.Context(), at("c", 3), at("a", 1), at("b", 2))
	if err != nil || strings.Join(k.taken, "") != "abc" || c.Check(0) != nil {
		t.Fatalf("taken in the order %v, %v", k.taken, err)
	}
	ctx, cancel := While(t.Context(), c)
	defer cancel()
	k.mu.Lock()
	delete(k.held, "b") // one of them is lost
	k.mu.Unlock()
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), blockdev.ErrLeaseLost) {
		t.Errorf("ended by %v", context.Cause(ctx))
	}
	if err := c.Release(t.Context()); err != nil || k.count() != 0 {
		t.Errorf("%d left, %v", k.count(), err)
	}
	k.other = "b"
	var held *domain.VolumeHeldError
	if _, err := all.TakeChain(t.Context(), at("b", 2), at("a", 1), at("c", 3)); !errors.As(err, &held) || held.Holder != "h9" || k.count() != 0 {
		t.Errorf("one is held elsewhere: %v, %d left", err, k.count())
	}
	one, err := all.TakeVolume(t.Context(), at("a", 1))
	if err != nil {
		t.Fatal(err)
	}
	one.Abandon()
	if k.count() != 1 {
		t.Error("given back although a call is pending")
	}
	mu.Lock()
	pending = 0
	mu.Unlock()
	all.left.Wait()
	if k.count() != 0 || len(all.places) != 0 {
		t.Errorf("%d held, %d places taken", k.count(), len(all.places))
	}
}
