package lvm2

import (
	"fmt"
	"slices"
	"sort"
)

// run is a run of extents on a physical volume.
type run struct{ start, count int64 }

func (r run) end() int64 { return r.start + r.count }

// pvFree are the free runs of one physical volume, ascending, never adjacent. A shared one is never changed.
type pvFree struct {
	runs  []run
	free  int64
	owned bool // by the transaction that holds the map
}

// freeMap has the free extents of a volume group. It is copy-on-write per physical volume.
type freeMap struct {
	pvs   []pvFree
	loose bool // a volume uses extents in a way that is not known: what it leaves may be in use by another
}

// clone returns a map that can be changed without touching this one.
func (f *freeMap) clone() freeMap {
	pvs := slices.Clone(f.pvs)
	for i := range pvs {
		pvs[i].owned = false
	}
	return freeMap{pvs: pvs, loose: f.loose}
}

// own makes the runs of a physical volume changeable.
func (f *freeMap) own(pv int) *pvFree {
	p := &f.pvs[pv]
	if !p.owned {
		p.runs, p.owned = slices.Clone(p.runs), true
	}
	return p
}

// at is the index of the first run that ends behind pe.
func (p *pvFree) at(pe int64) int {
	return sort.Search(len(p.runs), func(i int) bool { return p.runs[i].end() > pe })
}

// take allocates a run that must be free.
func (f *freeMap) take(pv int, r run) error {
	p := f.own(pv)
	i := p.at(r.start)
	if i == len(p.runs) || p.runs[i].start > r.start || p.runs[i].end() < r.end() || r.count <= 0 {
		return fmt.Errorf("extents %d..%d of physical volume %d are not all free", r.start, r.end()-1, pv)
	}
	old := p.runs[i]
	before, after := run{old.start, r.start - old.start}, run{r.end(), old.end() - r.end()}
	var keep []run
	for _, k := range [...]run{before, after} {
		if k.count > 0 {
			keep = append(keep, k)
		}
	}
	p.runs = slices.Replace(p.runs, i, i+1, keep...)
	p.free -= r.count
	return nil
}

// give frees a run that must be allocated.
func (f *freeMap) give(pv int, r run) error {
	p := f.own(pv)
	i := p.at(r.start)
	if r.count <= 0 || i < len(p.runs) && p.runs[i].start < r.end() {
		return fmt.Errorf("extents %d..%d of physical volume %d are not all allocated", r.start, r.end()-1, pv)
	}
	lo, hi := i, i
	freed := r.count
	if i > 0 && p.runs[i-1].end() == r.start {
		lo = i - 1
		r = run{p.runs[lo].start, r.end() - p.runs[lo].start}
	}
	if i < len(p.runs) && p.runs[i].start == r.end() {
		hi = i + 1
		r.count += p.runs[i].count
	}
	p.runs = slices.Replace(p.runs, lo, hi, r)
	p.free += freed
	return nil
}

// freeAt is the length of the free run that begins exactly at pe, and at least 0.
func (f *freeMap) freeAt(pv int, pe int64) int64 {
	p := &f.pvs[pv]
	i := p.at(pe)
	if i == len(p.runs) || p.runs[i].start > pe {
		return 0
	}
	return p.runs[i].end() - pe
}

// invert makes the free map of a physical volume from the runs in use. Runs of foreign volumes may overlap each
// other; strict tells for each pair whether that is an error.
func invert(used []usedRun, usable int64) (pvFree, error) {
	slices.SortFunc(used, func(a, b usedRun) int { return int(a.start - b.start) })
	var p pvFree
	next := int64(0)
	var last usedRun
	for i, u := range used {
		if i > 0 && u.start < next && !u.loose && !last.loose {
			return p, fmt.Errorf("volumes %q and %q share extent %d", last.owner, u.owner, u.start)
		}
		if u.start > next && next < usable {
			p.add(run{next, min(u.start, usable) - next})
		}
		if u.end() > next {
			next, last = u.end(), u
		}
	}
	if next < usable {
		p.add(run{next, usable - next})
	}
	return p, nil
}

func (p *pvFree) add(r run) {
	p.runs = append(p.runs, r)
	p.free += r.count
}

// usedRun is a run that a volume uses. loose ones come from segment types whose exact use is not known.
type usedRun struct {
	run
	owner string
	loose bool
}
