package check

import (
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// term is one epoch of the SPM lease: who won it, and when the leader record that says so landed.
type term struct {
	epoch  uint64
	host   string
	gen    uint64 // of the host id, when it won
	id     uint64
	landed time.Duration
	seq    int // of the write
}

// epochs follows the records of the SPM lease and of the host ids as they land. It says whose a write is.
type epochs struct {
	ids   map[uint64]idHolder // by host id
	terms []term              // in the order of epochs
	free  bool                // the newest epoch was given back
	stale int                 // leader records that landed after that of a newer epoch
}

// idHolder is the host whose record of a host id landed last.
type idHolder struct {
	host    string
	gen     uint64
	freedBy string // another host freed it
}

func newEpochs() *epochs { return &epochs{ids: map[uint64]idHolder{}} }

// now is the newest epoch; 0 before there is any.
func (s *epochs) now() term {
	if len(s.terms) == 0 {
		return term{}
	}
	return s.terms[len(s.terms)-1]
}

// of is the epoch that a write belongs to: the newest one whose record had landed for its host when the write came. A host that
// holds the lease again may still have writes of an earlier epoch on their way, so the time of landing says nothing.
func (s *epochs) of(e history.Entry) term {
	for i := len(s.terms) - 1; i >= 0; i-- {
		if t := s.terms[i]; t.host == e.Host && t.landed <= e.Came {
			return t
		}
	}
	return term{}
}

// hostRecord takes in a landed record of a host id.
func (s *epochs) hostRecord(e history.Entry, l leader) {
	if l.time == 0 {
		return // who wrote the record of a host that leaves is not known by it
	}
	s.ids[l.owner] = idHolder{host: e.Host, gen: l.gen}
}

// leaseRecord takes in a landed leader record of the SPM lease. What it returns is wrong with it.
func (s *epochs) leaseRecord(e history.Entry, l leader) string {
	now := s.now()
	switch {
	case l.version < now.epoch:
		s.stale++
		return ""
	case l.version == now.epoch:
		if l.version > 0 && (l.owner != now.id || l.gen != now.gen) {
			return "names another owner than the first record of that epoch"
		}
		s.free = l.free()
		return ""
	}
	host := s.ids[l.owner].host
	if host == "" && l.writer == l.owner {
		host = e.Host
	}
	s.terms = append(s.terms, term{epoch: l.version, host: host, gen: l.gen, id: l.owner, landed: e.Landed, seq: e.Seq})
	s.free = l.free()
	if host == "" {
		return "names a host id that nobody holds"
	}
	return ""
}

// takeBack undoes what a power loss undid.
func (s *epochs) takeBack(l leader) {
	for len(s.terms) > 0 && s.now().epoch > l.version {
		s.terms = s.terms[:len(s.terms)-1]
	}
	s.free = l.free()
}
