package check

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
	"github.com/holdfast-io/holdfast/jepsen/pattern"
)

// DataWriters judges by the LUN's record who wrote into the extents of volumes. What a guest wrote
//
//   - lies in an extent that the volume has by the last commit that landed before it;
//   - comes from the host that holds the volume's lease, by the leader record that lies on the LUN when it lands, and came after that
//     was won;
//   - does not land when the lease is free, nor when the host's own record is dead.
//
// Nothing else is written into the extents of a volume that guests have.
func DataWriters(r Record) history.Verdict {
	const name = "data writers"
	l, err := LoadLayout(r.Folder)
	if err != nil {
		return failed(name, err)
	}
	c := dataCheck{layout: l, dead: 8*r.Run.Bounds.IOTimeout + r.Run.Bounds.Watchdog, rings: map[int64]*ring{}, known: map[textKey]*extents{}, hosts: map[hostLife]lifeOf{},
		leases: map[string]volumeLease{}, guests: map[string]bool{}}
	for _, op := range r.Ops {
		if op.Kind == history.GuestAttach {
			c.guests[op.Key] = true
		}
	}
	for _, e := range landed(r.Entries) {
		c.entry(e)
	}
	if c.writes == 0 || c.texts == 0 {
		return failed(name, errors.New("the record has no guest's write, or no text of the volume group: nothing was proved"))
	}
	return c.found.verdict(name, "%d sectors of %d writes by guests on %d volumes, %d texts of the volume group, %d that could not be read", c.sectors, c.writes, len(c.guests), c.texts, c.unread)
}

// dataCheck goes through the landed writes once.
type dataCheck struct {
	layout  Layout
	dead    time.Duration
	rings   map[int64]*ring
	known   map[textKey]*extents
	now     *extents // by the last commit; nil: it is not known
	hosts   map[hostLife]lifeOf
	leases  map[string]volumeLease // by volume
	guests  map[string]bool
	found   findings
	writes  int
	sectors int
	texts   int
	unread  int
}

// hostLife is a generation of a host id, lifeOf whose it is and when it was last renewed.
type hostLife struct{ id, gen uint64 }

type lifeOf struct {
	host    string
	renewed time.Duration
}

// volumeLease is the newest leader of a volume's lease, and when its version was won.
type volumeLease struct {
	leader
	won time.Duration
}

func (c *dataCheck) entry(e history.Entry) {
	pieces := c.layout.cut(e.Off, e.Len)
	for _, p := range pieces {
		c.piece(e, p)
	}
	if len(pieces) == 0 && c.now != nil && e.Kind != lost {
		c.data(e)
	}
}

// piece follows commits, hosts and leases.
func (c *dataCheck) piece(e history.Entry, p piece) {
	switch {
	case p.area.Name == areaMDA:
		c.mda(e, p)
	case roleOf(p) == hostRecord:
		if l, ok := decodeLeader(bytesOf(e, p), magicHost); ok && l.time != 0 && e.Kind != lost {
			c.hosts[hostLife{l.owner, l.gen}] = lifeOf{e.Host, e.Landed}
		}
	case roleOf(p) == lease && p.area.Name == "leases" && p.off%leaseSize == 0:
		l, ok := decodeLeader(bytesOf(e, p), magicLease, magicCleared)
		if was := c.leases[l.name]; ok && (e.Kind == lost || l.version >= was.version || l.magic == magicCleared) {
			won := e.Landed
			if l.version == was.version {
				won = was.won
			}
			c.leases[l.name] = volumeLease{l, won}
		}
	}
}

// mda takes in a write to a metadata area. The header's is the commit.
func (c *dataCheck) mda(e history.Entry, p piece) {
	g := c.rings[p.area.Off]
	if g == nil {
		g = &ring{size: p.area.Len, sectors: map[int64][]byte{}}
		c.rings[p.area.Off] = g
	}
	b := allBytes(e, p)
	if p.off > 0 {
		g.put(p.off, b, p.len)
		return
	}
	key, err := committed(b)
	if err != nil || key == (textKey{}) {
		return // being made; package Commits judges headers
	}
	if c.known[key] == nil {
		c.learn(e, p, g, key, int64(binary.LittleEndian.Uint64(b[40:])))
	}
	c.now = c.known[key] // unknown until the next one, where it cannot be read
}

// learn reads a text. The record keeps those in the first area only; the others have the same.
func (c *dataCheck) learn(e history.Entry, p piece, g *ring, key textKey, start int64) {
	text, ok := g.text(start, key)
	x, err := parseVG(text)
	if !ok || err != nil {
		c.unread++
		return
	}
	c.texts++
	for _, twice := range x.twice {
		c.found.add("%s: %s", tell(e, p), twice)
	}
	c.known[key] = x
}

// data judges a write that lies in no special volume.
func (c *dataCheck) data(e history.Entry) {
	guest := false
	for at := int64(0); at+pattern.Sector <= int64(len(e.Data)); at += pattern.Sector {
		said, err := pattern.Read(e.Data[at:])
		if errors.Is(err, pattern.ErrNone) {
			continue
		}
		if err != nil {
			c.found.add("%s: %v", tellData(e), err)
			continue
		}
		guest = true
		c.sectors++
		if wrong := c.sector(e, e.Off+at, said); wrong != "" {
			c.found.add("%s, write %d of volume %s: %s", tellData(e), said.Seq, said.Volume, wrong)
			break
		}
	}
	if guest {
		c.writes++
		return
	}
	for at := e.Off; at < e.Off+e.Len; at += c.now.size {
		if lv := c.now.at(at); c.guests[lv] {
			c.found.add("%s: it is no guest's, and the extent is volume %s's", tellData(e), lv)
		}
	}
}

// sector says what is wrong with a sector that a guest wrote.
func (c *dataCheck) sector(e history.Entry, off int64, said pattern.Said) string {
	if lv := c.now.at(off); lv != said.Volume {
		if lv == "" {
			return "the extent is free"
		}
		return "the extent is volume " + lv + "'s"
	}
	l, ok := c.leases[said.Volume]
	life := c.hosts[hostLife{l.owner, l.gen}]
	switch {
	case !ok || l.free():
		return "nobody holds the volume's lease"
	case life.host != e.Host:
		return fmt.Sprintf("version %d of the volume's lease is %s's since %s", l.version, life.host, at(l.won))
	case e.Came < l.won:
		return fmt.Sprintf("it came before version %d of the lease was won, at %s: it is of an earlier one", l.version, at(l.won))
	case e.Landed > life.renewed+c.dead:
		return fmt.Sprintf("the host's own record was dead: it was last renewed at %s", at(life.renewed))
	}
	return ""
}

// tellData names a write for people.
func tellData(e history.Entry) string {
	return fmt.Sprintf("%s of %d bytes by %s at byte %d (#%d, came %s, landed %s)", e.Kind, e.Len, e.Host, e.Off, e.Seq, at(e.Came), at(e.Landed))
}
