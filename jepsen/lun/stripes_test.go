package lun

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// TestStripes: ranges that overlap share a lock, and every range takes its locks once and upwards, so nobody waits in a circle.
func TestStripes(t *testing.T) {
	t.Parallel()
	var s stripes
	index := map[*sync.RWMutex]int{}
	for i := range s {
		index[&s[i]] = i
	}
	locks := func(off, n int64) (is []int) {
		s.each(off, n, func(m *sync.RWMutex) { is = append(is, index[m]) })
		return is
	}
	dice := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		off, n := dice.Int64N(MaxSize/Sector)*Sector, 1+dice.Int64N(32<<20)
		mine := locks(off, n)
		if !slices.IsSorted(mine) || len(slices.Compact(slices.Clone(mine))) != len(mine) {
			t.Fatalf("%d bytes at %d take %v", n, off, mine)
		}
		at := off + dice.Int64N(n)
		if other := locks(at, 1); !slices.Contains(mine, other[0]) {
			t.Fatalf("%d bytes at %d do not lock the byte at %d", n, off, at)
		}
	}
}

// TestLUN_parallel: while one host's write waits for its place, another host writes elsewhere, and only elsewhere.
func TestLUN_parallel(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	a, b := r.enter(t, "a"), r.open("b")
	release := r.disk.stripes.own(0, Sector)
	a.request(cmdWrite, 0, 1, 0, Sector, string(fill(1, Sector)))
	testutil.Retry(t, 20*time.Second, func() error {
		if p := r.Path("a"); p.mu.TryLock() {
			p.mu.Unlock()
			return errors.New("the write has not come")
		}
		return nil
	})
	if err := b.WriteAt(testutil.Deadline(t), fill(2, Sector), stripeSize); err != nil {
		t.Errorf("elsewhere: %v", err)
	}
	if n := r.log.Len(); n != 1 {
		t.Errorf("%d entries", n)
	}
	release()
	if _, errno := a.reply(); errno != 0 {
		t.Errorf("error %d", errno)
	}
	if all := r.end(); len(all) != 2 || all[0].Host != "b" || all[1].Host != "a" {
		t.Errorf("%s", brief(all...))
	}
}
