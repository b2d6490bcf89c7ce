package workload

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// name is the name of a volume, and what the clients know of it.
type name struct {
	text   string
	ops    int
	doubts int
	asks   []history.VolumeInput // creates that were sent; they may be repeated
	ids    []string              // volumes that were made and, as far as anybody was told, not deleted
	born   bool                  // of a register: its volume is there
	making bool                  // somebody makes it now
}

// names is the small set of names that clients work on. A name that has had its time makes room for a fresh one, and
// waits among the old ones until its volumes are deleted.
type names struct {
	prefix string
	limit  int
	mu     sync.Mutex // guards all below
	made   int
	slots  []*name
	old    []*name
}

func newNames(prefix string, n, limit int) *names {
	s := &names{prefix: prefix, limit: limit, slots: make([]*name, n)}
	for i := range s.slots {
		s.slots[i] = s.fresh()
	}
	return s
}

// fresh makes a name. Caller holds mu, or is alone.
func (s *names) fresh() *name {
	s.made++
	return &name{text: fmt.Sprintf("%s%d", s.prefix, s.made)}
}

// add makes a name that is not among those in use.
func (s *names) add() *name {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fresh()
}

// pick draws a name that is in use.
func (s *names) pick(rnd *rand.Rand) *name {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := rnd.IntN(len(s.slots))
	n := s.slots[i]
	if n.ops >= s.limit || n.doubts >= doubts {
		s.old = append(s.old, n)
		n = s.fresh()
		s.slots[i] = n
	}
	n.ops++
	return n
}

// pickOld takes a name out of use whose volume is still there; nil: there is none.
func (s *names) pickOld() (n *name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old = slices.DeleteFunc(s.old, func(n *name) bool { return len(n.ids) == 0 })
	if len(s.old) == 0 {
		return nil, ""
	}
	n = s.old[0]
	return n, n.ids[0]
}

// id draws a volume that a name is known to have; empty: none.
func (s *names) id(n *name, rnd *rand.Rand) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(n.ids) == 0 {
		return ""
	}
	return n.ids[rnd.IntN(len(n.ids))]
}

// ask notes a create, or draws an earlier one to repeat.
func (s *names) ask(n *name, in history.VolumeInput, again bool, rnd *rand.Rand) history.VolumeInput {
	s.mu.Lock()
	defer s.mu.Unlock()
	if again && len(n.asks) > 0 {
		return n.asks[rnd.IntN(len(n.asks))]
	}
	n.asks = append(n.asks[max(0, len(n.asks)-2):], in)
	return in
}

// learn notes what became of a create or a delete.
func (s *names) learn(n *name, op history.Op, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case op.Outcome == history.Unknown:
		n.doubts++
	case op.Kind == history.VolumeCreate && op.Outcome == history.OK && !slices.Contains(n.ids, id):
		n.ids = append(n.ids, id)
	case op.Kind == history.VolumeDelete && (op.Outcome == history.OK || op.Code == "not_found"):
		n.ids = slices.DeleteFunc(n.ids, func(i string) bool { return i == id || id == "" })
	}
}

// make tells whether the caller is to make a register's volume, and whether it is there.
func (s *names) make(n *name) (mine, born bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine = !n.born && !n.making
	n.making = n.making || mine
	return mine, n.born
}

// birth notes whether a register's volume was made. One that may be there is left alone.
func (s *names) birth(n *name, o history.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.making, n.born = false, o == history.OK
	if o == history.Unknown {
		n.ops = s.limit
	}
}
