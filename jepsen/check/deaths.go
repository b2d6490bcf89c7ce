package check

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Deaths judges that nobody was taken for dead who was not.
//
//   - Each proof that ended an operation is true: with a power-off, the host really was off between the operation's beginning and its
//     end; with a dead lease, the LUN shows no renewal for as long as that takes.
//   - Nothing of a host is taken over without a proof that came before: its record is freed by another host only after the proof of
//     that very generation, and a lease passes from one host to another only when it was given up, or its holder's record was
//     freed, or dead.
//   - The pool says that a host is down only after a proof, or when its lease is dead or free.
//
// A person's word is a proof that nothing here can test.
func Deaths(r Record) history.Verdict {
	const name = "deaths"
	s, err := loadPower(r)
	if err == nil && len(s.events) == 0 {
		err = errNoEvents
	}
	if err != nil {
		return failed(name, err)
	}
	l, err := LoadLayout(r.Folder)
	if err != nil {
		return failed(name, err)
	}
	c := deathCheck{story: s, ids: map[uint64]idLife{}, leases: map[leasePlace]*leaseLife{}}
	c.proofs()
	for _, e := range landed(r.Entries) {
		for _, p := range l.cut(e.Off, e.Len) {
			c.piece(e, p)
		}
	}
	if len(c.ids) == 0 {
		return failed(name, errors.New("the record has no host's record: either nothing was done or this is not the LUN's layout"))
	}
	c.downs()
	return c.found.verdict(name, "%d proofs, %d records freed by others, %d leases of others taken, %d times a host was called down", len(c.deaths), c.freed, c.taken, c.down)
}

// death is one proof.
type death struct {
	host string
	gen  uint64
	word bool // a person's: about every life up to that generation
	at   time.Duration
}

// idLife is the holder of a host id.
type idLife struct {
	host string
	gen  uint64
	free bool
}

// leaseLife is a lease's newest leader record, and which version each host id last gave up, by a mark in its own block. The mark may come
// before the leader record: a host that does not know whether its ballot counted gives up what another host's ballot then finds it has won.
type leaseLife struct {
	leader  leader
	givenUp map[uint64]uint64
}

// deathCheck goes through operations, writes and events once each.
type deathCheck struct {
	story  *powerStory
	deaths []death
	ids    map[uint64]idLife
	leases map[leasePlace]*leaseLife
	found  findings

	freed, taken, down int
}

// proofs collects the proofs, and holds each against what was true.
func (c *deathCheck) proofs() {
	for _, op := range c.story.ops {
		if !op.Proven {
			continue
		}
		at := c.story.run(op.Ended)
		c.deaths = append(c.deaths, death{host: op.Host, gen: op.Generation, at: at})
		if wrong := c.untrue(op, at); wrong != "" {
			c.found.add("operation %s proved the death of %s, generation %d, at %.3fs: %s", op.ID, op.Host, op.Generation, at.Seconds(), wrong)
		}
	}
	for _, e := range c.story.events {
		if e.Kind == "host.confirmed" {
			at := c.story.run(e.Time)
			c.deaths = append(c.deaths, death{host: e.Host, gen: c.story.newestLife(e.Host, at), word: true, at: at})
		}
	}
}

// untrue says what is wrong with a proof; empty: nothing.
func (c *deathCheck) untrue(op api.FenceOp, at time.Duration) string {
	i := slices.IndexFunc(op.Steps, func(s api.FenceStep) bool { return s.Result == stepOK && (s.Rung == rungPower || s.Rung == rungLease) })
	switch {
	case i < 0 && op.ByPerson, i < 0 && c.confirmed(op, at):
		return ""
	case i < 0:
		return "none of its steps says of what"
	case op.Steps[i].Rung == rungPower && !c.story.wasOff(op.Host, c.story.run(op.Began)-stampSlack, at+stampSlack):
		return "its power was on all the time"
	case op.Steps[i].Rung == rungLease && !c.story.leaseOver(op.Host, op.Generation, at):
		return "its lease was neither dead nor free"
	}
	return ""
}

// confirmed reports whether a person gave their word while an operation was under way.
func (c *deathCheck) confirmed(op api.FenceOp, ended time.Duration) bool {
	return slices.ContainsFunc(c.story.events, func(e api.Event) bool {
		t := c.story.run(e.Time)
		return e.Kind == "host.confirmed" && e.Host == op.Host && t >= c.story.run(op.Began)-stampSlack && t <= ended+stampSlack
	})
}

// proven reports whether there was a proof about a generation of a host by a moment.
func (c *deathCheck) proven(host string, gen uint64, by time.Duration) bool {
	return slices.ContainsFunc(c.deaths, func(d death) bool {
		return d.host == host && (d.gen == gen || d.word && gen <= d.gen) && d.at <= by+stampSlack
	})
}

func (c *deathCheck) piece(e history.Entry, p piece) {
	switch role := roleOf(p); {
	case role == hostRecord:
		c.record(e, p)
	case role == spmLease || role == lease:
		c.sector(e, p)
	case role == structural && p.area.Name != "metadata":
		for at := range c.leases { // made anew, or wiped
			if off := at.area * leaseSize; at.volume == p.area.Name && off+leaseSize > p.off && off < p.off+p.len {
				delete(c.leases, at)
			}
		}
	}
}

// record follows who has a host id.
func (c *deathCheck) record(e history.Entry, p piece) {
	l, ok := decodeLeader(bytesOf(e, p), magicHost)
	if !ok {
		return // Records tells
	}
	id := uint64(p.off/sectorSize) + 1
	was := c.ids[id]
	now := idLife{host: e.Host, gen: l.gen, free: l.time == 0}
	if now.free {
		now.host = was.host
	}
	if other := was.host != "" && was.host != e.Host && !was.free; other && e.Kind != lost {
		c.freed++
		if !c.proven(was.host, was.gen, e.Landed) && !c.removed(was.host, e.Landed) {
			c.found.add("host id %d of %s, generation %d, was taken or freed by %s, and nothing had proved its death: %s", id, was.host, was.gen, e.Host, tell(e, p))
		}
	}
	c.ids[id] = now
}

// removed reports whether a host had left the cluster by a moment.
func (c *deathCheck) removed(host string, by time.Duration) bool {
	return slices.ContainsFunc(c.story.events, func(e api.Event) bool {
		gone := e.Kind == "host.removed" || e.Kind == "host.left"
		return gone && e.Host == host && c.story.run(e.Time) <= by+stampSlack
	})
}

// sector follows who has a lease.
func (c *deathCheck) sector(e history.Entry, p piece) {
	at := leasePlace{p.area.Name, p.off / leaseSize}
	life := c.leases[at]
	if life == nil {
		life = &leaseLife{givenUp: map[uint64]uint64{}}
		c.leases[at] = life
	}
	n := p.off % leaseSize / sectorSize
	if n > 1 && n <= maxHostID+1 {
		if v, ok := releasedVersion(bytesOf(e, p)); ok {
			life.givenUp[uint64(n-1)] = max(v, life.givenUp[uint64(n-1)])
		}
		return
	}
	l, ok := decodeLeader(bytesOf(e, p), magicLease, magicCleared)
	if n != 0 || !ok {
		return
	}
	was := life.leader
	if e.Kind != lost && l.version < was.version {
		return // it landed late
	}
	passes := e.Kind != lost && was.owner != 0 && !was.free() && !l.free() && (l.owner != was.owner || l.gen != was.gen)
	if passes && life.givenUp[was.owner] < was.version && l.owner != was.owner {
		c.taken++
		c.passed(e, p, was)
	}
	life.leader = l
}

// releasedVersion is the version of a lease that a host's block gives up.
func releasedVersion(b []byte) (uint64, bool) {
	if len(b) < 56 {
		return 0, false
	}
	const released = 1
	return binary.LittleEndian.Uint64(b[40:]), binary.LittleEndian.Uint32(b[52:])&released != 0
}

// passed judges a lease that was taken from a holder who had not given it up.
func (c *deathCheck) passed(e history.Entry, p piece, was leader) {
	holder := c.ids[was.owner]
	if holder.host == "" || holder.gen != was.gen || holder.free || c.story.leaseOver(holder.host, was.gen, e.Landed) {
		return
	}
	c.found.add("a lease of %s, host id %d, generation %d, was taken by %s, and it was neither given up nor its holder dead: %s", holder.host, was.owner, was.gen, e.Host, tell(e, p))
}

// downs judges what the pool said of hosts.
func (c *deathCheck) downs() {
	up := map[string]time.Duration{}
	for _, e := range c.story.events {
		state, ok := strings.CutPrefix(e.Kind, "host.")
		t := c.story.run(e.Time)
		switch {
		case !ok:
		case state == "up":
			up[e.Host] = t
		case state == "down" || state == "fenced":
			c.down++
			if !c.mayBeDown(e.Host, up[e.Host], t) {
				c.found.add("%s was called down at %.3fs (%s), and there was no proof: %s", e.Host, t.Seconds(), e.ID, e.Message)
			}
		}
	}
}

// mayBeDown reports whether a host that was up at a moment could be called down at another.
func (c *deathCheck) mayBeDown(host string, up, t time.Duration) bool {
	return c.story.leaseOver(host, 0, t) || c.story.wasOff(host, t-stampSlack, t+stampSlack) ||
		slices.ContainsFunc(c.deaths, func(d death) bool { return d.host == host && d.at >= up-stampSlack && d.at <= t+stampSlack })
}
