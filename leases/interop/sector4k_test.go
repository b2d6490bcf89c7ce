package interop

import (
	"fmt"
	"sync"
	"testing"

	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

// TestSectors4K is test 19: sectors of 4096 bytes with every size of area, on loop devices that really have them.
func TestSectors4K(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{mib, 2 * mib, 4 * mib, 8 * mib} {
		t.Run(fmt.Sprintf("%dM", size/mib), func(t *testing.T) {
			t.Parallel()
			l := newLUN(t, lunOptions{geo: leases.Geometry{SectorSize: 4096, AlignSize: size}})
			l.path = testutil.LoopDevice(t, l.path, 4096)
			passToAndFro(t, l)
		})
	}
}

// passToAndFro gives a lease from our host to a daemon and back.
func passToAndFro(t *testing.T, l *lun) {
	t.Helper()
	d := startDaemon(t, l, "a")
	var wg sync.WaitGroup
	wg.Go(func() { d.join(5, fast) })
	h := ours(t, l, 3)
	wg.Wait()
	u := startUser(t, d)
	for round := range uint64(3) {
		lease := h.acquire(1)
		if rc, _ := u.acquire(l.theirs(1), 0); rc != rcIDLive {
			t.Errorf("sanlock on our lease: %d", rc)
		}
		h.release(lease)
		rc, v := u.acquire(l.theirs(1), 0)
		if rc < 0 || v != 2*round+2 || lease.Epoch() != 2*round+1 {
			t.Fatalf("round %d: ours version %d, sanlock's %d (%d)", round, lease.Epoch(), v, rc)
		}
		h.refused(1, 5)
		u.must("release", l.theirs(1))
	}
	if info := h.info(1); info.State != leases.ResourceFree || info.NumHosts != l.geo.MaxHosts() {
		t.Errorf("%+v", info)
	}
}
