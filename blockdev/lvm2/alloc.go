package lvm2

import "fmt"

// Place says where a new volume must begin.
type Place struct {
	PV    int   // index in VG.PVs
	Start int64 // first extent; -1 for anywhere on that physical volume
}

// allocation is a request for extents on a free map.
type allocation struct {
	vg         *VG
	free       *freeMap // changed as extents are taken
	contiguous bool
	place      *Place
	out        []run
	pvs        []int
}

// take records a run and removes it from the map.
func (a *allocation) take(pv int, r run) error {
	if err := a.free.take(pv, r); err != nil {
		return err
	}
	a.out, a.pvs = append(a.out, r), append(a.pvs, pv)
	return nil
}

// noSpace says how much is missing.
func (a *allocation) noSpace(n int64) error {
	total := int64(0)
	for pv := range a.free.pvs {
		if a.usable(pv) {
			total += a.free.pvs[pv].free
		}
	}
	how := ""
	if a.contiguous {
		how = " in one run"
	}
	return fmt.Errorf("%w in %s: %d needed%s, %d free, of %d bytes each", ErrNoSpace, a.vg.Name, n, how, total, a.vg.ExtentSize)
}

// usable tells whether extents may come from this physical volume.
func (a *allocation) usable(pv int) bool {
	return a.vg.PVs[pv].Allocatable() && (a.place == nil || a.place.PV == pv)
}

// fresh takes n extents for a new volume: the smallest free run that is long enough on the first physical volume
// that has one; without one, and when it need not be contiguous, the longest runs there are.
func (a *allocation) fresh(n int64) error {
	if a.place != nil && a.place.Start >= 0 {
		return a.exact(n)
	}
	for pv := range a.free.pvs {
		if !a.usable(pv) {
			continue
		}
		if r, ok := a.free.pvs[pv].bestFit(n); ok {
			return a.take(pv, run{r.start, n})
		}
	}
	return a.scatter(n)
}

// exact takes n extents where the caller wants them.
func (a *allocation) exact(n int64) error {
	if !a.usable(a.place.PV) || a.free.freeAt(a.place.PV, a.place.Start) < n {
		return fmt.Errorf("%w: extents %d..%d of physical volume %d are not free", ErrNoSpace, a.place.Start, a.place.Start+n-1, a.place.PV)
	}
	return a.take(a.place.PV, run{a.place.Start, n})
}

// grow takes n extents for the end of a volume: right behind its last segment, then the longest runs of the same
// physical volume, then those of the others.
func (a *allocation) grow(lv *LV, n int64) error {
	s := lv.Segments[len(lv.Segments)-1]
	pv, next := s.Areas[0].PV, s.Areas[0].StartPE+s.ExtentCount
	if a.usable(pv) {
		if k := min(n, a.free.freeAt(pv, next)); k > 0 && (!a.contiguous || k == n) {
			if err := a.take(pv, run{next, k}); err != nil {
				return err
			}
			n -= k
		}
	}
	if n == 0 {
		return nil
	}
	a.pvs = append(a.pvs, pv) // a preference only, removed below
	a.out = append(a.out, run{})
	err := a.scatter(n)
	a.dropEmpty()
	return err
}

// dropEmpty removes the entry that only told scatter which physical volume comes first.
func (a *allocation) dropEmpty() {
	for i, r := range a.out {
		if r.count == 0 {
			a.out = append(a.out[:i:i], a.out[i+1:]...)
			a.pvs = append(a.pvs[:i:i], a.pvs[i+1:]...)
			return
		}
	}
}

// scatter takes the longest runs until n extents are found, from physical volumes used in this request first.
func (a *allocation) scatter(n int64) error {
	if a.contiguous || !a.enough(n) {
		return a.noSpace(n)
	}
	for left := n; left > 0; {
		pv, r := a.longest()
		if r.count == 0 {
			return a.noSpace(n)
		}
		k := min(left, r.count)
		if err := a.take(pv, run{r.start, k}); err != nil {
			return err
		}
		left -= k
	}
	return nil
}

// enough is true when n extents are free at all, so that nothing is taken in vain.
func (a *allocation) enough(n int64) bool {
	for pv := range a.free.pvs {
		if a.usable(pv) {
			n -= a.free.pvs[pv].free
		}
	}
	return n <= 0
}

// longest is the longest free run of a physical volume that is used already, else of any.
func (a *allocation) longest() (int, run) {
	for _, pv := range a.pvs {
		if a.usable(pv) && a.free.pvs[pv].free > 0 {
			return pv, a.free.pvs[pv].longest()
		}
	}
	at, best := 0, run{}
	for pv := range a.free.pvs {
		if !a.usable(pv) {
			continue
		}
		if r := a.free.pvs[pv].longest(); r.count > best.count {
			at, best = pv, r
		}
	}
	return at, best
}

// bestFit is the smallest run of at least n extents, the first of equals.
func (p *pvFree) bestFit(n int64) (run, bool) {
	best, ok := run{}, false
	for _, r := range p.runs {
		if r.count >= n && (!ok || r.count < best.count) {
			best, ok = r, true
		}
	}
	return best, ok
}

// longest is the longest run, the first of equals.
func (p *pvFree) longest() run {
	var best run
	for _, r := range p.runs {
		if r.count > best.count {
			best = r
		}
	}
	return best
}
