package interop

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/leases"
)

// TestLVB is test 20: a value goes from us to sanlock and back, each taken with the lease and written at its end.
func TestLVB(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{})
	d := startDaemon(t, l, "a")
	d.join(5, fast)
	h := ours(t, l, 3)
	u := startUser(t, d)
	spec := h.spec(1)
	spec.LVB = true
	take := func(want string) *leases.Lease {
		t.Helper()
		lease, err := h.Acquire(within(t, 10*time.Second), spec)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.TrimRight(lease.LVB(), "\x00"); string(got) != want {
			t.Errorf("we read %q, want %q", got, want)
		}
		return lease
	}
	lease := take("")
	if err := lease.SetLVB([]byte("from-us")); err != nil {
		t.Fatal(err)
	}
	h.release(lease)

	u.must("acquire", withLVB, l.theirs(1))
	if got := u.must("getlvb", l.theirs(1)); strings.TrimRight(got, "\x00") != "from-us" {
		t.Errorf("sanlock reads %q", got)
	}
	u.must("setlvb", l.theirs(1), "from-sanlock")
	u.must("release", l.theirs(1))

	lease = take("from-sanlock")
	if err := lease.SetLVB([]byte("at-conversion")); err != nil {
		t.Fatal(err)
	}
	sh, err := lease.ToShared(within(t, 10*time.Second)) // writes it too
	if err != nil {
		t.Fatal(err)
	}
	u.must("acquire", withLVB, l.theirs(1)+":SH")
	if got := u.must("getlvb", l.theirs(1)); strings.TrimRight(got, "\x00") != "at-conversion" {
		t.Errorf("sanlock, sharing, reads %q", got)
	}
	u.must("release", l.theirs(1))
	h.release(sh)
}

// TestLVB_4K: where sanlock would write the block into another lease (pitfall 8.1), we refuse to.
func TestLVB_4K(t *testing.T) {
	t.Parallel()
	l := newLUN(t, lunOptions{geo: leases.Geometry{SectorSize: 4096, AlignSize: mib}})
	h := ours(t, l, 3)
	spec := h.spec(1)
	spec.LVB = true
	if _, err := h.Acquire(within(t, 10*time.Second), spec); !errors.Is(err, leases.ErrLVB) {
		t.Errorf("%v", err)
	}
}
