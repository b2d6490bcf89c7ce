package interop

import (
	"sync"
	"testing"
	"time"
)

// slow is an N that makes a host's death last 140 s.
const slow = 10 * time.Second

// TestMixed_theirSlowHostDies is test 15: N = 10 s for the owner, 1 s for those who wait. The owner is a daemon that is
// killed. A host of ours that watched it, and one that joins right after the death (where sanlock itself goes by its
// own N, pitfall 8.2), both wait for 8*10+60 s.
func TestMixed_theirSlowHostDies(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{n: slow}) // N on disk differs from everybody's: joining takes 2*10 s
	d := startDaemon(t, l, "a")
	begin := boot()
	var h *host
	var wg sync.WaitGroup
	wg.Go(func() { d.join(5, slow) })
	h = ours(t, l, 3)
	if took := boot() - begin; took < 2*slow || took > 2*slow+5*time.Second {
		t.Errorf("joining a free record with N = 10 s took %v", took)
	}
	wg.Wait()
	u := startUser(t, d)
	u.must("acquire", 0, l.theirs(1))
	u.must("acquire", 0, l.theirs(2))
	retry(t, 40*time.Second, func() error { return inState(string(h.HostStatus(5).State), "LIVE") })
	d.kill()
	stamp := time.Duration(l.record(t, 5).Timestamp)*time.Second + boot() - monotonic(t)
	cfg := hostConfig(l, 4, time.Second)
	cfg.HostName = "late"
	wg.Go(func() {
		lease, err := h.eventually(1, 170*time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		takenOver(t, "ours, N = 1, watching", stamp, boot(), slow)
		h.release(lease)
	})
	late := joinHost(t, l, cfg)
	lease, err := late.eventually(2, 170*time.Second)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	took := boot() - stamp
	t.Logf("ours, N = 1, joined after the death: had %v after the last renewal", took)
	if took <= 8*slow+watchdog {
		t.Error("too early")
	}
	late.release(lease)
}

// TestMixed_ourSlowHostDies: the same with a host of ours as the owner and a daemon with N = 1 s that watched it.
func TestMixed_ourSlowHostDies(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, time.Second)
	h := joinHost(t, l, hostConfig(l, 3, slow))
	h.acquire(1)
	retry(t, 40*time.Second, func() error { return inState(d.state(3), "LIVE") })
	h.crash()
	stamp := time.Duration(l.record(t, 3).Timestamp) * time.Second
	u := startUser(t, d)
	if rc, _ := u.eventually(l.theirs(1), 170*time.Second); rc < 0 {
		t.Fatal(rc)
	}
	takenOver(t, "sanlock, N = 1, watching", stamp, monotonic(t), slow)
}

// TestMixed_fastHostDies: the owner has N = 1 s and the waiting host 10 s. Sanlock goes by the owner's N, and we by the
// larger of the two.
func TestMixed_fastHostDies(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	a, b := startDaemon(t, l, "a"), startDaemon(t, l, "b")
	var wg sync.WaitGroup
	wg.Go(func() { a.join(5, time.Second) })
	wg.Go(func() { b.join(6, slow) })
	h := joinHost(t, l, hostConfig(l, 3, slow))
	wg.Wait()
	u := startUser(t, a)
	u.must("acquire", 0, l.theirs(1))
	u.must("acquire", 0, l.theirs(2))
	retry(t, 60*time.Second, func() error { return inState(string(h.HostStatus(5).State), "LIVE") })
	retry(t, 60*time.Second, func() error { return inState(b.state(5), "LIVE") })
	a.kill()
	stamp := time.Duration(l.record(t, 5).Timestamp) * time.Second
	ahead := boot() - monotonic(t)
	wg.Go(func() {
		if rc, _ := startUser(t, b).eventually(l.theirs(1), 170*time.Second); rc < 0 {
			t.Error(rc)
			return
		}
		took := monotonic(t) - stamp
		t.Logf("sanlock, N = 10: had %v after the last renewal", took)
		if took <= 8*time.Second+watchdog || took > 8*time.Second+watchdog+2*slow+10*time.Second {
			t.Errorf("sanlock, N = 10: taken after %v", took)
		}
	})
	lease, err := h.eventually(2, 170*time.Second)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	took := boot() - stamp - ahead
	t.Logf("ours, N = 10: had %v after the last renewal", took)
	if took <= 8*time.Second+watchdog {
		t.Error("too early")
	}
	h.release(lease)
}
