package interop

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/leases"
)

// Result codes for damage.
const (
	rcDBlockChecksum = -214
	rcLeaderMagic    = -223
	rcNumHosts       = -228
	rcLeaderChecksum = -229
)

// loss waits until the host's lockspace is lost and returns why.
func (h *host) loss(limit time.Duration) error {
	h.t.Helper()
	select {
	case err := <-h.lost:
		return err
	case <-time.After(limit):
		h.t.Fatalf("host %d still has its lockspace after %v", h.HostID(), limit)
		return nil
	}
}

// flip damages one byte at off and returns the sector as it was.
func (l *lun) flip(t testing.TB, off int64) []byte {
	t.Helper()
	size := int64(l.geo.SectorSize)
	was := l.sectorAt(t, off/size*size)
	bad := append([]byte(nil), was...)
	bad[off%size] ^= 0x40
	l.write(t, bad, off/size*size)
	return was
}

// recordOffset is where the lockspace record of a host begins.
func (l *lun) recordOffset(host int) int64 { return int64(host-1) * int64(l.geo.SectorSize) }

// TestCorrupt_ownRecord is of test 16: a host whose own record is damaged stops at its next renewal, whoever it is.
func TestCorrupt_ownRecord(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	lease := h.acquire(1)
	u := startUser(t, d)
	u.must("acquire", 0, l.theirs(2))
	l.flip(t, l.recordOffset(3)+152) // a digit of the timestamp
	if err := h.loss(8 * time.Second); !errors.Is(err, leases.ErrLost) || !errors.Is(err, leases.ErrCorrupt) {
		t.Errorf("ours: %v", err)
	}
	if lease.Check(0) == nil {
		t.Error("the lease is still good")
	}
	before := l.leader(t, 1)
	if err := lease.Release(within(t, 5*time.Second)); !errors.Is(err, leases.ErrLost) {
		t.Errorf("release: %v", err)
	}
	if l.leader(t, 1) != before {
		t.Error("a host that lost its lockspace wrote")
	}
	l.flip(t, l.recordOffset(5)+152)
	begin := boot()
	if sig := u.endedBy(20 * time.Second); sig != syscall.SIGTERM {
		t.Errorf("the daemon's user ended by %v", sig)
	}
	t.Logf("sanlock gave up %v after its record was damaged", boot()-begin)
}

// TestCorrupt_ownersRecord: nobody can take the leases of a host whose record is damaged, until it is valid again.
func TestCorrupt_ownersRecord(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	a, b := startDaemon(t, l, "a"), startDaemon(t, l, "b")
	a.join(5, fast)
	b.join(6, fast)
	h := ours(t, l, 3)
	u := startUser(t, a)
	u.must("acquire", 0, l.theirs(1))
	a.kill()
	was := l.flip(t, l.recordOffset(5)+152)
	ub := startUser(t, b)
	if rc, _ := ub.acquire(l.theirs(1), 0); rc != rcLeaderChecksum {
		t.Errorf("sanlock: %d", rc)
	}
	if _, err := h.Acquire(within(t, 5*time.Second), h.spec(1)); !errors.Is(err, leases.ErrCorrupt) {
		t.Errorf("ours: %v", err)
	}
	l.write(t, was, l.recordOffset(5))
	h.refused(1, 5)
	lease, err := h.eventually(1, 120*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	h.release(lease)
}

// TestCorrupt_resources is the rest of test 16 in which nothing has to be waited for.
func TestCorrupt_resources(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	u := startUser(t, d)
	block := func(i, host int) int64 { return l.offset(i) + int64(host+1)*512 }
	refusedByAll := func(what string, i, rc int, want error) {
		t.Helper()
		if got, _ := u.acquire(l.theirs(i), 0); got != rc {
			t.Errorf("%s, sanlock: %d", what, got)
		}
		if _, err := h.Acquire(within(t, 5*time.Second), h.spec(i)); !errors.Is(err, want) {
			t.Errorf("%s, ours: %v", what, err)
		}
	}

	u.must("acquire", 0, l.theirs(1)) // so that its block is not empty
	u.must("release", l.theirs(1))
	was := l.flip(t, block(1, 5))
	refusedByAll("a foreign block", 1, rcDBlockChecksum, leases.ErrCorrupt)
	was[60], was[200], was[400] = 0xff, 0xee, 0xdd // between and behind the structures
	l.write(t, was, block(1, 5))
	h.release(h.acquire(1))
	if rc, v := u.acquire(l.theirs(1), 0); rc < 0 || v != 3 {
		t.Errorf("junk in the padding: %d, version %d", rc, v)
	}
	u.must("release", l.theirs(1))

	if _, err := d.client("init", "-r", l.theirs(2), "-z", "1"); err != nil {
		t.Fatal(err)
	}
	refusedByAll("a cleared lease", 2, rcLeaderMagic, leases.ErrNoLease)

	l.flip(t, l.offset(3)+48)
	refusedByAll("a damaged leader", 3, rcLeaderChecksum, leases.ErrCorrupt)

	dev := l.open(t)
	if err := leases.InitResource(within(t, 10*time.Second), dev, l.offset(4), l.geo, space, resName(4), 2); err != nil {
		t.Fatal(err)
	}
	refusedByAll("a lease for two hosts", 4, rcNumHosts, leases.ErrHostIDRange)

	// Initialised anew while we hold it: our release must not touch what is another lease now.
	lease := h.acquire(1)
	if err := leases.InitResource(within(t, 10*time.Second), dev, l.offset(1), l.geo, space, resName(1), 0); err != nil {
		t.Fatal(err)
	}
	_ = lease.Release(within(t, 5*time.Second))
	if rec := l.leader(t, 1); rec.Lver != 0 || rec.Timestamp != 0 {
		t.Errorf("after the release: %+v", rec)
	}
	if rc, v := u.acquire(l.theirs(1), 0); rc < 0 || v != 1 {
		t.Errorf("the new lease: %d, version %d", rc, v)
	}
}

// TestCorrupt_lockspaceAnew: a lockspace that is initialised under its hosts is lost to all of them at the next renewal,
// and joined anew it starts at generation 1. A lease of a higher generation is then nobody's to take while its host is
// joined (pitfall 8.12), by our hand as by theirs.
func TestCorrupt_lockspaceAnew(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	d.leave(5)
	d.join(5, fast)
	h := ours(t, l, 3)
	u := startUser(t, d)
	u.must("acquire", 0, l.theirs(1)) // generation 2
	if err := leases.InitLockspace(within(t, 10*time.Second), l.open(t), 0, l.geo, space, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := h.loss(8 * time.Second); !errors.Is(err, leases.ErrLost) {
		t.Errorf("ours: %v", err)
	}
	if sig := u.endedBy(20 * time.Second); sig != syscall.SIGTERM {
		t.Errorf("the daemon's user ended by %v", sig)
	}
	retry(t, 10*time.Second, func() error {
		if d.joined() {
			return errors.New("the daemon still has the lockspace")
		}
		return nil
	})
	again := ours(t, l, 3)
	d.join(5, fast)
	if g := l.record(t, 5).OwnerGeneration; again.Generation() != 1 || g != 1 {
		t.Errorf("generations %d and %d", again.Generation(), g)
	}
	again.refused(1, 5)
	if rc, _ := startUser(t, d).acquire(l.theirs(1), 0); rc != rcIDLive {
		t.Errorf("sanlock on its own lease of a later generation: %d", rc)
	}
	d.leave(5)
	if lease := again.acquire(1); lease.Epoch() != 2 {
		t.Errorf("version %d", lease.Epoch())
	}
}
