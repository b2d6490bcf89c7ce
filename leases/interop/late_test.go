package interop

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

// acquisition is a call of ours under way.
type acquisition struct {
	lease *leases.Lease
	err   error
}

func (h *host) begin(i int) chan acquisition {
	done := make(chan acquisition, 1)
	ctx := within(h.t, 30*time.Second)
	spec := h.spec(i)
	go func() {
		lease, err := h.Acquire(ctx, spec)
		done <- acquisition{lease, err}
	}()
	return done
}

// hits waits until a fault has met its call.
func hits(t testing.TB, r *faulty.Rule) {
	t.Helper()
	testutil.Retry(t, 20*time.Second, func() error {
		if r.Hits() == 0 {
			return errors.New("the chosen write did not come")
		}
		return nil
	})
}

// lateArena has two daemons and a host of ours whose N is large enough for writes to be late by seconds.
func lateArena(t *testing.T, bugs plant.Bugs) (l *lun, a, b *daemon, h *host) {
	l = newLUN(t, lunOptions{n: time.Second})
	a, b = startDaemon(t, l, "a"), startDaemon(t, l, "b")
	done := make(chan error, 2)
	go func() { done <- a.tryJoin(5, 8*time.Second) }()
	go func() { done <- b.tryJoin(6, 8*time.Second) }()
	cfg := hostConfig(l, 3, 8*time.Second)
	cfg.Bugs = bugs
	h = joinHost(t, l, cfg)
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	return l, a, b, h
}

// oursCommitsTheirs makes our host commit the daemon's ballot of resource 1, with the daemon's own leader write held up
// at the shim and ours at the device. The daemon's acquire is under way in u.
func oursCommitsTheirs(t *testing.T, l *lun, a *daemon, h *host) (u *user, leader *faulty.Rule, ours chan acquisition) {
	t.Helper()
	u = startUser(t, a)
	a.hook.arm(l.offset(1), l.offset(1)+512, 0, stall)
	u.send("acquire", 0, l.theirs(1))
	a.hook.wait(t) // phase 2 is over, the value is decided, the leader not written
	leader = h.io.Inject(faulty.Fault{Ops: faulty.Write, Off: l.offset(1), Len: 512, Hang: true, Count: 1})
	return u, leader, h.begin(1)
}

// landAfterRelease lets the daemon go on, get the lease and release it, and then our write of the leader land.
func landAfterRelease(t *testing.T, l *lun, a *daemon, u *user, h *host, leader *faulty.Rule) {
	t.Helper()
	hits(t, leader)
	a.hook.release()
	if rc, rest := u.answer(20 * time.Second); rc < 0 {
		t.Fatalf("the owner of the ballot did not get the lease: %d %s", rc, rest)
	}
	u.must("release", l.theirs(1))
	h.io.Release()
}

// TestLate_oursAfterTheirRelease is test 13: we complete the daemon's ballot, and our write of the leader lands after
// the daemon has released. The leader then names an owner that released (section 2.6). Everybody must go on.
func TestLate_oursAfterTheirRelease(t *testing.T) {
	t.Parallel()
	l, a, b, h := lateArena(t, plant.Bugs{})
	u, leader, done := oursCommitsTheirs(t, l, a, h)
	landAfterRelease(t, l, a, u, h, leader)
	got := <-done
	var held *leases.HeldError
	if !errors.As(got.err, &held) || held.HostID != 5 {
		t.Fatalf("we committed another host, and got %v", got.err)
	}
	resurrected(t, l, 5, 3)
	if info := h.info(1); info.State != leases.ResourceFree || !info.Takeable || info.Owner != 5 {
		t.Errorf("our reader says %+v", info)
	}
	if rc, v := startUser(t, b).acquire(l.theirs(1), 0); rc < 0 || v != 2 {
		t.Errorf("a third host, a sanlock: %d, version %d", rc, v)
	}
}

// resurrected wants the state of section 2.6: owner's lease is written by another host and marked released.
func resurrected(t *testing.T, l *lun, owner, writer uint64) {
	t.Helper()
	rec := l.leader(t, 1)
	if block := l.block(t, 1, int(owner)); rec.Timestamp == 0 || rec.OwnerID != owner || rec.WriteID != writer || !block.Released() {
		t.Fatalf("not the state that was to be made: %+v, block %+v", rec, block)
	}
}

// TestLate_weTakeWhatWasResurrected: from the same state, we go on ourselves.
func TestLate_weTakeWhatWasResurrected(t *testing.T) {
	t.Parallel()
	l, a, _, h := lateArena(t, plant.Bugs{})
	u, leader, done := oursCommitsTheirs(t, l, a, h)
	landAfterRelease(t, l, a, u, h, leader)
	<-done
	resurrected(t, l, 5, 3)
	if lease := h.acquire(1); lease.Epoch() != 2 {
		t.Errorf("version %d", lease.Epoch())
	}
	if rc, _ := u.acquire(l.theirs(1), 0); rc != rcIDLive {
		t.Errorf("sanlock on a lease that we hold: %d", rc)
	}
}

// TestLate_theirsAfterOurRelease is test 13 the other way: a daemon completes our ballot and writes the leader after we
// have released.
func TestLate_theirsAfterOurRelease(t *testing.T) {
	t.Parallel()
	l, a, b, h := lateArena(t, plant.Bugs{})
	leader := h.io.Inject(faulty.Fault{Ops: faulty.Write, Off: l.offset(1), Len: 512, Hang: true, Count: 1})
	done := h.begin(1)
	hits(t, leader)
	a.hook.arm(l.offset(1), l.offset(1)+512, 0, stall)
	u := startUser(t, a)
	u.send("acquire", 0, l.theirs(1))
	a.hook.wait(t) // it adopted our value and is about to commit us
	h.io.Release()
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	h.release(got.lease)
	a.hook.release()
	if rc, _ := u.answer(20 * time.Second); rc != rcOther {
		t.Fatalf("the daemon committed us, and answers %d", rc)
	}
	resurrected(t, l, 3, 5)
	if info := h.info(1); info.State != leases.ResourceFree || !info.Takeable || info.Owner != 3 {
		t.Errorf("our reader says %+v", info)
	}
	if rc, v := startUser(t, b).acquire(l.theirs(1), 0); rc < 0 || v != 2 {
		t.Errorf("a third host: %d, version %d", rc, v)
	}
	h.refused(1, 6)
}

// TestLate_theirsWhileWeHold: the daemon's late commit of us lands while we hold the lease. It stays ours, and its
// release is seen by all though we may not write the leader.
func TestLate_theirsWhileWeHold(t *testing.T) {
	t.Parallel()
	l, a, b, h := lateArena(t, plant.Bugs{})
	leader := h.io.Inject(faulty.Fault{Ops: faulty.Write, Off: l.offset(1), Len: 512, Hang: true, Count: 1})
	done := h.begin(1)
	hits(t, leader)
	a.hook.arm(l.offset(1), l.offset(1)+512, 0, stall)
	u := startUser(t, a)
	u.send("acquire", 0, l.theirs(1))
	a.hook.wait(t)
	h.io.Release()
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	a.hook.release()
	if rc, _ := u.answer(20 * time.Second); rc != rcOther {
		t.Fatalf("the daemon committed us, and answers %d", rc)
	}
	if info := h.info(1); info.State != leases.ResourceExclusive || info.WriteID != 5 || got.lease.Check(time.Second) != nil {
		t.Errorf("%+v", info)
	}
	if rc, _ := startUser(t, b).acquire(l.theirs(1), 0); rc != rcIDLive {
		t.Errorf("a third host on our lease: %d", rc)
	}
	h.release(got.lease)
	resurrected(t, l, 3, 5)
	if rc, v := startUser(t, b).acquire(l.theirs(1), 0); rc < 0 || v != 2 {
		t.Errorf("a third host: %d, version %d", rc, v)
	}
}

// TestLate_catchesPlantedBug: a host that ignores values accepted by others takes the version that the daemon has.
func TestLate_catchesPlantedBug(t *testing.T) {
	t.Parallel()
	l, a, _, h := lateArena(t, plant.Bugs{IgnoreValue: true})
	u := startUser(t, a)
	a.hook.arm(l.offset(1), l.offset(1)+512, 0, stall)
	u.send("acquire", 0, l.theirs(1))
	a.hook.wait(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	lease, err := h.Acquire(ctx, h.spec(1))
	a.hook.release()
	rc, version := u.answer(20 * time.Second)
	if err != nil || rc < 0 || version != "1" || lease.Epoch() != 1 {
		t.Errorf("the planted bug did nothing: ours %v, theirs %d %s", err, rc, version)
	}
}
