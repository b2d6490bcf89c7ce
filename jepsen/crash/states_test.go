package crash

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
)

// limits bound how many states are made of the writes at one point.
type limits struct {
	subsets int // up to so many volatile writes all their subsets; above it each single drop, each single keep, and
	random  int // so many random ones, half of them with torn writes
	cuts    int // writes of more sectors than this are torn at so many places only; 0: at each sector
}

// writes are recorded mutations, and what was there before them.
type writes struct {
	log      []faulty.Entry
	pages    [][]int64 // that each entry may change
	volatile func(n int) []int

	lead  int              // so many entries are in all further states, and
	done  *blockdev.Mem    // this is the LUN with them,
	total uint64           // the checksum of that,
	sums  map[int64]uint64 // and of its pages, as far as known
}

// newWrites are the mutations of a recorder whose device was like lun, of checksum sum, before them. touched are pages that
// were written before and not by the base.
func (b *base) newWrites(rec *faulty.Recorder, lun *blockdev.Mem, sum uint64, touched map[int64]bool) *writes {
	w := &writes{log: rec.Log(), volatile: rec.Volatile, done: lun.Clone(), total: sum, sums: map[int64]uint64{}}
	seen := map[int64]bool{}
	maps.Copy(seen, touched)
	maps.Copy(seen, b.pages)
	for _, e := range w.log {
		w.pages = append(w.pages, pagesOf(e, seen))
	}
	return w
}

// pagesOf are the pages that an entry may change, and adds them to those that are not empty. Zeroes change only such pages.
func pagesOf(e faulty.Entry, seen map[int64]bool) []int64 {
	first, end := e.Off/pageSize, (e.Off+e.Len+pageSize-1)/pageSize
	var list []int64
	switch e.Op {
	case faulty.Write:
		for p := first; p < end; p++ {
			seen[p] = true
			list = append(list, p)
		}
	case faulty.Zero, faulty.Discard:
		for p := range seen {
			if first <= p && p < end {
				list = append(list, p)
			}
		}
	}
	return list
}

// fate is what a crash leaves of a volatile write.
type fate int

const (
	whole fate = iota
	lost
	torn // a random half of its sectors
)

// state is one of those that a crash may leave: the first n writes with their fates, and of the next one some sectors.
type state struct {
	w       *writes
	n       int
	sectors int64
	what    string
	fates   map[int]fate
	rnd     uint64
}

func (s *state) String() string {
	return fmt.Sprintf("%d writes%s", s.n, s.what)
}

// at visits the states that a crash between write n-1 and the end of write n may leave.
func (w *writes) at(n int, last bool, lim limits, rnd *rand.Rand, visit func(*state)) {
	volatile := w.volatile(n)
	w.advance(n, volatile)
	visit(&state{w: w, n: n})
	if !last {
		for _, k := range lim.places(w.log[n]) {
			visit(&state{w: w, n: n, sectors: k, what: fmt.Sprintf(" and %d sectors", k)})
		}
	}
	if len(volatile) == 0 {
		return
	}
	if len(volatile) <= lim.subsets {
		for set := 1; set < 1<<len(volatile); set++ {
			visit(w.losing(n, volatile, func(i int) fate { return fate(set >> i & 1) }))
		}
	} else {
		for one := range volatile {
			visit(w.losing(n, volatile, func(i int) fate { return pick(i == one, lost, whole) }))
			visit(w.losing(n, volatile, func(i int) fate { return pick(i == one, whole, lost) }))
		}
	}
	for i := range lim.random {
		s := w.losing(n, volatile, func(int) fate { return fate(rnd.IntN(2 + i%2)) })
		if s.rnd = rnd.Uint64(); !last && i%4 == 3 {
			s.sectors = rnd.Int64N(max(1, w.log[n].Len/sector))
		}
		visit(s)
	}
}

func pick(yes bool, a, b fate) fate {
	if yes {
		return a
	}
	return b
}

// losing is the state with the given fates of the volatile writes.
func (w *writes) losing(n int, volatile []int, f func(i int) fate) *state {
	s := &state{w: w, n: n, fates: map[int]fate{}, what: ","}
	for i, seq := range volatile {
		if what := f(i); what != whole {
			s.fates[seq] = what
			s.what += fmt.Sprintf(" %s %s", w.log[seq], [...]string{lost: "lost", torn: "torn"}[what])
		}
	}
	return s
}

// places are the sectors at which an entry is torn.
func (l limits) places(e faulty.Entry) []int64 {
	total := e.Len / sector
	switch {
	case e.Op == faulty.Flush || total < 2:
		return nil
	case e.Op != faulty.Write: // zeroes: any place is as good as another
		return slices.Compact([]int64{1, total / 2, total - 1})
	}
	step := int64(1)
	if l.cuts > 0 && total > int64(l.cuts) {
		step = total / int64(l.cuts)
	}
	var out []int64
	for k := int64(1); k < total; k += step {
		out = append(out, k)
	}
	return out
}

// advance keeps what all states from n on have in common.
func (w *writes) advance(n int, volatile []int) {
	end := n
	if len(volatile) > 0 {
		end = volatile[0]
	}
	for ; w.lead < end; w.lead++ {
		for _, p := range w.pages[w.lead] {
			w.total ^= w.page(p)
			delete(w.sums, p)
		}
		apply(w.done, w.log[w.lead], w.log[w.lead].Len)
		for _, p := range w.pages[w.lead] {
			w.total ^= w.page(p)
		}
	}
}

// page is the checksum of a page of done.
func (w *writes) page(p int64) uint64 {
	sum, ok := w.sums[p]
	if !ok {
		sum = sumPage(p, w.done)
		w.sums[p] = sum
	}
	return sum
}

// sum is the same for equal contents m of a state, whichever history they come from.
func (s *state) sum(m *blockdev.Mem) uint64 {
	w, sum := s.w, s.w.total
	looked := map[int64]bool{}
	for i := w.lead; i <= s.n && i < len(w.log); i++ {
		for _, p := range w.pages[i] {
			if !looked[p] {
				looked[p] = true
				sum ^= w.page(p) ^ sumPage(p, m)
			}
		}
	}
	return sum
}

// build makes the state.
func (s *state) build() *blockdev.Mem {
	m := s.w.done.Clone()
	rnd := rand.New(rand.NewPCG(s.rnd, 1))
	for _, e := range s.w.log[s.w.lead:s.n] {
		switch s.fates[e.Seq] {
		case whole:
			apply(m, e, e.Len)
		case torn:
			tear(m, e, rnd)
		}
	}
	if s.sectors > 0 {
		apply(m, s.w.log[s.n], s.sectors*sector)
	}
	return m
}

// apply does the first n bytes of an entry.
func apply(m *blockdev.Mem, e faulty.Entry, n int64) {
	switch e.Op {
	case faulty.Write:
		m.SetBytes(e.Off, e.Data[:n])
	case faulty.Zero, faulty.Discard:
		m.SetZero(e.Off, n)
	}
}

// tear does some sectors of an entry. Zeroes are done for their first half.
func tear(m *blockdev.Mem, e faulty.Entry, rnd *rand.Rand) {
	if e.Op != faulty.Write {
		apply(m, e, e.Len/2/sector*sector)
		return
	}
	for at := int64(0); at < e.Len; at += sector {
		if rnd.IntN(2) == 0 {
			m.SetBytes(e.Off+at, e.Data[at:min(at+sector, e.Len)])
		}
	}
}

// pageSize is the unit in which states are compared.
const pageSize = 64 << 10

func sumPage(p int64, m *blockdev.Mem) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	h.WriteByte(byte(p))
	h.WriteByte(byte(p >> 8))
	h.WriteByte(byte(p >> 16))
	h.Write(m.Bytes(p*pageSize, pageSize))
	return h.Sum64()
}
