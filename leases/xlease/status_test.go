package xlease

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// record changes the record of a host id.
func (b *bench) record(id int, change func(l *leases.Leader)) {
	b.t.Helper()
	off := int64(id-1) * int64(b.geo.SectorSize)
	b.change(b.ids, off, change)
}

func (b *bench) change(dev *blockdev.Mem, off int64, change func(l *leases.Leader)) {
	b.t.Helper()
	p := dev.Bytes(off, int64(b.geo.SectorSize))
	var l leases.Leader
	if err := l.Decode(p); err != nil {
		b.t.Fatal(err)
	}
	change(&l)
	l.Encode(p)
	dev.SetBytes(off, p)
}

// join makes a host a live member, as far as a renewal loop has seen.
func (b *bench) join(id int, generation uint64) {
	b.record(id, func(l *leases.Leader) {
		l.OwnerID, l.OwnerGeneration, l.Timestamp = uint64(id), generation, 1000
		l.Resource, _ = leases.MakeName(fmt.Sprintf("host%d", id))
	})
	b.seen = append(b.seen, leases.HostStatus{HostID: id, State: leases.HostLive, Generation: generation, Timestamp: 1000})
}

// leave frees a host id; nobody has noticed yet.
func (b *bench) leave(id int) { b.record(id, func(l *leases.Leader) { l.Timestamp = 0 }) }

// hold gives a host a lease exclusively.
func (b *bench) hold(n, id int, generation uint64) {
	b.change(b.mem, resourceOffset(n, b.geo.AlignSize), func(l *leases.Leader) {
		l.OwnerID, l.OwnerGeneration, l.WriteID, l.Timestamp, l.Lver = uint64(id), generation, uint64(id), 940, l.Lver+1
	})
}

// share gives a host a lease shared.
func (b *bench) share(n, id int, generation uint64) {
	p := make([]byte, b.geo.SectorSize)
	(&leases.DBlock{Flags: 1, ModeFlags: 1, ModeGeneration: generation}).Encode(p)
	b.mem.SetBytes(resourceOffset(n, b.geo.AlignSize)+int64(id+1)*int64(b.geo.SectorSize), p)
}

func TestVolume_List(t *testing.T) {
	t.Parallel()
	for name, geo := range geometries() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newVolume(t, geo, 6)
			for n := range 6 {
				b.add(idOf(n + 1))
			}
			b.join(3, 2)
			b.join(200, 1)
			b.hold(1, 3, 2)
			b.hold(2, 3, 1) // an earlier generation
			b.share(3, 3, 2)
			b.share(3, 200, 1)
			b.share(4, 200, 7)                                                      // has not come back yet: nobody knows a later generation
			b.mem.SetBytes(resourceOffset(5, geo.AlignSize), []byte{0, 0, 0, 0, 0}) // no magic
			list, err := b.List(testutil.Deadline(t), b.hosts)
			if err != nil || len(list) != 6 {
				t.Fatalf("%d leases, %v", len(list), err)
			}
			for i, want := range []leases.ResourceState{leases.ResourceFree, leases.ResourceExclusive, leases.ResourceFree, leases.ResourceShared, leases.ResourceShared} {
				if list[i].ID != idOf(i+1) || list[i].Err != nil || list[i].State != want {
					t.Errorf("lease %d: %+v, want %s", i+1, list[i], want)
				}
			}
			if l := list[1]; l.Owner != 3 || l.Generation != 2 || l.Version != 1 || l.Held != time.Minute || l.Takeable {
				t.Errorf("held: %+v", l)
			}
			if l := list[3]; len(l.Holders) != 2 || l.Owner != 3 || l.Holders[1].HostID != 200 {
				t.Errorf("shared: %+v", l)
			}
			if !errors.Is(list[5].Err, leases.ErrNoLease) {
				t.Errorf("without a resource: %+v", list[5])
			}
		})
	}
}

// With few hosts a listing reads a page of each lease.
func TestVolume_List_readsLittle(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 40)
	for n := range 40 {
		b.add(idOf(n + 1))
	}
	b.join(1, 1)
	b.join(3, 1)
	rec := faulty.NewRecorder(b.mem)
	b.on(rec, leases.Geometry512)
	if _, err := b.List(testutil.Deadline(t), b.hosts); err != nil {
		t.Fatal(err)
	}
	if st := rec.Stats(); st.Reads != 41 || st.ReadBytes != IndexSize+40*4096 || st.Writes != 0 {
		t.Errorf("%+v", st)
	}
}

// A host that joins between the look at the hosts and the reading of the leases may share one already.
func TestVolume_List_hostJoinsMeanwhile(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 2)
	b.add(idOf(1))
	b.join(1, 1)
	looks := 0
	hosts := func(ctx context.Context) (*leases.Survey, error) {
		if looks++; looks == 2 {
			b.join(60, 1)
			b.share(0, 60, 1)
		}
		return b.hosts(ctx)
	}
	list, err := b.List(testutil.Deadline(t), hosts)
	if err != nil || len(list) != 1 || list[0].State != leases.ResourceShared || list[0].Owner != 60 {
		t.Errorf("%+v, %v", list, err)
	}
}

// A lease that is deleted while it is listed is left out and is no damage.
func TestVolume_List_deletedMeanwhile(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 2)
	b.add(idOf(1), idOf(2))
	looks := 0
	hosts := func(ctx context.Context) (*leases.Survey, error) {
		if looks++; looks == 1 {
			if _, err := b.Remove(ctx, idOf(2)); err != nil {
				t.Error(err)
			}
		}
		return b.hosts(ctx)
	}
	list, err := b.List(testutil.Deadline(t), hosts)
	if err != nil || len(list) != 1 || list[0].Err != nil {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestVolume_Refuse(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 5)
	b.add(idOf(1), idOf(2), idOf(3), idOf(4))
	b.join(2, 1)
	b.hold(0, 2, 1)
	b.mem.SetZero(resourceOffset(2, mib), mib)
	b.mem.SetBytes(resourceOffset(3, mib)+40, []byte{7})
	ctx := testutil.Deadline(t)
	for id, want := range map[string]error{idOf(1): ErrInUse, idOf(2): nil, idOf(3): nil, idOf(4): ErrDamaged, idOf(5): nil} {
		if err := b.Refuse(ctx, id, b.hosts); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
	b.leave(2)
	if err := b.Refuse(ctx, idOf(1), b.hosts); err != nil {
		t.Errorf("after the holder left: %v", err)
	}
}

// A device that hangs costs one deadline and not one for each lease, and is not taken for damage. A sector that cannot be
// read is.
func TestVolume_List_device(t *testing.T) {
	t.Parallel()
	b := newVolume(t, leases.Geometry512, 200)
	for n := range 200 {
		b.add(idOf(1000 + n))
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		bad := faulty.New(b.mem)
		b.on(bad, leases.Geometry512)
		hang := bad.Inject(faulty.Fault{Ops: faulty.Read, Off: 50 * mib, Len: 100 * mib, Hang: true})
		began := time.Now()
		if _, err := b.List(ctx, b.hosts); !errors.Is(err, blockdev.ErrTimeout) || time.Since(began) > DefaultIOTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, err := b.Check(ctx); !errors.Is(err, blockdev.ErrTimeout) {
			t.Errorf("check: %v", err)
		}
		if _, err := b.Rebuild(ctx, RebuildOptions{Hosts: b.hosts, Force: true}); !errors.Is(err, blockdev.ErrTimeout) {
			t.Errorf("rebuild: %v", err)
		}
		hang.Remove()
		bad.Forget()
		bad.Inject(faulty.Fault{Ops: faulty.Read, Off: 50 * mib, Len: mib, Err: faulty.EIO})
		list, err := b.List(ctx, b.hosts)
		if err != nil || len(list) != 200 || !errors.Is(list[47].Err, faulty.EIO) || list[48].Err != nil {
			t.Errorf("%d leases, %v", len(list), err)
		}
		if _, err := b.Rebuild(ctx, RebuildOptions{Hosts: b.hosts, Force: true}); !errors.Is(err, faulty.EIO) {
			t.Errorf("rebuild of what cannot be read: %v", err)
		}
	})
}
