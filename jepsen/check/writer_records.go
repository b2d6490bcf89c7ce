package check

import (
	"errors"
	"slices"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Records judges the records that have owners of their own: host ids, and the leases of volumes and VMs and of the SPM.
//
//   - A generation of a host id is one host's, generations grow, and a record that another host freed, which takes a proof, is
//     not renewed any more: a renewal shows that the proof was none.
//   - A version of a lease has one owner. A host's block in a lease is written by the holder of the host id, or cleared.
func Records(r Record) history.Verdict {
	const name = "records of hosts and leases"
	l, err := LoadLayout(r.Folder)
	if err != nil {
		return failed(name, err)
	}
	c := recordCheck{ids: map[uint64]idHolder{}, leases: map[leasePlace]leader{}}
	for _, e := range landed(r.Entries) {
		for _, p := range l.cut(e.Off, e.Len) {
			c.piece(e, p)
		}
	}
	if c.hosts == 0 {
		return failed(name, errors.New("the record has no host's record: either nothing was done or this is not the LUN's layout"))
	}
	return c.found.verdict(name, "%d records of hosts, %d of leases, %d blocks of ballots; %d leaders landed late", c.hosts, c.leaders, c.blocks, c.stale)
}

type leasePlace struct {
	volume string
	area   int64
}

// recordCheck goes through the landed writes once.
type recordCheck struct {
	ids    map[uint64]idHolder
	leases map[leasePlace]leader // the newest leader of each
	found  findings

	hosts, leaders, blocks, stale int
}

func (c *recordCheck) piece(e history.Entry, p piece) {
	switch role := roleOf(p); {
	case e.Kind == lost && role != nobodys:
		c.takeBack(e, p)
	case role == hostRecord:
		c.host(e, p)
	case role == spmLease || role == lease:
		c.sector(e, p)
	case role == structural:
		c.made(p)
	}
}

// takeBack forgets what a power loss undid: the next record is the first again.
func (c *recordCheck) takeBack(e history.Entry, p piece) {
	for n := p.off / leaseSize; n*leaseSize < p.off+p.len; n++ {
		delete(c.leases, leasePlace{p.area.Name, n})
	}
	if l, ok := decodeLeader(bytesOf(e, p), magicHost); ok && p.area.Name == "ids" {
		c.ids[l.owner] = idHolder{host: e.Host, gen: l.gen}
	}
}

// made forgets what was made anew or wiped.
func (c *recordCheck) made(p piece) {
	switch p.area.Name {
	case "ids":
		for id := range c.ids {
			if at := int64(id-1) * sectorSize; at >= p.off && at < p.off+p.len {
				delete(c.ids, id)
			}
		}
	case "leases", "xleases":
		for n := (p.off + leaseSize - 1) / leaseSize; n*leaseSize < p.off+p.len; n++ {
			delete(c.leases, leasePlace{p.area.Name, n})
		}
	}
}

// host judges a record of a host id.
func (c *recordCheck) host(e history.Entry, p piece) {
	l, ok := decodeLeader(bytesOf(e, p), magicHost)
	if !ok {
		c.found.add("%s: the record of a host cannot be read", tell(e, p))
		return
	}
	c.hosts++
	id := uint64(p.off/sectorSize) + 1
	was := c.ids[id]
	if l.time == 0 {
		if was.host != "" && was.host != e.Host {
			was.freedBy = e.Host
			c.ids[id] = was
		}
		return
	}
	switch {
	case l.owner != id:
		c.found.add("%s: the record of host id %d names %d", tell(e, p), id, l.owner)
	case l.gen < was.gen:
		c.found.add("host id %d went back from generation %d of %s to %d: %s", id, was.gen, was.host, l.gen, tell(e, p))
	case l.gen == was.gen && e.Host != was.host:
		c.found.add("host id %d, generation %d, is %s's and %s's: %s", id, l.gen, was.host, e.Host, tell(e, p))
	case l.gen == was.gen && was.freedBy != "":
		c.found.add("host id %d, generation %d, was renewed after %s freed it: the proof of its death was none: %s", id, l.gen, was.freedBy, tell(e, p))
	}
	if l.gen >= was.gen {
		c.ids[id] = idHolder{host: e.Host, gen: l.gen, freedBy: freedBy(was, l)}
	}
}

// freedBy keeps the mark of a freed generation as long as it is that generation.
func freedBy(was idHolder, l leader) string {
	if l.gen == was.gen {
		return was.freedBy
	}
	return ""
}

// sector judges one sector of a lease: leader, request, or a host's block.
func (c *recordCheck) sector(e history.Entry, p piece) {
	switch n := p.off % leaseSize / sectorSize; {
	case n == 0:
		c.leader(e, p)
	case n == 1: // a request is anybody's
	case n > maxHostID+1: // the value block
	default:
		c.block(e, p, uint64(n-1))
	}
}

// maxHostID is the last host id of a lockspace with 512-byte sectors.
const maxHostID = 2000

func (c *recordCheck) leader(e history.Entry, p piece) {
	l, ok := decodeLeader(bytesOf(e, p), magicLease, magicCleared)
	if !ok {
		if e.Kind == history.Write && !allZero(bytesOf(e, p)) {
			c.found.add("%s: the leader of a lease cannot be read", tell(e, p))
		}
		return
	}
	c.leaders++
	at := leasePlace{p.area.Name, p.off / leaseSize}
	was, seen := c.leases[at]
	switch {
	case l.magic == magicCleared:
		delete(c.leases, at)
		return
	case seen && l.name == was.name && l.version < was.version && l.version > 0:
		c.stale++ // a ballot's late end; readers see by the blocks that it is old
		return
	case seen && l.name == was.name && l.version == was.version && l.version > 0 && (l.owner != was.owner || l.gen != was.gen):
		c.found.add("version %d of lease %s has two owners, host ids %d and %d: %s", l.version, l.name, was.owner, l.owner, tell(e, p))
	}
	c.leases[at] = l
}

// block judges a host's block in a lease.
func (c *recordCheck) block(e history.Entry, p piece, id uint64) {
	c.blocks++
	b := bytesOf(e, p)
	if h, ok := c.ids[id]; ok && h.host == e.Host || e.Kind == history.Zero || b != nil && allZero(b) {
		return
	}
	c.found.add("the block of host id %d (%s) was written by another: %s", id, c.ids[id].host, tell(e, p))
}

func allZero(b []byte) bool { return !slices.ContainsFunc(b, func(x byte) bool { return x != 0 }) }
