package keeper

import (
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// simHold is a lease as an agent was told of it.
type simHold struct {
	guard  blockdev.Guard
	epoch  uint64
	shared bool
}

// simResource is what the checker knows of one resource.
type simResource struct {
	highest  uint64 // version of the last acquire that was told while it was good
	landed   uint64 // version of the data on the disk
	owner    *simLife
	epoch    uint64 // of owner
	released uint64 // versions up to this were given up on the disk
}

// simLife is a generation of a host id.
type simLife struct {
	m          *simMachine
	generation uint64
}

// simHostRecord is what the checker knows of one host id.
type simHostRecord struct {
	rec    leases.Leader
	writer *simMachine
	bound  time.Time // nothing of the writer lands after this: 8N + W after the start of its last renewal, by its own clock
}

// simEvent is a line of the trace.
type simEvent struct {
	at   time.Duration
	who  int
	what string
	x, y uint64
}

func (e simEvent) String() string {
	return fmt.Sprintf("%13v machine %d %s %d %d", e.at, e.who, e.what, e.x, e.y)
}

// simChecker holds the invariants of a run.
type simChecker struct {
	mu        sync.Mutex // guards all below
	t0        time.Time
	machines  []*simMachine
	resources [simResources]simResource
	hosts     [simMaxHosts + 1]simHostRecord
	joined    map[[2]uint64]*simSession // host id and generation: who was told that it has them
	freed     map[[2]uint64]bool        // proven dead
	trace     []simEvent
	said      simHistory
	broken    []string
	until     int // length of the trace at the first violation
	ended     bool
	acquired  int
	taken     int // from an owner that did not release
	writes    int
	resets    int
}

// violationf notes a broken invariant; the caller holds mu.
func (c *simChecker) violationf(format string, args ...any) {
	if len(c.broken) == 0 {
		c.until = len(c.trace)
	}
	c.broken = append(c.broken, fmt.Sprintf("%v: ", time.Since(c.t0))+fmt.Sprintf(format, args...))
}

// note adds to the trace; the caller holds mu.
func (c *simChecker) note(m *simMachine, what string, x, y uint64) {
	if c.ended {
		return // all end at the same instant, in any order
	}
	c.trace = append(c.trace, simEvent{time.Since(c.t0), m.index, what, x, y})
}

func (c *simChecker) event(m *simMachine, what string, x, y uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(m, what, x, y)
}

// landed is called with every sector that reaches the disk.
func (s *sim) landed(m *simMachine, b []byte, off int64, begun time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case off < mib:
		s.recordLanded(m, b, off, begun)
	case off < simData:
		s.leaseLanded(m, b, off)
	default:
		s.dataLanded(m, b, off)
	}
	s.lun.write(b, off)
}

// recordLanded: generations only grow, and a host id changes hands only when its former user can write no more.
func (s *sim) recordLanded(m *simMachine, b []byte, off int64, begun time.Duration) {
	id := int(off/simSector) + 1
	h := &s.hosts[id]
	var l leases.Leader
	_ = l.Decode(b)
	s.note(m, "record", l.OwnerGeneration, l.Timestamp)
	if l.OwnerGeneration < h.rec.OwnerGeneration {
		s.violationf("machine %d: generation of host %d falls from %d to %d", m.index, id, h.rec.OwnerGeneration, l.OwnerGeneration)
	}
	freed := s.freed[[2]uint64{uint64(id), h.rec.OwnerGeneration}]
	if h.writer != nil && h.rec.Timestamp != 0 && !freed && l.Resource != h.rec.Resource && l.OwnerGeneration > h.rec.OwnerGeneration && time.Now().Before(h.bound) {
		s.violationf("machine %d took host id %d %v before its user was surely gone", m.index, id, time.Until(h.bound))
	}
	h.rec = l
	if m.hostID == id { // not when it frees another host
		h.writer, h.bound = m, m.clock.when(begun+m.profile.HostDead())
		m.renewed = begun
		s.renewedUntil(simLifeID{id, l.OwnerGeneration}, h.bound)
	}
}

// leaseLanded follows releases.
func (s *sim) leaseLanded(m *simMachine, b []byte, off int64) {
	r := resourceOf(off)
	if r < 0 || r >= simResources {
		return
	}
	res := &s.resources[r]
	if sector := int(off%mib) / simSector; sector == 0 {
		var l leases.Leader
		_ = l.Decode(b)
		s.note(m, "leader", uint64(r)<<32|l.Lver, l.OwnerID<<1|min(1, l.Timestamp))
		if l.Timestamp == 0 {
			res.released = max(res.released, l.Lver)
		}
	} else if sector == m.hostID+1 {
		var d leases.DBlock
		_ = d.Decode(b)
		s.note(m, "block", d.Mbal, uint64(r)<<32|d.Lver<<1|uint64(d.Flags))
		if d.Released() && res.owner != nil && res.owner.m == m {
			res.released = max(res.released, d.Lver)
		}
	}
}

// dataLanded: no write of an older version lands after somebody was given a newer one.
func (s *sim) dataLanded(m *simMachine, b []byte, off int64) {
	r, epoch := dataResource(off), leaseData(b)
	res := &s.resources[r]
	s.writes++
	s.note(m, "data", uint64(r), epoch)
	s.used(m, r, epoch)
	if epoch < res.landed {
		s.violationf("data of machine %d for resource %d under version %d landed after version %d", m.index, r, epoch, res.landed)
	}
	if epoch < res.highest {
		s.violationf("data of machine %d for resource %d under version %d landed after version %d was acquired", m.index, r, epoch, res.highest)
	}
	res.landed = max(res.landed, epoch)
	s.oneHolder(r)
}

// admitted is called when a write has passed its last check: a host whose last renewal is 8N old writes no data.
func (s *sim) admitted(m *simMachine, b []byte, off int64) {
	if off < simData {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used(m, dataResource(off), leaseData(b))
	if age := m.clock.Boot() - m.renewed; age >= m.profile.Expiry() {
		s.violationf("machine %d writes %v after its last renewal began", m.index, age)
	}
	s.oneHolder(dataResource(off))
}

// oneHolder: never two that could write, and no writer beside sharers. The caller holds mu.
func (s *sim) oneHolder(r int) {
	var writers, sharers []string
	for _, m := range s.machines {
		h := m.holds[r]
		if h == nil || h.guard.Check(0) != nil {
			continue
		}
		who := fmt.Sprintf("machine %d version %d", m.index, h.epoch)
		if h.shared {
			sharers = append(sharers, who)
		} else {
			writers = append(writers, who)
		}
	}
	if len(writers) > 1 || len(writers) == 1 && len(sharers) > 0 {
		s.violationf("resource %d: writers %v, sharers %v", r, writers, sharers)
	}
}

// joinedAs: a generation of a host id is told to one machine only.
func (s *sim) joinedAs(se *simSession, generation uint64) {
	m := se.m
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(m, "joined", uint64(m.hostID), generation)
	key := [2]uint64{uint64(m.hostID), generation}
	if o := s.joined[key]; o != nil && o != se {
		s.violationf("machine %d and %d were both told that they are host %d of generation %d", o.m.index, m.index, m.hostID, generation)
	}
	s.joined[key] = se
	m.generation = generation
}

// won judges an acquire that was told to its agent.
func (s *sim) won(m *simMachine, r int, h *simHold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &s.resources[r]
	s.note(m, "acquired", uint64(r), h.epoch)
	m.holds[r] = h
	if h.guard.Check(0) != nil {
		return // told too late to be of use
	}
	s.acquired++
	if h.epoch <= res.highest {
		s.violationf("machine %d was given version %d of resource %d after version %d", m.index, h.epoch, r, res.highest)
	}
	s.takeOver(m, r)
	res.highest = max(res.highest, h.epoch)
	res.owner, res.epoch = &simLife{m, m.generation}, h.epoch
	s.oneHolder(r)
}

// takeOver: a lease that was not given up is taken only when its owner's host id was freed, taken by another or when its
// owner has been silent for 8N + W. The caller holds mu.
func (s *sim) takeOver(m *simMachine, r int) {
	res := &s.resources[r]
	o := res.owner
	if o == nil || res.released >= res.epoch || o.m == m {
		return
	}
	h := &s.hosts[o.m.hostID]
	if h.rec.Timestamp == 0 || h.rec.OwnerGeneration != o.generation || s.freed[[2]uint64{uint64(o.m.hostID), o.generation}] {
		return
	}
	s.taken++
	if time.Now().Before(h.bound) {
		s.violationf("machine %d took resource %d from machine %d %v before that was surely gone", m.index, r, o.m.index, time.Until(h.bound))
	}
}

// givesUp is called before an agent releases. It returns the version.
func (s *sim) givesUp(m *simMachine, r int) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	version := m.holds[r].epoch
	s.note(m, "releases", uint64(r), version)
	m.holds[r] = nil
	return version
}

// forget drops what the agent of m was told: it has ended.
func (s *sim) forget(m *simMachine, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(m, what, 0, 0)
	m.holds = [simResources]*simHold{}
}
